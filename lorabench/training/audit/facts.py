"""Reduce a recorded step to numbers: a row for each tensor, and the factors of the whole step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from lorabench.training.audit.measure import Agreement, agreement, applied, as_hooked, as_used, finite
from lorabench.training.audit.optimizers import expected_update, rounded_betas
from lorabench.training.audit.recorder import Step, TensorStep
from lorabench.training.audit.report import Factor, StepReport, Stillness, TensorRow

_OPTIMIZER_ROUNDINGS = 16
"""An adaptive optimizer's arithmetic: about eight operations, some of them on rounded moments."""
_STUCK = 0.01


def short_name(parameter: str) -> str:
    """Return `model.layers.0.self_attn.q_proj.lora_A` of PEFT's long parameter name."""
    parts = parameter.removeprefix("base_model.model.").removesuffix(".weight").split(".")
    return ".".join(part for part in parts if part != "default")


def step_report(step: Step, learning_rate: float) -> StepReport:
    """Reduce one step to numbers, in float64; its tensors may be let go then.

    `learning_rate` is the configured one, of which the schedule takes its share.
    """
    rows = tuple(_row(step, name, tensor) for name, tensor in step.tensors.items())
    rate = next((float(t.group["lr"]) for t in step.tensors.values() if t.group), 0.0)
    factors = tuple(_factors(step, rate, learning_rate))
    return StepReport(step.number, step.optimizer, rate, step.applied, factors, rows)


def _row(step: Step, name: str, tensor: TensorStep) -> TensorRow:
    change, norm = applied(tensor), float(tensor.before.double().norm())
    size = float(change.norm())
    used = as_used(tensor) if step.optimizer == "SGD" else None
    whole = finite(tensor)
    hooked, left = as_hooked(tensor), _unexplained(step, tensor) if whole else None
    return TensorRow(
        tensor=short_name(name),
        finite=whole,
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
        unexplained_tolerance=math.inf if left is None else left.tolerance,
        still=_still(step, name, tensor) if step.applied else None,
    )


def _known(found: Agreement | None, name: str) -> float | None:
    value = math.nan if found is None else float(getattr(found, name))
    return None if math.isnan(value) else value


def _unexplained(step: Step, tensor: TensorStep) -> Agreement | None:
    """Return how Δθ agrees with what was to be expected; its `residual` is ‖Δθ − expected‖/‖Δθ‖.

    The expected change starts from what backward left, and goes through loss scale, clipping, schedule,
    weight decay and the optimizer's rule. None where that rule is not known or nothing moved.
    """
    expected = _expected(step, tensor)
    if expected is None:
        return None
    betas = rounded_betas(tensor.group, tensor.state) if tensor.cuda else 0.0
    found = agreement(tensor, expected, _OPTIMIZER_ROUNDINGS, more=betas)
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
            f"{step.optimizer} divides each number of the gradient by its usual size: the gradient, of "
            f"length {math.sqrt(used):.3g}, gets this many times as long"
        )
        yield Factor("preconditioning", math.sqrt(direction / used), meaning)


def _still(step: Step, name: str, tensor: TensorStep) -> Stillness | None:
    if not tensor.group:
        return Stillness("error", "is not in the optimizer: it will never move.")
    if tensor.used is None:
        return Stillness("error", "got no gradient: nothing that it computes reaches the loss.")
    moved = float((applied(tensor) != 0).double().mean())
    if not tensor.used.any():
        other = _zero_partner(step, name)
        if other:
            own = "B" if other == "A" else "A"
            detail = f"{own}'s gradient is a product with {other}, which starts at 0: then {own} moves too."
            what = f"got a gradient of 0 in the first step, because {other} is 0 there."
            return Stillness("ok", what, detail)
        return Stillness("warning", "got a gradient of 0.")
    if moved == 0 and float(tensor.group["lr"]) == 0:
        return Stillness(
            "ok", f"did not move in step {step.number}: the schedule's learning rate is 0 there."
        )
    if moved == 0:
        what = "did not move, though it has a gradient and a learning rate."
        return Stillness("error", what, _rounding(tensor))
    if moved < _STUCK:
        return Stillness("warning", f"moved in {moved:.2%} of its numbers only.", _rounding(tensor))
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
