"""The null band, against factors that are really drawn, as PEFT initialises them, and multiplied."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from lorabench.spectra.null import _alphas, _simulated_band, null_band
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
    ("shape", "rank"),
    [((96, 64), 2), ((96, 64), 4), ((40, 120), 8), ((200, 100), 24), ((20, 30), 40), ((5, 5), 900)],
)
def test_nine_in_ten_untrained_updates_lie_in_the_band(shape, rank, part):
    low, high = null_band(shape, rank, part)
    alphas = dense_alphas(shape, rank, part, draws=1000)
    assert 0.02 < np.mean(alphas < low) < 0.08
    assert 0.02 < np.mean(alphas > high) < 0.08


@pytest.mark.parametrize("part", ["ΔW", "A", "B"])
@pytest.mark.parametrize(("shape", "rank"), [((40, 36), 32), ((48, 160), 40), ((50, 40), 64)])
def test_nine_in_ten_untrained_updates_lie_in_the_band_of_the_formula_too(shape, rank, part):
    low, high = null_band(shape, rank, part)
    alphas = dense_alphas(shape, rank, part, draws=1500)
    assert 0.02 < np.mean(alphas < low) < 0.09
    assert 0.02 < np.mean(alphas > high) < 0.09


@pytest.mark.parametrize(("shape", "rank"), [((512, 512), 64), ((256, 1024), 128), ((1024, 4096), 256)])
def test_the_formula_is_what_a_simulation_gives(shape, rank):
    low, high = null_band(shape, rank)
    alpha = _alphas(np.random.default_rng(5), shape, rank, "ΔW", draws=25_600 // rank)
    # Four standard errors of a proportion of 5 %, and what the formula is off.
    room = 4 * np.sqrt(0.05 * 0.95 / alpha.size) + 0.02
    assert abs(np.mean(alpha < low) - 0.05) < room
    assert abs(np.mean(alpha > high) - 0.05) < room
    assert low < np.median(alpha) < high


@pytest.mark.parametrize("shape", [(4, 4), (2, 3), (3, 2), (2, 2), (4096, 4)])
def test_the_smallest_layers_need_no_logarithm_of_zero(shape):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for part in ("ΔW", "A", "B"):
            low, high = null_band(shape, 2, part)
            assert 1 < low < high


def test_no_rank_takes_long(monkeypatch):
    """Nothing is drawn from 32 singular values on: a band of rank 2048 costs what one of rank 32 does."""
    monkeypatch.setattr("lorabench.spectra.null._simulated_band", lambda *_: pytest.fail("drawn"))
    bands = np.array([null_band((8192, 4096), rank) for rank in (32, 64, 128, 256, 512, 1024, 2048)])
    assert (bands[:, 0] < bands[:, 1]).all()
    assert (bands > 1).all()


def test_no_rank_makes_large_draws(monkeypatch):
    sizes = []
    monkeypatch.setattr(
        "lorabench.spectra.null._simulated_band", lambda shape, rank, part: sizes.append(rank)
    )
    for part in ("ΔW", "A", "B"):
        null_band((3, 2), 200_000, part)
    assert sizes == [2, 2, 3]


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
