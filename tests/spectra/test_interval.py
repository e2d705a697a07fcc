"""The 90 % interval of alpha: whether it holds the true alpha as often as it says."""

from __future__ import annotations

import numpy as np
import pytest

from lorabench.spectra.interval import _TABLE, interval, simulate_quantiles
from lorabench.spectra.powerlaw import fit
from tests.spectra.made import power_law_values


def coverage(alpha: float, points: int, draws: int) -> float:
    """Return the share of intervals that hold alpha, the whole procedure being run on each spectrum."""
    held = 0
    for seed in range(draws):
        low, high = interval(fit(power_law_values(alpha, points, seed) ** 2, 0))
        held += low <= alpha <= high
    return held / draws


@pytest.mark.parametrize(("points", "alpha"), [(4, 3.0), (8, 1.6), (16, 3.0), (64, 5.0)])
def test_nine_in_ten_intervals_hold_the_true_alpha(points, alpha):
    assert 0.87 <= coverage(alpha, points, draws=4000) <= 0.93


@pytest.mark.slow
@pytest.mark.parametrize("points", [4, 8, 16, 32, 64, 128])
@pytest.mark.parametrize("alpha", [1.5, 3.0, 6.0])
def test_nine_in_ten_intervals_hold_the_true_alpha_in_a_large_simulation(points, alpha):
    assert 0.89 <= coverage(alpha, points, draws=30_000) <= 0.91


@pytest.mark.slow
@pytest.mark.parametrize("points", [11, 13, 26, 40, 80, 300, 1024])
def test_the_coverage_holds_between_and_beyond_the_rows_of_the_table(points):
    assert 0.87 <= coverage(2.5, points, draws=5000 if points < 300 else 1500) <= 0.93


@pytest.mark.parametrize("points", [2, 3, 5, 8, 12, 19, 20, 64])
def test_the_table_is_what_the_simulation_gives(points):
    low, high = simulate_quantiles(points, draws=20_000, seed=77)
    row = _TABLE[_TABLE[:, 0] == points][0]
    assert low == pytest.approx(row[1], abs=0.06)
    assert high == pytest.approx(row[2], abs=0.06)


def test_without_a_choice_of_xmin_the_interval_is_the_gamma_distributions():
    """Five points: (alpha − 1)·S is Gamma(4), whose 5 % and 95 % quantiles are 1.3663 and 7.7537."""
    found = fit(power_law_values(3.0, 5) ** 2, 0)
    log_sum = 4 / (found.alpha - 1)
    low, high = interval(found)
    assert (low - 1) * log_sum == pytest.approx(1.3663, rel=0.01)
    assert (high - 1) * log_sum == pytest.approx(7.7537, rel=0.01)


def test_the_interval_narrows_as_points_are_added():
    widths = []
    for points in (8, 32, 128, 512):
        low, high = interval(fit(power_law_values(3.0, points, seed=1) ** 2, 0))
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 4 * widths[-1]


def test_the_interval_scales_with_the_exponent():
    """Raising eigenvalues to the power 1/c takes alpha − 1 to c·(alpha − 1): so must its bounds."""
    eigenvalues = power_law_values(3.0, 40, seed=4) ** 2
    plain = np.array(interval(fit(eigenvalues, 0))) - 1
    stretched = np.array(interval(fit(eigenvalues**0.25, 0))) - 1
    assert stretched == pytest.approx(4 * plain, rel=1e-9)
