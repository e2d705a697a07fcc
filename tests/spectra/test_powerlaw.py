"""The power-law fit, against the procedure written out point by point."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorabench.spectra import powerlaw
from lorabench.spectra.powerlaw import fit
from tests.spectra.made import power_law_values


def fit_by_loops(eigenvalues: np.ndarray, cut: float) -> tuple[float, float, float] | None:
    """Return (alpha, D, xmin) by the definition, one candidate and one point at a time."""
    x = sorted(float(value) for value in eigenvalues if value > cut)
    candidates = []
    for i in range(len(x) - 1):
        n = len(x) - i
        total = math.fsum(math.log(x[j] / x[i]) for j in range(i, len(x)))
        if total <= 1e-12 or (len(x) < 20 and n < 8 and not (i == 0 and len(x) < 8)):
            continue
        alpha = 1 + (n - (len(x) < 20)) / total
        distance = max(abs(1 - (x[i + k] / x[i]) ** (1 - alpha) - k / n) for k in range(n))
        candidates.append((distance, i, alpha))
    if not candidates:
        return None
    distance, i, alpha = min(candidates)
    return alpha, distance, x[i]


@pytest.mark.parametrize("points", [2, 3, 7, 8, 9, 12, 19, 20, 21, 64, 200])
@pytest.mark.parametrize("alpha", [1.3, 3.0, 8.0])
def test_the_fit_is_the_one_by_definition(points, alpha):
    eigenvalues = power_law_values(alpha, points, seed=points) ** 2
    ours, (expected_alpha, distance, xmin) = fit(eigenvalues, 0), fit_by_loops(eigenvalues, 0)
    assert ours.alpha == pytest.approx(expected_alpha, rel=1e-12)
    assert ours.ks == pytest.approx(distance, abs=1e-12)
    assert ours.xmin == xmin
    assert ours.tail == np.count_nonzero(eigenvalues >= xmin)
    assert ours.sigma == pytest.approx((expected_alpha - 1) / math.sqrt(ours.tail), rel=1e-12)


@given(st.lists(st.floats(1e-9, 1e9), min_size=2, max_size=30))
def test_the_fit_is_the_one_by_definition_on_any_spectrum(values):
    eigenvalues = np.array(values)
    ours, expected = fit(eigenvalues, 1e-5), fit_by_loops(eigenvalues, 1e-5)
    assert (ours is None) == (expected is None)
    if ours is not None:
        assert ours.ks == pytest.approx(expected[1], abs=1e-6)
        assert ours.ks <= expected[1] + 1e-6


def test_a_long_spectrum_is_worked_in_blocks_with_the_same_result(monkeypatch):
    eigenvalues = power_law_values(2.5, 500, seed=1) ** 2
    whole = fit(eigenvalues, 0)
    monkeypatch.setattr(powerlaw, "_CELLS", 7_000)
    assert fit(eigenvalues, 0) == whole


@pytest.mark.parametrize("alpha", [1.5, 2.5, 4.0])
def test_a_large_sample_gives_back_its_alpha(alpha):
    found = fit(power_law_values(alpha, 2000, seed=5) ** 2, 0)
    assert abs(found.alpha - alpha) < 4 * found.sigma
    assert found.sigma < 0.12 * (alpha - 1)


def test_eigenvalues_at_or_below_the_cut_are_left_out():
    eigenvalues = np.array([1e-6, 1e-5, 1e-4, 1e-3, 1e-2])
    assert fit(eigenvalues, 1e-5) == fit(eigenvalues[2:], 0)
    assert fit(eigenvalues, 1e-5).points == 3


@pytest.mark.parametrize("eigenvalues", [[], [3.0], [2.0] * 5, [2.0] * 40])
def test_no_law_is_fitted_to_fewer_than_two_different_values(eigenvalues):
    assert fit(np.array(eigenvalues), 0) is None


def test_with_few_points_at_least_eight_are_kept_and_with_fewer_all():
    for points in range(2, 20):
        tail = fit(power_law_values(2.0, points, seed=points) ** 2, 0).tail
        assert tail >= min(points, 8)
        assert points > 8 or tail == points


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e12])
def test_alpha_does_not_depend_on_the_scale_where_the_cut_moves_along(scale):
    eigenvalues = power_law_values(2.2, 64, seed=9) ** 2
    assert fit(eigenvalues * scale, scale).alpha == pytest.approx(fit(eigenvalues, 1).alpha, rel=1e-11)
