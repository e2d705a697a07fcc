"""Compare an applied change with the one that was asked for, tensor by tensor, in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lorabench.training.audit.recorder import TensorStep

_ROUNDINGS = 7
"""Roundings between a gradient and the new value that may add up in one direction."""
READABLE = 0.5
"""A tolerance below it leaves enough of an update to be compared."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How an applied change Δθ agrees with a wanted one d.

    `scale` is c = ⟨Δθ, d⟩ / ‖d‖², 1 where both agree; `residual` is ‖Δθ − c·d‖ / ‖Δθ‖, 0 where they have one
    direction. Both are NaN where one of the two is zero. `tolerance` is what the tensor's dtype explains.
    """

    scale: float
    residual: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether scale 1 and residual 0 are met to within the tolerance."""
        return abs(self.scale - 1) <= self.tolerance and self.residual <= self.tolerance

    @property
    def readable(self) -> bool:
        """Whether rounding leaves enough of the change to be compared."""
        return self.tolerance < READABLE


def agreement(step: TensorStep, wanted: Tensor, roundings: int = _ROUNDINGS, more: float = 0.0) -> Agreement:
    """Compare the applied change of a tensor with `wanted`, of the same shape.

    `roundings` of the tensor's dtype, and a share `more` of the change, are tolerated.
    """
    change, wanted = applied(step), wanted.double()
    size, asked = float(change.norm()), float(wanted.norm())
    unit = torch.finfo(step.after.dtype).eps / 2
    tolerance = math.inf
    if size > 0:
        # The new value is rounded to half a unit of its own size, which may be far more than the change.
        tolerance = unit * (2 * roundings + float(step.after.double().norm()) / size) + more
    if size == 0 or asked == 0:
        return Agreement(math.nan, math.nan, tolerance)
    scale = float((change * wanted).sum()) / asked**2
    return Agreement(scale, float((change - scale * wanted).norm()) / size, tolerance)


def finite(step: TensorStep) -> bool:
    """Say whether neither the tensor nor its gradients hold a NaN or an infinity."""
    tensors = (step.before, step.after, step.accumulated, step.used)
    return all(bool(tensor.isfinite().all()) for tensor in tensors if tensor is not None)


def applied(step: TensorStep) -> Tensor:
    """Return Δθ, float64: the parameter after the step less the parameter before it."""
    return step.after.double() - step.before.double()


def as_used(step: TensorStep) -> Agreement | None:
    """Compare Δθ with −lr·g, g being what the optimizer used; None without a gradient."""
    return None if step.used is None else agreement(step, -float(step.group["lr"]) * step.used.double())


@dataclass(frozen=True, slots=True)
class Hooked:
    """What a hook that keeps the last gradient h makes of the one that the optimizer used.

    `scale` is ⟨g, h⟩ / ‖h‖², the c that one would find with it; `residual` is ‖g − c·h‖ / ‖g‖.
    """

    scale: float
    residual: float


def as_hooked(step: TensorStep) -> Hooked | None:
    """Compare the gradient that the optimizer used with what a hook kept; None where one of them is 0."""
    if step.hooked is None or step.used is None or not step.used.any() or not step.hooked.any():
        return None
    used, seen = step.used.double(), step.hooked.double()
    scale = float((used * seen).sum() / seen.square().sum())
    return Hooked(scale, float((used - scale * seen).norm() / used.norm()))
