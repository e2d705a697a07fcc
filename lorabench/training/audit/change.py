"""What a step of A and B does to ΔW = s·B·A, without forming it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Change:
    """‖ΔW′ − ΔW‖_F of one module, and the norms of the two parts that it is the sum of.

    `by_a` is ‖s·B′·dA‖_F and `by_b` is ‖s·dB·A‖_F; `norm_before` is ‖ΔW‖_F.
    """

    norm: float
    by_a: float
    by_b: float
    norm_before: float


def change_of(a: Tensor, b: Tensor, new_a: Tensor, new_b: Tensor, scaling: float) -> Change:
    """Return the change of ΔW from A (r, in), B (out, r) before and after; in float64, of rank ≤ 2r."""
    a, b, new_a, new_b = (tensor.double() for tensor in (a, b, new_a, new_b))
    da, db = new_a - a, new_b - b
    # B'·A' − B·A = B'·dA + dB·A: no difference of two large products, so small moves keep their digits.
    left, right = torch.cat([new_b, db], 1), torch.cat([da, a], 0)
    size = abs(scaling)
    return Change(
        norm=size * _norm(left, right),
        by_a=size * _norm(new_b, da),
        by_b=size * _norm(db, a),
        norm_before=size * _norm(b, a),
    )


def _norm(left: Tensor, right: Tensor) -> float:
    """‖left·right‖_F through the Gram matrices of the short sides: tr(LᵀL·RRᵀ)."""
    return math.sqrt(max(0.0, float(((left.T @ left) * (right @ right.T)).sum())))
