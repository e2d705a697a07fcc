"""The null band, against factors that are really drawn, as PEFT initialises them, and multiplied."""

from __future__ import annotations

import numpy as np
import pytest

from lorabench.spectra.null import _simulated_band, null_band
from lorabench.spectra.powerlaw import fit


def dense_alphas(shape: tuple[int, int], rank: int, part: str, draws: int) -> np.ndarray:
    """Return alpha of `draws` untrained updates, each formed densely."""
    rng = np.random.default_rng(1)
    out_features, in_features = shape
    alphas = []
    for _ in range(draws):
        b = rng.standard_normal((out_features, rank))
        a = rng.uniform(-1, 1, (rank, in_features))
        matrix = {"A": a, "B": b, "ΔW": b @ a}[part]
        values = np.linalg.svd(matrix, compute_uv=False)[: min(rank, *shape)]
        alphas.append(fit(values**2, 0).alpha)
    return np.array(alphas)


@pytest.mark.parametrize("part", ["ΔW", "A", "B"])
@pytest.mark.parametrize(
    ("shape", "rank"), [((96, 64), 2), ((96, 64), 4), ((40, 120), 8), ((200, 100), 24), ((20, 30), 40)]
)
def test_nine_in_ten_untrained_updates_lie_in_the_band(shape, rank, part):
    low, high = null_band(shape, rank, part)
    alphas = dense_alphas(shape, rank, part, draws=1000)
    assert 0.02 < np.mean(alphas < low) < 0.08
    assert 0.02 < np.mean(alphas > high) < 0.08


def test_the_squared_lengths_of_uniform_rows_vary_less_than_gaussian_ones():
    """At rank 2 the lengths of A's two rows alone spread its spectrum: the bands of A and B differ."""
    low_a, _ = null_band((64, 64), 2, "A")
    low_b, _ = null_band((64, 64), 2, "B")
    assert low_a > low_b


def test_the_band_is_the_same_each_time():
    null_band((64, 32), 4)
    first = null_band((64, 32), 4)
    _simulated_band.cache_clear()
    assert null_band((64, 32), 4) == first


def test_a_single_singular_value_has_no_band():
    assert np.isnan(null_band((64, 32), 1)).all()
