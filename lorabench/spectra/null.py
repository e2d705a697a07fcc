"""What alpha an untrained update would have: the band that noise alone fills.

A is as PEFT initialises it (Kaiming uniform), B is Gaussian; only their r×r triangles are drawn, never the
factors. The triangle of an n×r Gaussian matrix is Bartlett's (1933): chi variables on the diagonal, standard
normal ones above. For uniform entries the columns keep random directions, but their squared lengths vary
less: by a variance of 4/5 per entry, where Gaussian entries have 2.
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
_BATCH_ENTRIES = 1 << 18
"""Entries of a batch of triangles: 2 MB an array, which stays in cache."""

_locks: dict[tuple[tuple[int, int], int, Part], Lock] = {}
"""A lock for each shape: it is simulated once, and the others need not wait for it."""


def null_band(shape: tuple[int, int], rank: int, part: Part = "ΔW") -> tuple[float, float]:
    """Return the 5 % and 95 % quantile of alpha of an untrained B·A (or A, or B) of this shape and rank.

    `shape` is (out, in). Simulated with a fixed seed, once for each shape. There are
    200,000/rank^1.5 draws (2000 at rank 16, 390 at 64), from 32 to 2000: about 0.1 s at rank 64.
    (NaN, NaN) where the spectrum has a single value.
    """
    with _locks.setdefault((shape, rank, part), Lock()):
        return _simulated_band(shape, rank, part)


@lru_cache(maxsize=256)
def _simulated_band(shape: tuple[int, int], rank: int, part: Part) -> tuple[float, float]:
    rng = np.random.default_rng(_SEED)
    draws = int(np.clip(200_000 / rank**1.5, 32, 2000))
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
    """Draw R, shape (draws, min(rows, rank), rank), with RᵀR as that of a Gaussian matrix (rows × rank)."""
    if rows < rank:
        return rng.standard_normal((draws, rows, rank))
    upper = np.triu(rng.standard_normal((draws, rank, rank)), 1)
    diagonal = np.arange(rank)
    upper[:, diagonal, diagonal] = np.sqrt(rng.chisquare(rows - diagonal, size=(draws, rank)))
    return upper


def _uniform(rng: np.random.Generator, rows: int, rank: int, draws: int) -> Float64Array:
    """Draw the same for a matrix of uniform entries of unit variance."""
    if rows < rank:
        return rng.uniform(-np.sqrt(3), np.sqrt(3), (draws, rows, rank))
    upper = _gaussian(rng, rows, rank, draws)
    spread = np.sqrt(_UNIFORM_SQUARE_VARIANCE / rows)
    squares = rows * np.maximum(1 + spread * rng.standard_normal((draws, 1, rank)), 0)
    return np.asarray(upper * np.sqrt(squares / np.square(upper).sum(axis=1, keepdims=True)))
