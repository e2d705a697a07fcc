"""An update ΔW beside the base weight W that it changes: what W was, and what W + ΔW became."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from lorabench.adapters.model import FloatArray, LoraLayer
from lorabench.spectra.gram import Eigenvalues, add_low_rank, on_cpu, singular_values, times
from lorabench.spectra.krylov import leading, stays_below
from lorabench.spectra.model import Float64Array, PowerLaw
from lorabench.spectra.weight import WeightSpectrum, fit_weight, lacks_digits, weight_spectrum

TOP = 10
"""k: how many leading directions of W + ΔW may be intruders, and of W count as its own."""
EPSILON = 0.5
"""A direction whose |cos| with every singular vector of W is below this is an intruder."""


@dataclass(frozen=True, slots=True, eq=False)
class BaseFacts:
    """What is known of W once for all adapters: its singular values, the fit, and its TOP leading directions.

    `left` has shape (out, k) and `right` (in, k), with orthonormal columns, k = TOP or the rank of W where
    that is lower; rounded to float32: what is kept on disk gives the same numbers as what was just computed.
    """

    shape: tuple[int, int]
    singular_values: Float64Array
    fit: PowerLaw | None
    left: FloatArray
    right: FloatArray

    def spectrum(self) -> WeightSpectrum:
        """Return W's spectrum."""
        return weight_spectrum(self.shape, self.singular_values, self.fit)


@dataclass(frozen=True, slots=True)
class Merged:
    """What W + ΔW is: its power law, its intruder dimensions, and where ΔW's first direction lies in W.

    `gain` is ‖W·v₁‖ with ΔW's first right singular vector v₁; `place` is 1 + how many singular values of W
    are larger: 1 says that ΔW reads what W amplifies most.
    """

    fit: PowerLaw | None
    spectral_norm: float
    intruders: int
    gain: float
    place: int


class Update:
    """ΔW = s·B·A read as two factors: `a` (r, in) and `b` (out, r), float64, the scaling within `b`.

    `digest` tells it from every other update.
    """

    def __init__(self, layer: LoraLayer) -> None:
        a, b = layer.factors()
        scaling = 1.0 if layer.scaling is None else layer.scaling
        told = hashlib.sha256(repr((a.shape, scaling)).encode())
        for factor in (a, b):
            told.update(np.ascontiguousarray(factor).data)
        self.digest = told.hexdigest()
        self.a = a.astype(np.float64)
        self.b = b.astype(np.float64) * scaling

    def first_right(self) -> Float64Array:
        """Return ΔW's first right singular vector, shape (in,)."""
        r_b = np.linalg.qr(self.b, mode="r")
        q_a, r_a = np.linalg.qr(self.a.T)
        _, _, v = np.linalg.svd(r_b @ r_a.T)
        return np.asarray(q_a @ v[0])

    def squared_norm_within(self, base: BaseFacts) -> float:
        """Return the part of ‖ΔW‖² that lies between W's TOP leading left and right directions."""
        inside = (base.left.T @ self.b) @ (self.a @ base.right)
        return float(np.square(inside).sum())


def measure_base(weight: FloatArray, product: Float64Array, eigenvalues: Eigenvalues = on_cpu) -> BaseFacts:
    """Return what is known of W once for all adapters; `product` is its Gram matrix."""
    vectors = _above_rounding(*leading(product, TOP), len(product))
    wide = _is_wide(weight)
    others = np.linalg.qr(times(weight.T if wide else weight, vectors))[0]
    vectors, others = vectors.astype(np.float32), others.astype(np.float32)
    left, right = (vectors, others) if wide else (others, vectors)
    spectrum, fit = _spectrum(weight, product, eigenvalues)
    return BaseFacts((weight.shape[0], weight.shape[1]), spectrum, fit, left, right)


def measure_merged(
    weight: FloatArray,
    product: Float64Array,
    base: BaseFacts,
    update: Update,
    eigenvalues: Eigenvalues = on_cpu,
) -> Merged:
    """Return what W + ΔW is; `product` is W's Gram matrix, and so it is again on return, but for rounding."""
    # Of the smaller side: (W + ΔW)(W + ΔW)ᵀ = G + X·Yᵀ + Y·Xᵀ with X = B, Y = W·Aᵀ + ½·B·(A·Aᵀ).
    wide = _is_wide(weight)
    x, outer = (update.b, update.a.T) if wide else (update.a.T, update.b)
    y = times(weight if wide else weight.T, outer) + 0.5 * x @ (outer.T @ outer)
    first = update.first_right()
    gain = float(np.linalg.norm(times(weight, first[:, None])))
    add_low_rank(product, x, y)
    vectors = _above_rounding(*leading(product, TOP), len(product))
    if not wide:
        vectors = np.linalg.qr(times(weight, vectors) + update.b @ (update.a @ vectors))[0]
    spectrum, fit = _spectrum(weight, product, eigenvalues, update)
    add_low_rank(product, x, -y)
    return Merged(
        fit=fit,
        spectral_norm=float(spectrum[0]),
        intruders=count_intruders(weight, product, base, vectors),
        gain=gain,
        place=1 + int(np.count_nonzero(base.singular_values > gain)),
    )


def count_intruders(weight: FloatArray, product: Float64Array, base: BaseFacts, vectors: Float64Array) -> int:
    """Count the columns of `vectors`, shape (out, k), that no left singular vector of W comes near.

    Intruder dimensions (Shuttleworth et al. 2024, algorithm 1): the largest |cos| with any left singular
    vector of W is below EPSILON. W's leading ones are at hand; what is left of a column may lie on one of the
    others, which are computed only where neither its length nor Lanczos' bound says that it cannot. Where W
    is zero there is nothing to intrude into: 0.
    """
    if not base.left.shape[1]:
        return 0
    unknown = []
    intruders = 0
    for column in vectors.T:
        cosines = base.left.T @ column
        rest = column - base.left @ cosines
        if np.abs(cosines).max() >= EPSILON:
            continue
        if rest @ rest < EPSILON**2 or _lies_on_none(weight, product, base, rest):
            intruders += 1
        else:
            unknown.append(column)
    if unknown:
        nearest = np.abs(_left_vectors(weight, product).T @ np.stack(unknown, axis=1)).max(axis=0)
        intruders += int(np.count_nonzero(nearest < EPSILON))
    return intruders


def _lies_on_none(weight: FloatArray, product: Float64Array, base: BaseFacts, vector: Float64Array) -> bool:
    def apply(column: Float64Array) -> Float64Array:
        if _is_wide(weight):
            return np.asarray(product @ column)
        inner = column.astype(weight.dtype) @ weight
        return np.asarray(weight @ inner, dtype=np.float64)

    return stays_below(apply, vector, np.square(base.singular_values), EPSILON**2)


def _left_vectors(weight: FloatArray, product: Float64Array) -> Float64Array:
    """Return all left singular vectors of W with a singular value above rounding, shape (out, n)."""
    values, vectors = np.linalg.eigh(product)
    vectors = _above_rounding(values[::-1], vectors[:, ::-1], len(product))
    return vectors if _is_wide(weight) else np.asarray(np.linalg.qr(times(weight, vectors))[0])


def _above_rounding(values: Float64Array, vectors: Float64Array, n: int) -> Float64Array:
    """Return the eigenvectors of a Gram matrix (n, n) whose eigenvalues, descending, are not rounding."""
    return vectors[:, values > n * np.finfo(np.float64).eps * values[0]]


def _is_wide(weight: FloatArray) -> bool:
    return bool(weight.shape[0] <= weight.shape[1])


def _spectrum(
    weight: FloatArray, product: Float64Array, eigenvalues: Eigenvalues, update: Update | None = None
) -> tuple[Float64Array, PowerLaw | None]:
    """Return singular values and fit by the Gram matrix, or by the SVD where the tail needs the digits."""
    values = singular_values(product, eigenvalues)
    fit = fit_weight(values)
    if lacks_digits(values, fit):
        whole: Float64Array = weight.astype(np.float64)
        if update is not None:
            whole += update.b @ update.a
        values = np.asarray(np.linalg.svd(whole, compute_uv=False), dtype=np.float64)
        fit = fit_weight(values, by_svd=True)
    return values, fit
