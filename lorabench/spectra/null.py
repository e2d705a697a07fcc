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
_one_at_a_time = Lock()


def null_band(shape: tuple[int, int], rank: int, part: Part = "ΔW") -> tuple[float, float]:
    """Return the 5 % and 95 % quantile of alpha of an untrained B·A (or A, or B) of this shape and rank.

    `shape` is (out, in). Simulated with a fixed seed, once for each shape; 25,600/rank draws, from 50 to 400.
    (NaN, NaN) where the spectrum has a single value.
    """
    with _one_at_a_time:
        return _simulated_band(shape, rank, part)


@lru_cache(maxsize=256)
def _simulated_band(shape: tuple[int, int], rank: int, part: Part) -> tuple[float, float]:
    rng = np.random.default_rng(_SEED)
    draws = int(np.clip(25_600 // rank, 50, 400))
    out_features, in_features = shape
    b = _triangles(rng, out_features, rank, draws)
    a = _uniform(rng, _triangles(rng, in_features, rank, draws), in_features)
    core = {"A": a, "B": b, "ΔW": b @ a.transpose(0, 2, 1)}[part]
    singular_values = np.linalg.svd(core, compute_uv=False)
    if singular_values.shape[1] < 2:
        return np.nan, np.nan
    alpha = best_tails(2 * np.log(singular_values[:, ::-1])).alpha
    low, high = np.quantile(alpha, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _triangles(rng: np.random.Generator, rows: int, rank: int, draws: int) -> Float64Array:
    """Draw R, shape (draws, min(rows, rank), rank), as distributed for a Gaussian matrix (rows × rank)."""
    if rows < rank:
        return rng.standard_normal((draws, rows, rank))
    upper = np.triu(rng.standard_normal((draws, rank, rank)), 1)
    diagonal = np.arange(rank)
    upper[:, diagonal, diagonal] = np.sqrt(rng.chisquare(rows - diagonal, size=(draws, rank)))
    return upper


def _uniform(rng: np.random.Generator, triangles: Float64Array, rows: int) -> Float64Array:
    """Give the columns the lengths of columns of `rows` uniform entries of unit variance."""
    spread = np.sqrt(_UNIFORM_SQUARE_VARIANCE / rows)
    squares = np.maximum(1 + spread * rng.standard_normal((len(triangles), 1, triangles.shape[2])), 0)
    scaled: Float64Array = triangles * np.sqrt(squares / np.square(triangles).mean(axis=1, keepdims=True))
    return scaled
