"""The power-law fit of a spectrum's tail: one procedure, for our alpha and for weightwatcher's.

Clauset, Shalizi & Newman (2009): for each candidate x_min the maximum-likelihood exponent, then the candidate
with the smallest Kolmogorov-Smirnov distance. The estimator and its rule for few points are those of
weightwatcher 0.7.7, so that both sets of numbers differ in their input alone.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lorabench.spectra.model import Float64Array, PowerLaw

FEW = 20
"""Below so many points the exponent is the unbiased 1 + (n−1)/S, from at least `FEWEST` points."""
FEWEST = 8
_SMALLEST_SUM = 1e-12
_CELLS = 1 << 20
"""Entries of the (candidate × point) table that is in memory at a time: 8 MB an array."""


class Tails(NamedTuple):
    """The best tail of each spectrum in a batch: arrays of shape (batch,).

    `log_sum` is S = Σ ln(x/x_min) over the tail; where no candidate is usable `ks` is 1 and alpha is NaN.
    """

    alpha: Float64Array
    ks: Float64Array
    start: npt.NDArray[np.intp]
    log_sum: Float64Array


def fit(eigenvalues: Float64Array, cut: float) -> PowerLaw | None:
    """Fit p(λ) ∝ λ^-alpha to the tail of `eigenvalues` (any order, those ≤ `cut` left out).

    Returns None where fewer than two eigenvalues are left or all of them are equal.
    """
    points = np.sort(eigenvalues[eigenvalues > cut])
    if len(points) < 2:
        return None
    tails = best_tails(np.log(points)[None])
    alpha, start = float(tails.alpha[0]), int(tails.start[0])
    if not np.isfinite(alpha):
        return None
    tail = len(points) - start
    return PowerLaw(
        alpha=alpha,
        xmin=float(points[start]),
        xmax=float(points[-1]),
        ks=float(tails.ks[0]),
        tail=tail,
        points=len(points),
        sigma=(alpha - 1) / math.sqrt(tail),
    )


def best_tails(logs: Float64Array) -> Tails:
    """Choose x_min for each row of `logs`: ln λ ascending, shape (batch, N), N ≥ 2.

    Every point but the last is a candidate; with fewer than `FEW` points only those that keep at least
    `FEWEST`, and with fewer than that the whole spectrum. A tie goes to the smallest x_min.
    """
    count = logs.shape[1]
    size = np.arange(count, 1, -1)
    usable = size >= min(FEWEST, count) if count < FEW else size >= 2
    size = size[usable]
    log_sums = np.cumsum(logs[:, ::-1], axis=1)[:, ::-1][:, : len(size)] - size * logs[:, : len(size)]
    good = log_sums > _SMALLEST_SUM
    exponents = (size - (count < FEW)) / np.where(good, log_sums, np.nan)
    distances = np.where(good, _distances(logs, exponents), 1.0)
    start = np.argmin(distances, axis=1)
    row = np.arange(len(logs))
    return Tails(1 + exponents[row, start], distances[row, start], start, log_sums[row, start])


def _distances(logs: Float64Array, exponents: Float64Array) -> Float64Array:
    """Return each candidate's Kolmogorov-Smirnov distance, shape (batch, candidates)."""
    batch, count = logs.shape
    candidates = exponents.shape[1]
    distances = np.empty((batch, candidates))
    step = max(1, _CELLS // (batch * count))
    for first in range(0, candidates, step):
        block = slice(first, min(first + step, candidates))
        start = np.arange(block.start, block.stop)[:, None]
        rank = np.arange(first, count) - start
        below = np.maximum(rank, 0) / (count - start)
        # Points before the candidate's own are moved onto it, where model and data both are 0.
        gap = np.maximum(logs[:, None, first:] - logs[:, block, None], 0)
        distances[:, block] = np.abs(-np.expm1(-exponents[:, block, None] * gap) - below).max(axis=2)
    return distances
