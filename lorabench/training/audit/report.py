"""What an audit found, as plain data: numbers a tensor, factors a step, and sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from lorabench.training.preflight.finding import Finding, Level

NOTE = (
    "unexplained: the share of an update that no factor accounts for. ✔: rounding the new weights explains "
    "it; the smaller a step is beside its weights, the more that is. c is a mean: rounding cancels out of it."
)


def unexplained_text(rows: Iterable[tuple[float | None, float | None]]) -> str:
    """Write the largest of shares that no factor explains, and whether rounding explains them all.

    Each stands with its tolerance; an infinite one is None, as in JSON.
    """
    known = [(left, math.inf if bound is None else bound) for left, bound in rows if left is not None]
    if not known:
        return "—"
    mark = "✔" if all(left <= bound for left, bound in known) else "✘"
    return f"{max(known)[0]:.1e} {mark}"


@dataclass(frozen=True, slots=True)
class Stillness:
    """Why a tensor did not move, or hardly: whether that is wrong, what it did (a verb first), and why."""

    level: Level
    what: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class TensorRow:
    """One tensor in one step.

    `finite` says that neither it nor its gradients hold a NaN or an infinity.
    `relative` is ‖Δθ‖/‖θ‖ (infinite where θ was 0) and `moved` the share of its numbers that changed.
    `scale` and `residual` compare Δθ with −lr·g of the gradient that the optimizer used, under SGD;
    `hook_scale` and `hook_residual` compare that gradient with what a hook kept. None where there is nothing
    to compare. `unexplained` is ‖Δθ − expected‖/‖Δθ‖ after all factors, None where the rule is not known. The
    tolerances are what the tensor's dtype explains of `scale` and `residual`, and of `unexplained`.
    """

    tensor: str
    finite: bool
    norm: float
    gradient_norm: float | None
    relative: float
    moved: float
    scale: float | None
    residual: float | None
    tolerance: float
    hook_scale: float | None
    hook_residual: float | None
    unexplained: float | None
    unexplained_tolerance: float
    still: Stillness | None


@dataclass(frozen=True, slots=True)
class Factor:
    """One thing that stands between the raw gradient and the update; its value, and what it means."""

    name: str
    value: float
    meaning: str


@dataclass(frozen=True, slots=True)
class StepReport:
    """One optimizer step: the factors of the whole step, and each tensor's row."""

    number: int
    optimizer: str
    learning_rate: float
    applied: bool
    factors: tuple[Factor, ...]
    tensors: tuple[TensorRow, ...]


@dataclass(frozen=True, slots=True)
class ModuleChange:
    """What the run's own steps did to one module's ΔW: ‖ΔW′ − ΔW‖_F, and the parts that A and B gave."""

    module: str
    scaling: float
    norm: float
    by_a: float
    by_b: float
    norm_before: float


@dataclass(frozen=True, slots=True)
class ScalingCheck:
    """LoRA's scaling in one module's gradients, against the analytic ones from the frozen weight's own.

    `error_a` is ‖∂L/∂A − s·Bᵀ·G‖/‖s·Bᵀ·G‖ with G = ∂L/∂W, `error_b` likewise for s·G·Aᵀ.
    """

    module: str
    scaling: float
    error_a: float
    error_b: float
    tolerance: float


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The whole audit: steps under plain SGD (lr 1), steps under the run's own optimizer, and findings."""

    config: str
    probe: tuple[StepReport, ...]
    own: tuple[StepReport, ...]
    changes: tuple[ModuleChange, ...]
    scaling: tuple[ScalingCheck, ...]
    findings: tuple[Finding, ...] = field(default=())
