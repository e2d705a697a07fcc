"""Turn recorded steps into rows, factors and sentences."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from torch import Tensor

from lorabench.text import visible
from lorabench.training.audit.measure import Agreement, agreement, applied, as_hooked, as_used, finite
from lorabench.training.audit.optimizers import expected_update
from lorabench.training.audit.recorder import Step, TensorStep
from lorabench.training.audit.report import Factor, StepReport, TensorRow
from lorabench.training.preflight.finding import Finding, Level

CHECK = "audit"
_OPTIMIZER_ROUNDINGS = 16
"""An adaptive optimizer's arithmetic: about eight operations, some of them on rounded moments."""
_NAMED = 3
_STUCK = 0.01
_HOOKS_DIFFER = 1e-3


def short_name(parameter: str) -> str:
    """Return `model.layers.0.self_attn.q_proj.lora_A` of PEFT's long parameter name."""
    parts = parameter.removeprefix("base_model.model.").removesuffix(".weight").split(".")
    return ".".join(part for part in parts if part != "default")


def step_report(step: Step, learning_rate: float) -> StepReport:
    """Compare one step; `learning_rate` is the configured one, of which the schedule takes its share."""
    rows = tuple(_row(step, name, tensor) for name, tensor in step.tensors.items())
    rate = next((float(t.group["lr"]) for t in step.tensors.values() if t.group), 0.0)
    factors = tuple(_factors(step, rate, learning_rate))
    return StepReport(step.number, step.optimizer, rate, step.applied, factors, rows)


def _row(step: Step, name: str, tensor: TensorStep) -> TensorRow:
    change, norm = applied(tensor), float(tensor.before.double().norm())
    size = float(change.norm())
    used = as_used(tensor) if step.optimizer == "SGD" else None
    hooked, left = as_hooked(tensor), unexplained(step, tensor)
    return TensorRow(
        tensor=short_name(name),
        norm=norm,
        gradient_norm=None if tensor.used is None else float(tensor.used.double().norm()),
        relative=size / norm if norm else (math.inf if size else 0.0),
        moved=float((change != 0).double().mean()),
        scale=_known(used, "scale"),
        residual=_known(used, "residual"),
        tolerance=used.tolerance if used else math.inf,
        hook_scale=None if hooked is None else hooked.scale,
        hook_residual=None if hooked is None else hooked.residual,
        unexplained=None if left is None else left.residual,
    )


def _known(found: Agreement | None, name: str) -> float | None:
    value = math.nan if found is None else float(getattr(found, name))
    return None if math.isnan(value) else value


def unexplained(step: Step, tensor: TensorStep) -> Agreement | None:
    """Return how Δθ agrees with what was to be expected; its `residual` is ‖Δθ − expected‖/‖Δθ‖.

    The expected change starts from what backward left, and goes through loss scale, clipping, schedule,
    weight decay and the optimizer's rule. None where that rule is not known or nothing moved.
    """
    expected = _expected(step, tensor)
    if expected is None:
        return None
    found = agreement(tensor, expected, _OPTIMIZER_ROUNDINGS)
    size = float(applied(tensor).norm())
    if size == 0:
        return None  # the findings on what stands still tell of it
    return replace(found, residual=float((applied(tensor) - expected).norm()) / size)


def _expected(step: Step, tensor: TensorStep) -> Tensor | None:
    if tensor.accumulated is None or not step.applied or not tensor.group:
        return None
    gradient = tensor.accumulated.double() / step.loss_scale * step.clip
    update = expected_update(step.optimizer, tensor.before, gradient, tensor.group, tensor.state)
    return None if update is None else update.change


def _factors(step: Step, rate: float, learning_rate: float) -> Iterator[Factor]:
    """Name what stands between one micro-batch's gradient and the update, in the order it is applied."""
    count = len(step.weights)
    if count > 1:
        shares = " + ".join(f"{weight:.3g}" for weight in step.weights)
        meaning = (
            f"{count} micro-batches are summed, as {shares} of their own mean losses; this is the last's"
        )
        yield Factor("accumulation", step.weights[-1], meaning)
    if step.loss_scale != 1:
        meaning = f"the fp16 loss is multiplied by {step.loss_scale:g}, and the gradients divided by it again"
        yield Factor("loss scale", 1 / step.loss_scale, meaning)
    if step.max_grad_norm > 0:
        meaning = f"max_grad_norm {step.max_grad_norm:g}" + ("" if step.clip < 1 else ", not reached")
        yield Factor("clipping", step.clip, meaning)
    if learning_rate:
        meaning = f"the schedule's share: {rate:.4g} of {learning_rate:.4g}"
        yield Factor("learning rate", rate / learning_rate, meaning)
    yield from _optimizer_factors(step)


def _optimizer_factors(step: Step) -> Iterator[Factor]:
    """Weight decay's share of the update, and the optimizer's own scaling of the gradient."""
    moved = decayed = direction = used = 0.0
    for tensor in step.tensors.values():
        if tensor.used is None:
            continue
        update = expected_update(step.optimizer, tensor.before, tensor.used, tensor.group, tensor.state)
        if update is None:
            return
        moved += float(applied(tensor).square().sum())
        decayed += float(update.decayed.square().sum())
        direction += float(update.direction.square().sum())
        used += float(tensor.used.double().square().sum())
    if decayed and moved:
        meaning = "‖lr·weight_decay·θ‖ / ‖Δθ‖: the share of the update that is no gradient's"
        yield Factor("weight decay", math.sqrt(decayed / moved), meaning)
    if step.optimizer != "SGD" and used:
        meaning = (
            f"{step.optimizer} makes ‖g‖ = {math.sqrt(used):.3g} a direction of this many times its length"
        )
        yield Factor("preconditioning", math.sqrt(direction / used), meaning)


def probe_findings(steps: Sequence[Step]) -> Iterator[Finding]:
    """Judge the steps under plain SGD, where Δθ = −lr·g must hold."""
    wrong: dict[str, Agreement] = {}
    rounded: set[str] = set()
    checked: set[str] = set()
    worst = 0.0
    for step in steps:
        for name, tensor in step.tensors.items():
            found = as_used(tensor) if finite(tensor) else None
            if found is None or math.isnan(found.scale):
                continue
            if not found.readable:
                rounded.add(short_name(name))
            elif found.holds:
                worst = max(worst, abs(found.scale - 1))
                checked.add(short_name(name))
            else:
                wrong.setdefault(short_name(name), found)
    if wrong:
        name, found = next(iter(wrong.items()))
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


def own_findings(steps: Sequence[Step]) -> Iterator[Finding]:
    """Judge the steps under the run's own optimizer: does the product of all factors explain the update?"""
    wrong: dict[str, float] = {}
    rounded: set[str] = set()
    explained: set[str] = set()
    unknown = False
    for step in (step for step in steps if step.applied):
        for name, tensor in step.tensors.items():
            left = unexplained(step, tensor) if finite(tensor) else None
            if left is None:
                unknown |= finite(tensor) and tensor.used is not None and bool(applied(tensor).any())
            elif not left.readable:
                rounded.add(short_name(name))
            elif left.residual > left.tolerance:
                wrong.setdefault(short_name(name), left.residual)
            else:
                explained.add(short_name(name))
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


def finite_findings(steps: Sequence[Step]) -> Iterator[Finding]:
    """Name the tensors that hold, or are given, numbers that are none."""
    for step in steps:
        names = [short_name(name) for name, t in step.tensors.items() if step.applied and not finite(t)]
        if names:
            message = f"Step {step.number} left NaN or infinite numbers in {_tensors(names)}."
            yield Finding(CHECK, "error", message, "\n".join(names))
            return


def hook_findings(steps: Sequence[Step]) -> Iterator[Finding]:
    """Say where a parameter hook that keeps the last gradient would have told something else."""
    scales: list[float] = []
    for step in steps:
        for tensor in step.tensors.values():
            hooked = as_hooked(tensor)
            if hooked is not None and max(abs(hooked.scale - 1), hooked.residual) > _HOOKS_DIFFER:
                scales.append(hooked.scale)
    if scales:
        low, high = min(scales), max(scales)
        span = f"{low:.3g}" if high - low < 0.01 * abs(high) else f"{low:.3g} to {high:.3g}"
        message = (
            f"Hooks would mislead here: the optimizer uses {span} times the gradient that they keep last."
        )
        detail = "A hook runs inside the backward pass: before accumulation, unscaling and clipping are done."
        yield Finding(CHECK, "advice", message, detail)


def stillness_findings(steps: Sequence[Step]) -> Iterator[Finding]:
    """Name the tensors that get no gradient or no update, and explain those that need not worry."""
    kinds: dict[tuple[Level, str, str], list[str]] = {}
    for step in (step for step in steps if step.applied):
        for name, tensor in step.tensors.items():
            why = _still(step, name, tensor)
            if why is not None:
                names = kinds.setdefault(why, [])
                if short_name(name) not in names:
                    names.append(short_name(name))
    for (level, what, detail), names in kinds.items():
        listed = [] if level == "ok" else names
        yield Finding(CHECK, level, f"{_tensors(names)} {what}", "\n".join(filter(None, [detail, *listed])))


def _still(step: Step, name: str, tensor: TensorStep) -> tuple[Level, str, str] | None:
    if not tensor.group:
        return "error", "is not in the optimizer: it will never move.", ""
    if tensor.used is None:
        return "error", "got no gradient: nothing that it computes reaches the loss.", ""
    moved = float((applied(tensor) != 0).double().mean())
    if not tensor.used.any():
        other = _zero_partner(step, name)
        if other:
            own = "B" if other == "A" else "A"
            detail = f"{own}'s gradient is a product with {other}, which starts at 0: then {own} moves too."
            return "ok", f"got a gradient of 0 in the first step, because {other} is 0 there.", detail
        return "warning", "got a gradient of 0.", ""
    if moved == 0 and float(tensor.group["lr"]) == 0:
        return "ok", f"did not move in step {step.number}: the schedule's learning rate is 0 there.", ""
    if moved == 0:
        return "error", "did not move, though it has a gradient and a learning rate.", _rounding(tensor)
    if moved < _STUCK:
        return "warning", f"moved in {moved:.2%} of its numbers only.", _rounding(tensor)
    return None


def _zero_partner(step: Step, name: str) -> str:
    """Return the letter of the other factor where that is 0 (B at first; A of an embedding), or nothing."""
    for own, other in (("A", "B"), ("B", "A")):
        for mark in (".lora_", ".lora_embedding_"):
            partner = step.tensors.get(name.replace(f"{mark}{own}.", f"{mark}{other}."))
            if f"{mark}{own}." in name and partner is not None and not partner.before.any():
                return other
    return ""


def _rounding(tensor: TensorStep) -> str:
    return f"Steps smaller than the rounding of {str(tensor.before.dtype).removeprefix('torch.')} are lost."


def _tensors(names: Collection[str]) -> str:
    """Name a few tensors; of many say how many they are, and of what kind."""
    if len(names) <= _NAMED:
        return ", ".join(map(visible, names))
    kinds = sorted({name.rpartition(".")[2] for name in names})
    return f"{len(names)} tensors ({visible(', '.join(kinds))}; {visible(next(iter(names)))} first)"
