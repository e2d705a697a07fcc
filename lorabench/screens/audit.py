"""The update audit of a configuration: `lorabench audit` in a process of its own, and what it found."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rich.console import Group
from rich.table import Table
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static

from lorabench.screens.preflight_client import child_environment, ended, killed
from lorabench.text import visible
from lorabench.training.audit.report import NOTE, unexplained_text
from lorabench.training.preflight.finding import Finding
from lorabench.widgets.finding_list import FindingList

CHECK = "audit"
WAITING = "Building the run and taking a few steps, under plain SGD and as configured; nothing is saved …"
EXTREME = 12


class AuditDialog(ModalScreen[None]):
    """Runs the audit of a configuration, saved or not, while it is open; closing it ends the audit."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,a", "dismiss", "close", id="audit.close"),
        Binding("y", "copy", "copy", id="audit.copy"),
    ]

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.report: dict[str, Any] | None = None
        self.child: asyncio.subprocess.Process | None = None

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog audit") as dialog:
            dialog.border_title = "update audit"
            dialog.border_subtitle = "esc closes · tab to the numbers · y copies"
            yield FindingList("audit-findings")
            yield Static(id="audit-explanation")
            with VerticalScroll(id="audit-scroll"):
                yield Static(WAITING, id="audit-numbers")

    def on_mount(self) -> None:
        findings = self.query_one(FindingList)
        findings.begin([CHECK])
        findings.start(CHECK)
        findings.focus()
        self.audit = self.run_worker(self.run_audit(), group="audit", name="audit", exit_on_error=False)

    async def on_unmount(self) -> None:
        await ended(self.audit)

    async def run_audit(self) -> None:
        """Start the child, wait for it, and show its report or why there is none."""
        with tempfile.NamedTemporaryFile(suffix=".yaml") as file, tempfile.TemporaryFile() as log:
            file.write(self.text.encode())
            file.flush()
            command = [sys.executable, "-P", "-m", "lorabench", "audit", file.name, "--json"]
            child = self.child = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=child_environment(),
            )
            try:
                output, _ = await child.communicate()
            finally:
                await killed(child)
            log.seek(0)
            told = log.read().decode(errors="replace").split("\n")
        if child.returncode in (0, 1) and output:
            self.show(json.loads(output))
        else:
            self.complain([line for line in told if line.strip()])

    def show(self, report: dict[str, Any]) -> None:
        """Show the findings, and the numbers below them."""
        self.report = report
        findings = self.query_one(FindingList)
        for finding in report["findings"]:
            findings.add(Finding(**{name: value for name, value in finding.items() if name != "mend"}))
        findings.end()
        parts = [
            *_titled("Steps under plain SGD, lr 1", _steps(report["probe"])),
            *_titled("Steps as configured", _steps(report["own"])),
            *_titled("Between gradient and update, in the last of them", _factors(report["own"][-1])),
            *_titled("The tensors that it moved most", _tensors(report, self.size.width)),
            Text(NOTE, style="dim"),
        ]
        self.query_one("#audit-numbers", Static).update(Group(*parts))

    def complain(self, told: Sequence[str]) -> None:
        """Say why there is no report: the child's last words."""
        message, *more = told[-3:] or ["The audit ended without a word."]
        self.query_one(FindingList).add(Finding(CHECK, "error", message, "\n".join(more)))
        self.query_one(FindingList).end()
        self.query_one("#audit-numbers", Static).update("")

    @on(OptionList.OptionHighlighted)
    def explain(self) -> None:
        """Say what the finding under the cursor has to say besides its line."""
        finding = self.query_one(FindingList).current
        detail = finding.detail if finding is not None else ""
        lines = "\n".join(visible(line) for line in detail.splitlines())
        self.query_one("#audit-explanation", Static).update(Text(lines))

    def action_copy(self) -> None:
        """Put the findings on the clipboard."""
        shown = [finding for finding in self.query_one(FindingList).shown if finding is not None]
        self.app.copy_to_clipboard("\n".join(f"{finding.level}: {finding.message}" for finding in shown))
        self.notify("copied", markup=False)


def _titled(title: str, table: Table) -> list[Text | Table]:
    return [Text(title, style="bold"), table, Text()]


def _table(*titles: str) -> Table:
    """A table whose first column is left-justified and all others right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for at, title in enumerate(titles):
        table.add_column(title, justify="right" if at else "left", no_wrap=True)
    return table


def _steps(steps: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("step", "lr", "c", "c of hooks", "unexplained")
    for step in steps:
        rows = step["tensors"]
        table.add_row(
            str(step["number"]) if step["applied"] else f"{step['number']} (skipped)",
            _number(step["learning_rate"]),
            _span([row["scale"] for row in rows]),
            _span([row["hook_scale"] for row in rows]),
            _unexplained(rows),
        )
    return table


def _factors(step: Mapping[str, Any]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for factor in step["factors"]:
        table.add_row(factor["name"], _number(factor["value"]), visible(factor["meaning"]))
    return table


def _tensors(report: Mapping[str, Any], width: int) -> Table:
    probed = {row["tensor"]: row for row in report["probe"][-1]["tensors"]}
    rows = sorted(report["own"][-1]["tensors"], key=lambda row: -_size(row["relative"]))
    table = _table("tensor", "c", "‖Δθ‖/‖θ‖", "moved", "unexplained")
    for row in rows[:EXTREME]:
        name = visible(row["tensor"]).removeprefix("model.")
        table.add_row(
            name if width >= 100 else name.removeprefix("layers."),
            _number(probed[row["tensor"]]["scale"], ".6f"),
            _number(row["relative"], ".3g"),
            f"{row['moved']:.0%}",
            _unexplained([row]),
        )
    return table


def _unexplained(rows: Sequence[Mapping[str, Any]]) -> str:
    return unexplained_text((row["unexplained"], row["unexplained_tolerance"]) for row in rows)


def _size(value: float | None) -> float:
    return float("inf") if value is None else float(value)


def _number(value: float | None, form: str = ".4g") -> str:
    return "—" if value is None else format(float(value), form)


def _span(values: Sequence[float | None]) -> str:
    known = [float(value) for value in values if value is not None]
    if not known:
        return "—"
    low, high = f"{min(known):.6g}", f"{max(known):.6g}"
    return low if low == high else f"{low} … {high}"
