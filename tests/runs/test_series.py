"""Curves of any length in bounded memory."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lorabench.runs.series import MOST_BUCKETS, Series


def series(values: list[tuple[int, float]]) -> Series:
    made = Series()
    for step, value in values:
        made.add(step, value)
    return made


def test_few_values_are_kept_as_they_are() -> None:
    assert series([(10, 3.0), (20, 1.0), (30, 2.0)]).points() == ((10, 20, 30), *[(3.0, 1.0, 2.0)] * 3)


def test_nothing_is_an_empty_curve() -> None:
    made = Series()
    assert made.points() == ((), (), (), ())
    assert (len(made), made.last, made.last_step) == (0, None, None)


@pytest.mark.parametrize("count", [MOST_BUCKETS - 1, MOST_BUCKETS, 4 * MOST_BUCKETS, 50_001])
def test_many_values_keep_their_extremes_their_mean_and_their_ends(count: int) -> None:
    values = np.random.default_rng(0).normal(size=count)
    made = series([(10 * i, float(value)) for i, value in enumerate(values)])
    steps, low, high, mean = (np.array(column) for column in made.points())
    assert len(steps) == len(made) <= MOST_BUCKETS
    assert len(steps) > MOST_BUCKETS / 2 - 1
    assert np.all(np.diff(steps) > 0)
    assert steps[-1] == 10 * (count - 1)
    assert (low.min(), high.max()) == (values.min(), values.max())
    # Each point against numpy, over the values from the step after the one before up to its own.
    ends = steps // 10 + 1
    parts = np.split(values, ends[:-1])
    assert np.allclose(low, [part.min() for part in parts], atol=0)
    assert np.allclose(high, [part.max() for part in parts], atol=0)
    assert np.allclose(mean, [part.mean() for part in parts])
    assert made.last == values[-1]


def test_a_newer_value_of_a_step_replaces_the_older() -> None:
    assert series([(1, 5.0), (2, 9.0), (2, 4.0)]).points().mean == (5.0, 4.0)


def test_a_step_back_replaces_all_from_there_on() -> None:
    made = series([(1, 5.0), (2, 6.0), (3, 7.0), (2, 4.0)])
    assert made.points().steps == (1, 2)
    assert made.points().mean == (5.0, 4.0)


def test_what_came_after_a_step_is_dropped_from_a_long_curve_too() -> None:
    made = series([(step, float(step)) for step in range(100_000)])
    made.drop_after(50_000)
    steps, _, high, _ = made.points()
    width = steps[1] - steps[0]
    assert 50_000 - width <= steps[-1] <= 50_000
    assert max(high) == made.last_step == steps[-1]
    made.add(60_000, 1.0)
    assert made.points().steps[-1] == 60_000


def test_what_is_not_finite_is_the_last_value_but_no_point() -> None:
    made = series([(1, 5.0), (2, math.nan), (3, math.inf)])
    assert made.points().steps == (1,)
    assert (made.last, made.last_step) == (math.inf, 3)
    made.drop_after(2)
    assert (made.last, made.last_step) == (5.0, 1)


def test_the_mean_of_huge_values_is_no_infinity() -> None:
    made = series([(step, 1.7e308) for step in range(3 * MOST_BUCKETS)])
    assert all(math.isfinite(value) for value in made.points().mean)
