"""`lorabench audit`: is the change applied to the weights the one that was asked for?"""

from __future__ import annotations

import contextlib
import math
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from lorabench.cli.check import finding_text, readable_config
from lorabench.cli.output import Field, Page, emit
from lorabench.spectra.report import dump_json

if TYPE_CHECKING:
    from lorabench.training.audit.report import AuditReport, StepReport, TensorRow

_EXTREME = 10


def audit(path: Path, *, steps: int, every_tensor: bool, json: bool) -> int:
    """Audit a run's configuration, print the report, and return 1 where a finding is an error.

    Raises:
        LorabenchError: the run cannot be built; says why.
    """
    config = readable_config(path)
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the libraries will rename is not about this run
        from lorabench.training.audit.probe import audit as run_audit

        report = run_audit(config, steps)
    if json:
        emit(dump_json(asdict(report)), None)
    else:
        emit(_text(report, every_tensor), None)
    return 1 if any(finding.level == "error" for finding in report.findings) else 0


def _text(report: AuditReport, every_tensor: bool) -> str:
    from lorabench.training.audit.report import NOTE

    page = Page.to(None)
    for title, steps in (("plain SGD, lr 1", report.probe), ("as configured", report.own)):
        page.line()
        page.line(f"Steps: {title}", "bold")
        page.table(_steps(steps))
    page.line()
    page.line(f"Factors of step {report.own[-1].number} as configured", "bold")
    page.pairs((f.name, f"{f.value:<10.4g} {f.meaning}") for f in report.own[-1].factors)
    page.line()
    _tensors(page, report, every_tensor)
    page.line(NOTE, "dim")
    moved = math.sqrt(sum(change.norm**2 for change in report.changes))
    by_a = math.sqrt(sum(change.by_a**2 for change in report.changes))
    by_b = math.sqrt(sum(change.by_b**2 for change in report.changes))
    page.line()
    page.line(
        f"ΔW moved by {moved:.4g} in {len(report.own)} steps (Frobenius, {len(report.changes)} modules): "
        f"{by_a:.4g} through A, {by_b:.4g} through B."
    )
    return "".join(finding_text(finding) for finding in report.findings) + page.text()


def _steps(steps: Sequence[StepReport]) -> list[Field]:
    return [
        Field("step", [str(step.number) for step in steps], right=True, keep=9),
        Field("optimizer", [step.optimizer for step in steps], keep=4),
        Field("lr", [f"{step.learning_rate:.4g}" for step in steps], right=True, keep=8),
        Field("c", [_span([row.scale for row in step.tensors]) for step in steps], keep=7),
        Field("c of hooks", [_span([row.hook_scale for row in step.tensors]) for step in steps], keep=6),
        Field("unexplained", [_unexplained(step.tensors) for step in steps], keep=5),
        Field("", ["" if step.applied else "skipped: gradients overflowed" for step in steps], keep=3),
    ]


def _span(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "—"
    low, high = f"{min(known):.6g}", f"{max(known):.6g}"
    return low if low == high else f"{low} … {high}"


def _unexplained(rows: Iterable[TensorRow]) -> str:
    from lorabench.training.audit.report import unexplained_text

    return unexplained_text((row.unexplained, row.unexplained_tolerance) for row in rows)


def _number(value: float | None, form: str) -> str:
    return "—" if value is None else format(value, form)


def _tensors(page: Page, report: AuditReport, every_tensor: bool) -> None:
    """Show c under SGD beside the relative update under the run's own optimizer, the largest first."""
    probed = {row.tensor: row for row in report.probe[-1].tensors}
    rows: list[TensorRow] = sorted(report.own[-1].tensors, key=lambda row: -row.relative)
    shown = rows if every_tensor else rows[:_EXTREME]
    what = "every tensor" if len(shown) == len(rows) else f"the {len(shown)} that move most of {len(rows)}"
    page.line(f"Tensors: {what} (last step of each)", "bold")
    page.table(
        [
            Field("tensor", [row.tensor for row in shown], elastic=True),
            Field("c", [_number(probed[row.tensor].scale, ".6f") for row in shown], right=True, keep=8),
            Field("residual", [_number(probed[r.tensor].residual, ".1e") for r in shown], right=True, keep=5),
            Field("c of hook", [_number(row.hook_scale, ".4g") for row in shown], right=True, keep=6),
            Field("‖Δθ‖/‖θ‖", [f"{row.relative:.3g}" for row in shown], right=True, keep=7),
            Field("moved", [f"{row.moved:.0%}" for row in shown], right=True, keep=4),
            Field("unexplained", [_unexplained([row]) for row in shown], right=True, keep=3),
        ]
    )
