"""The word for a layer, and the numbers in its reason."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from lorabench.spectra import powerlaw
from lorabench.spectra.interval import interval
from lorabench.spectra.model import Alpha, PowerLaw
from lorabench.spectra.verdict import judge


def alpha(value: float, low: float, high: float, null: tuple[float, float] = (8.0, 9.0)) -> Alpha:
    return Alpha(PowerLaw(value, 0.1, 1.0, 0.05, tail=40, points=64, sigma=0.2), low, high, *null)


@pytest.mark.parametrize(
    ("value", "low", "high", "null", "word"),
    [
        (1.5, 1.3, 1.8, (8, 9), "heavy-tailed"),
        (3.0, 2.5, 3.6, (8, 9), "well-formed"),
        (5.0, 4.1, 5.9, (8, 9), "well-formed"),
        (5.0, 4.1, 5.9, (4, 9), "random-like"),
        (7.0, 6.2, 7.9, (8, 9), "random-like"),
        (12.0, 9.0, 15.0, (8, 13), "random-like"),
        (1.5, 1.2, 1.8, (1.4, 2.5), "random-like"),
        (1.9, 1.6, 2.3, (8, 9), "undecided"),
        (5.5, 4.6, 6.6, (8, 9), "undecided"),
        (5.5, 4.6, 6.6, (5, 9), "random-like"),
        (5.5, 1.6, 9.6, (5, 9), "undecided"),
        (3.1, 1.8, 7.2, (2, 9), "undecided"),
        (8.5, 5.9, 11.0, (9, 12), "undecided"),
    ],
)
def test_the_word_follows_from_alpha_its_interval_and_the_null_band(value, low, high, null, word):
    assert judge(alpha(value, low, high, null), 64).word == word


def test_fewer_than_ten_points_leave_the_layer_undecided_however_narrow_the_interval():
    few = replace(alpha(1.5, 1.3, 1.8), fit=PowerLaw(1.5, 0.1, 1.0, 0.05, tail=9, points=9, sigma=0.2))
    assert judge(few, 9).word == "undecided"
    assert "rests on 9 points" in judge(few, 9).reason
    enough = replace(few, fit=replace(few.fit, tail=10))
    assert judge(enough, 10).word == "heavy-tailed"


def test_eight_geometric_singular_values_have_a_narrow_alpha_below_two_and_no_verdict():
    fit = powerlaw.fit(np.geomspace(1, 1e-4, 8), 1e-12)
    assert fit is not None
    low, high = interval(fit)
    assert high < 2
    assert judge(Alpha(fit, low, high, 3.3, 5.0), 8).word == "undecided"


def test_an_interval_without_an_upper_end_says_so():
    assert "alpha 9.50, 90 % interval [6.50, ∞], is above 6" in judge(alpha(9.5, 6.5, math.inf), 64).reason


def test_an_undecided_layer_says_which_borders_its_interval_spans():
    reason = judge(alpha(3.1, 1.8, 7.2), 64).reason
    expected = (
        "alpha 3.10, 90 % interval [1.80, 7.20], spans 2 and 6: 40 points in the tail are too few to tell."
    )
    assert reason == expected


def test_a_random_like_layer_says_where_noise_lies():
    assert judge(alpha(5.0, 4.1, 5.9, (4.25, 9.5)), 64).reason.endswith("untrained B·A lie, [4.25, 9.50].")
    assert "untrained A lie" in judge(alpha(5.0, 4.1, 5.9, (4.25, 9.5)), 64, part="A").reason


def test_a_well_formed_layer_is_compared_with_the_usual_range():
    assert judge(alpha(3.0, 2.5, 3.6), 64).reason.endswith("in the usual range of 2 to 4.")
    assert judge(alpha(5.0, 4.1, 5.9), 64).reason.endswith("above the usual range of 2 to 4.")


def test_a_single_eigenvalue_or_equal_ones_leave_the_layer_undecided():
    one, equal = judge(None, 1), judge(None, 5)
    assert one.word == equal.word == "undecided"
    assert one.reason.startswith("1 eigenvalue stands")
    assert equal.reason.startswith("5 equal eigenvalues stand")
