"""Turn the numbers of an audit's steps into sentences."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from lorabench.text import visible
from lorabench.training.audit.measure import READABLE, Agreement
from lorabench.training.audit.report import StepReport, Stillness
from lorabench.training.preflight.finding import Finding

CHECK = "audit"
_NAMED = 3
_HOOKS_DIFFER = 1e-3


def probe_findings(steps: Sequence[StepReport]) -> Iterator[Finding]:
    """Judge the steps under plain SGD, where Δθ = −lr·g must hold."""
    wrong: dict[str, Agreement] = {}
    rounded: set[str] = set()
    checked: set[str] = set()
    worst = 0.0
    for row in (row for step in steps for row in step.tensors):
        if not row.finite or row.scale is None or row.residual is None:
            continue
        found = Agreement(row.scale, row.residual, row.tolerance)
        if not found.readable:
            rounded.add(row.tensor)
        elif found.holds:
            worst = max(worst, abs(found.scale - 1))
            checked.add(row.tensor)
        else:
            wrong.setdefault(row.tensor, found)
    if wrong:
        found = next(iter(wrong.values()))
        message = (
            f"{_tensors(wrong)} moved by {found.scale:.6g} times −lr·gradient, not by 1 "
            f"(residual {found.residual:.2g})."
        )
        detail = "\n".join(f"{n}: c = {f.scale:.6g}, residual {f.residual:.2g}" for n, f in wrong.items())
        yield Finding(CHECK, "error", message, detail)
    elif checked:
        yield Finding(
            CHECK,
            "ok",
            f"Under SGD with lr 1 all {len(checked)} tensors that moved did so by −lr·gradient: "
            f"c = 1 to within {worst:.1g}.",
        )
    yield from _unreadable(rounded - set(wrong) - checked, "c cannot be read")


def own_findings(steps: Sequence[StepReport]) -> Iterator[Finding]:
    """Judge the steps under the run's own optimizer: does the product of all factors explain the update?"""
    wrong: dict[str, float] = {}
    rounded: set[str] = set()
    explained: set[str] = set()
    unknown = False
    for row in (row for step in steps if step.applied for row in step.tensors):
        if row.unexplained is None:
            unknown |= row.finite and row.gradient_norm is not None and row.moved > 0
        elif row.unexplained_tolerance >= READABLE:
            rounded.add(row.tensor)
        elif row.unexplained > row.unexplained_tolerance:
            wrong.setdefault(row.tensor, row.unexplained)
        else:
            explained.add(row.tensor)
    optimizer = steps[0].optimizer if steps else ""
    if wrong:
        worst = max(wrong.values())
        message = f"The factors do not explain how {_tensors(wrong)} moved: {worst:.2g} of it is left."
        detail = "\n".join(f"{name}: {left:.2g} of the update is unexplained" for name, left in wrong.items())
        yield Finding(CHECK, "error", message, detail)
    elif unknown:
        message = f"The rule of {visible(optimizer)} is not known here: its updates stand as measured."
        yield Finding(CHECK, "warning", message)
    elif explained:
        message = (
            f"Under {visible(optimizer)} the factors below explain every update of {len(explained)} tensors."
        )
        yield Finding(CHECK, "ok", message)
    yield from _unreadable(rounded - set(wrong) - explained, "whether the factors explain it cannot be read")
    skipped = [step.number for step in steps if not step.applied]
    if skipped:
        message = f"Step {', '.join(map(str, skipped))}: gradients overflowed in fp16; the step was skipped."
        yield Finding(
            CHECK, "warning", message, "The GradScaler halves its scale and goes on; this is usual."
        )


def _unreadable(names: Collection[str], what: str) -> Iterator[Finding]:
    if names:
        message = f"In {_tensors(names)} rounding may be half of the update: {what}."
        yield Finding(CHECK, "warning", message, "The steps are too small for the tensors' dtype.")


def finite_findings(steps: Sequence[StepReport]) -> Iterator[Finding]:
    """Name the tensors that hold, or are given, numbers that are none."""
    for step in steps:
        names = [row.tensor for row in step.tensors if step.applied and not row.finite]
        if names:
            message = f"Step {step.number} left NaN or infinite numbers in {_tensors(names)}."
            yield Finding(CHECK, "error", message, "\n".join(names))
            return


def hook_findings(steps: Sequence[StepReport]) -> Iterator[Finding]:
    """Say where a parameter hook that keeps the last gradient would have told something else."""
    scales: list[float] = []
    for step in steps:
        for row in step.tensors:
            if row.hook_scale is None or row.hook_residual is None:
                continue
            if max(abs(row.hook_scale - 1), row.hook_residual) > _HOOKS_DIFFER:
                scales.append(row.hook_scale)
    if scales:
        low, high = min(scales), max(scales)
        span = f"{low:.3g}" if high - low < 0.01 * abs(high) else f"{low:.3g} to {high:.3g}"
        message = (
            f"Hooks would mislead here: the optimizer uses {span} times the gradient that they keep last."
        )
        detail = "A hook runs inside the backward pass: before accumulation, unscaling and clipping are done."
        yield Finding(CHECK, "advice", message, detail)


def stillness_findings(steps: Sequence[StepReport]) -> Iterator[Finding]:
    """Name the tensors that get no gradient or no update, and explain those that need not worry."""
    kinds: dict[Stillness, list[str]] = {}
    for row in (row for step in steps for row in step.tensors):
        if row.still is not None:
            names = kinds.setdefault(row.still, [])
            if row.tensor not in names:
                names.append(row.tensor)
    for still, names in kinds.items():
        listed = [still.detail, *([] if still.level == "ok" else names)]
        yield Finding(CHECK, still.level, f"{_tensors(names)} {still.what}", "\n".join(filter(None, listed)))


def _tensors(names: Collection[str]) -> str:
    """Name a few tensors; of many say how many they are, and of what kind."""
    if len(names) <= _NAMED:
        return ", ".join(map(visible, names))
    kinds = sorted({name.rpartition(".")[2] for name in names})
    return f"{len(names)} tensors ({visible(', '.join(kinds))}; {visible(next(iter(names)))} first)"
