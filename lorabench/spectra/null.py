"""What alpha an untrained update would have: the band that noise alone fills.

A is as PEFT initialises it (Kaiming uniform), B is Gaussian; only their r×r triangles are drawn, never the
factors. The triangle of an n×r Gaussian matrix is Bartlett's (1933): chi variables on the diagonal, standard
normal ones above. For uniform entries the columns keep random directions, but their squared lengths vary
less: by a variance of 4/5 per entry, where Gaussian entries have 2.

With 32 or more singular values the band is a formula that was fitted to simulations of Gaussian factors. The
singular values of a product of Gaussian matrices do not depend on the order of its dimensions (Ipsen &
Kieburg 2014), so N = min(out, in, r) and the ratios y₁, y₂ of N to the other two tell all. In
(alpha − 1)·√(y₁ + y₂) the spread of ln λ, which grows with y₁ + y₂, has been taken out: what is left is
smooth.
"""

from __future__ import annotations

from functools import lru_cache
from threading import Lock

import numpy as np

from lorabench.spectra.interval import LEVEL
from lorabench.spectra.model import Float64Array, Part
from lorabench.spectra.powerlaw import best_tails

_SEED = 20170817
_UNIFORM_SQUARE_VARIANCE = 0.8
_FORMULA_FROM = 32
_COEFFICIENTS = np.array(
    [
        [-0.0354, 0.3361, 0.0046, 0.1234, 0.3141, -0.6913, 0.0851, 0.0906, -0.2191],
        [1.5647, 0.4289, 0.0226, 0.1996, 0.4399, -0.931, 0.0165, -0.0227, 0.0011],
    ]
)
"""Those of the 5 % and 95 % quantile of ln((alpha − 1)·√(y₁ + y₂)), on the terms of `_formula_band`.

Least squares over 16 pairs of ratios from 0 to 1, at N = 32 (8000 draws each), 48, 64, 96, 128, 256 (1000),
512 (120) and 1024 (76). Up to 128 between 3 and 9 % of the draws lie beyond a border;
on the average it is 5 % at every N.
"""
_BATCH_ENTRIES = 1 << 18
"""Entries of a batch of triangles: 2 MB an array, which stays in cache."""

_locks: dict[tuple[tuple[int, int], int, Part], Lock] = {}
"""A lock for each shape: it is simulated once, and the others need not wait for it."""


def null_band(shape: tuple[int, int], rank: int, part: Part = "ΔW") -> tuple[float, float]:
    """Return the 5 % and 95 % quantile of alpha of an untrained B·A (or A, or B) of this shape and rank.

    `shape` is (out, in). Below 32 singular values N it is simulated with a fixed seed, once for each shape:
    50,000/N^1.5 draws (780 at rank 16), at most 2000, in at most 40 ms. From there on it is a formula, in
    microseconds, that leaves 2 to 8 % on either side; above 1024 singular values it is extrapolated.
    (NaN, NaN) where the spectrum has a single value.
    """
    sizes = {"A": (rank, shape[1]), "B": (rank, shape[0]), "ΔW": (rank, *shape)}[part]
    if min(sizes) >= _FORMULA_FROM:
        return _formula_band(sizes)
    key = (*_smallest_last(shape, rank, part), part)
    with _locks.setdefault(key, Lock()):
        return _simulated_band(*key)


def _smallest_last(shape: tuple[int, int], rank: int, part: Part) -> tuple[tuple[int, int], int]:
    """Return a shape and a rank not above it that have the same band: what is drawn is of the rank's size."""
    if part != "ΔW":
        side = shape[1] if part == "A" else shape[0]
        return (max(side, rank), max(side, rank)), min(side, rank)
    out, inner = shape
    if rank <= min(shape):
        return shape, rank
    return ((rank, inner), out) if out < inner else ((out, rank), inner)


def _formula_band(sizes: tuple[int, ...]) -> tuple[float, float]:
    count, *others = sorted(sizes)
    ratios = count / np.array(others)
    growth = np.log(count / 64)
    roots = np.sqrt(ratios)
    product = roots.prod() if len(others) == 2 else 0.0
    form = np.array([roots.sum(), ratios.sum(), product])
    terms = np.array([1.0, growth, growth**2, *form, *(growth * form)])
    low, high = 1 + np.exp(_COEFFICIENTS @ terms) / np.sqrt(ratios.sum())
    return float(low), float(high)


@lru_cache(maxsize=256)
def _simulated_band(shape: tuple[int, int], rank: int, part: Part) -> tuple[float, float]:
    rng = np.random.default_rng(_SEED)
    draws = int(np.clip(50_000 / rank**1.5, 300, 2000))
    batch = max(1, _BATCH_ENTRIES // rank**2)
    sizes = [min(batch, draws - done) for done in range(0, draws, batch)]
    alpha = np.concatenate([_alphas(rng, shape, rank, part, size) for size in sizes])
    low, high = np.quantile(alpha, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _alphas(
    rng: np.random.Generator, shape: tuple[int, int], rank: int, part: Part, draws: int
) -> Float64Array:
    b = _gaussian(rng, shape[0], rank, draws)
    a = _uniform(rng, shape[1], rank, draws)
    core = {"A": a, "B": b, "ΔW": b @ a.transpose(0, 2, 1)}[part]
    singular_values = np.linalg.svd(core, compute_uv=False)
    if singular_values.shape[1] < 2:
        return np.full(draws, np.nan)
    return best_tails(2 * np.log(singular_values[:, ::-1])).alpha


def _gaussian(rng: np.random.Generator, rows: int, rank: int, draws: int) -> Float64Array:
    """Draw R, shape (draws, rank, rank), with RᵀR as that of a Gaussian matrix (rows × rank), rows ≥ rank."""
    upper = np.triu(rng.standard_normal((draws, rank, rank)), 1)
    diagonal = np.arange(rank)
    upper[:, diagonal, diagonal] = np.sqrt(rng.chisquare(rows - diagonal, size=(draws, rank)))
    return upper


def _uniform(rng: np.random.Generator, rows: int, rank: int, draws: int) -> Float64Array:
    """Draw the same for a matrix of uniform entries of unit variance."""
    upper = _gaussian(rng, rows, rank, draws)
    # The gamma distribution has this mean and variance, and no column of length 0.
    shape = rows / _UNIFORM_SQUARE_VARIANCE
    squares = rng.gamma(shape, _UNIFORM_SQUARE_VARIANCE, (draws, 1, rank))
    return np.asarray(upper * np.sqrt(squares / np.square(upper).sum(axis=1, keepdims=True)))
