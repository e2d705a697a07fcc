"""The spectrum of a full weight W: the same numbers as for an update, by the same fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lorabench.spectra import powerlaw
from lorabench.spectra.interval import interval
from lorabench.spectra.model import Alpha, Float64Array, PowerLaw, VerdictWord
from lorabench.spectra.null import null_band
from lorabench.spectra.ranks import effective_rank, energy_rank, stable_rank
from lorabench.spectra.verdict import judge

_ROUNDOFF = 2.0**-52
_DIGITS = 1e6
"""Eigenvalues nearer than this to the Gram matrix's rounding have fewer than six digits."""


@dataclass(frozen=True, slots=True, eq=False)
class WeightSpectrum:
    """The spectrum of a base weight W, or of W + ΔW, of shape (out, in).

    `singular_values` are descending, shape (min(out, in),), float64. `alpha` is fitted to all eigenvalues σ²
    above rounding, as WeightWatcher does for a base model (it cuts at 1e-5 instead), None where W is zero;
    its null band is that of a Gaussian matrix of this shape.
    """

    shape: tuple[int, int]
    singular_values: Float64Array
    frobenius_norm: float
    spectral_norm: float
    stable_rank: float
    effective_rank: float
    rank90: int
    rank95: int
    rank99: int
    alpha: Alpha | None
    verdict: VerdictWord


def fit_weight(singular_values: Float64Array, *, by_svd: bool = False) -> PowerLaw | None:
    """Fit the power law to all eigenvalues σ² that stand above rounding: a Gram matrix's, or an SVD's."""
    eigenvalues = np.square(singular_values)
    noise = _noise(eigenvalues)
    return powerlaw.fit(eigenvalues, noise * len(eigenvalues) * _ROUNDOFF if by_svd else noise)


def lacks_digits(singular_values: Float64Array, fit: PowerLaw | None) -> bool:
    """Whether the fitted tail reaches down to where the Gram matrix's eigenvalues are inexact."""
    eigenvalues = np.square(singular_values)
    return fit is None or fit.xmin < _DIGITS * _noise(eigenvalues)


def weight_spectrum(
    shape: tuple[int, int], singular_values: Float64Array, fit: PowerLaw | None
) -> WeightSpectrum:
    """Return the spectrum of a weight whose singular values and fit are known."""
    values = singular_values
    larger, smaller = max(shape), min(shape)
    alpha = None
    if fit is not None:
        alpha = Alpha(fit, *interval(fit), *null_band((larger, larger), smaller, "B"))
    above = 0 if fit is None else fit.points
    return WeightSpectrum(
        shape=shape,
        singular_values=values,
        frobenius_norm=float(np.linalg.norm(values)),
        spectral_norm=float(values[0]),
        stable_rank=stable_rank(values),
        effective_rank=effective_rank(values),
        rank90=energy_rank(values, 0.90),
        rank95=energy_rank(values, 0.95),
        rank99=energy_rank(values, 0.99),
        alpha=alpha,
        verdict=judge(alpha, above).word if values[0] > 0 else "dead",
    )


def _noise(eigenvalues: Float64Array) -> float:
    return float(len(eigenvalues) * _ROUNDOFF * eigenvalues.max(initial=0))
