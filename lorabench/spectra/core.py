"""Singular values of ΔW = s·B·A from its factors; ΔW itself (out × in) is never formed.

Aᵀ = Q_A·R_A and B = Q_B·R_B give ΔW = Q_B·(s·R_B·R_Aᵀ)·Q_Aᵀ, so the small core s·R_B·R_Aᵀ has ΔW's
singular values. R comes from the Cholesky factor of the Gram matrix, or, where that would lose digits,
from a QR factorisation taken block by block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lorabench.adapters.model import FloatArray, LoraLayer, Tensor
from lorabench.errors import Malformed, NonFiniteWeights
from lorabench.spectra.model import Float64Array, Part
from lorabench.text import visible

_BLOCK_ENTRIES = 1 << 18
"""Entries converted to float64 at a time: 2 MB, which stays in cache and bounds the memory."""

_SMALLEST_SCALE = 1e-140
"""Columns shorter than this (float64 has them, float32 does not) lose digits when they are squared."""

_WELL_CONDITIONED = 1e6
"""Largest condition number of a column-scaled Gram matrix whose Cholesky factor is used.

Cholesky perturbs R as (I + E)·R with ‖E‖ of about eps·cond (Demmel 1989, for the column-scaled matrix), hence
every singular value, small ones too, by at most that relative amount: 1e-10 here (1e-11 as measured, and
2e-14 of σ₁).
"""


@dataclass(frozen=True, slots=True)
class Factors:
    """What is kept of A and B: their triangles.

    `triangle_a` has shape (min(in, r), r) and `triangle_b` (min(out, r), r), both float64, with
    R_AᵀR_A = A·Aᵀ and R_BᵀR_B = Bᵀ·B.
    """

    triangle_a: Float64Array
    triangle_b: Float64Array

    @property
    def norm_a(self) -> float:
        """‖A‖, Frobenius."""
        return float(np.linalg.norm(self.triangle_a))

    @property
    def norm_b(self) -> float:
        """‖B‖, Frobenius."""
        return float(np.linalg.norm(self.triangle_b))

    def singular_values(self, part: Part, scaling: float = 1.0) -> Float64Array:
        """Return the singular values of scaling·B·A, or of A or B alone: descending, float64.

        Raises:
            Malformed: they, or their squares, leave the range of float64.
        """
        matrix = {"A": self.triangle_a, "B": self.triangle_b}.get(part)
        with np.errstate(over="ignore", invalid="ignore"):
            core = scaling * (self.triangle_b @ self.triangle_a.T if matrix is None else matrix)
            finite = np.isfinite(np.square(core).sum())
        if not finite:
            raise Malformed("The update's squared norm is too large for float64.")
        return np.asarray(np.linalg.svd(core, compute_uv=False), dtype=np.float64)


def read_factors(layer: LoraLayer) -> Factors:
    """Read A and B and reduce them to their triangles.

    Raises:
        NonFiniteWeights: A or B holds a NaN or an infinity; names the tensor.
        AdapterError: the factors cannot be read.
    """
    a, b = layer.factors()
    return Factors(triangle(a.T, layer.source_a), triangle(b, layer.source_b))


def triangle(factor: FloatArray, source: Tensor) -> Float64Array:
    """Return R, shape (min(n, r), r), float64, with RᵀR = factorᵀ·factor, for a factor of shape (n, r).

    Raises:
        NonFiniteWeights: the factor holds a NaN or an infinity; `source` gives its name.
    """
    rows, rank = factor.shape
    if rows >= rank:
        with np.errstate(over="ignore", invalid="ignore"):
            gram = _gram(factor)
        if not gram.any() and not factor.any():
            return gram
        root = triangle_of_gram(gram)
        if root is not None:
            return root
    _refuse_non_finite(factor, source)
    return _qr(factor) if rows > rank else factor.astype(np.float64)


def _blocks(factor: FloatArray) -> list[FloatArray]:
    rows, rank = factor.shape
    step = max(_BLOCK_ENTRIES // rank, rank)
    return [factor[start : start + step] for start in range(0, rows, step)]


def _gram(factor: FloatArray) -> Float64Array:
    gram = np.zeros((factor.shape[1], factor.shape[1]))
    for block in _blocks(factor):
        rows = block.astype(np.float64)
        gram += rows.T @ rows
    return gram


def triangle_of_gram(gram: Float64Array) -> Float64Array | None:
    """Return R with RᵀR = gram, shape (r, r), or None where the factor itself is needed.

    None where the Cholesky factor would lose digits, or the Gram matrix holds a NaN or an infinity.
    """
    if not np.isfinite(gram).all():
        return None
    scale = np.sqrt(np.diagonal(gram))
    if scale.min() < _SMALLEST_SCALE:
        return None
    try:
        lower = np.linalg.cholesky(gram / scale / scale[:, None])
    except np.linalg.LinAlgError:
        return None
    # ‖L‖²_F·‖L⁻¹‖²_F bounds the condition number of L·Lᵀ from above, and ‖L‖²_F is r.
    if len(lower) * np.square(np.linalg.inv(lower)).sum() > _WELL_CONDITIONED:
        return None
    return np.asarray(lower.T * scale, dtype=np.float64)


def _qr(factor: FloatArray) -> Float64Array:
    upper: Float64Array = np.zeros((0, factor.shape[1]))
    for block in _blocks(factor):
        stacked = np.concatenate([upper, block], dtype=np.float64)
        upper = np.asarray(np.linalg.qr(stacked, mode="r"), dtype=np.float64)
    return upper


def _refuse_non_finite(factor: FloatArray, source: Tensor) -> None:
    nan = sum(int(np.isnan(block).sum()) for block in _blocks(factor))
    infinite = sum(int(np.isinf(block).sum()) for block in _blocks(factor))
    if nan or infinite:
        raise NonFiniteWeights(
            f"{visible(source.name)} holds {nan} NaN and {infinite} infinite values.",
            "The training run diverged or the file is damaged; an earlier checkpoint may be sound.",
        )
