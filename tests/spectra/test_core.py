"""The spectrum of ΔW from its factors, against a dense SVD and against spectra that are known beforehand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from lorabench.errors import NonFiniteWeights
from lorabench.spectra import core
from lorabench.spectra.core import Factors, triangle
from tests.spectra.made import pair_with, random_pair

SOURCE = SimpleNamespace(name="q_proj.lora_B.weight")


def factors_of(a: np.ndarray, b: np.ndarray) -> Factors:
    return Factors(triangle(a.T, SOURCE), triangle(b, SOURCE))


def largest_error(a: np.ndarray, b: np.ndarray) -> float:
    """Return the largest error of a singular value, in units of the largest one."""
    dense = np.linalg.svd(b.astype(float) @ a.astype(float), compute_uv=False)
    ours = factors_of(a, b).singular_values("ΔW")
    return float(np.abs(ours - dense[: len(ours)]).max() / dense[0])


@pytest.mark.parametrize(
    ("out_features", "in_features", "rank"),
    [
        (1, 1, 1),
        (64, 48, 1),
        (48, 64, 8),
        (300, 200, 64),
        (64, 64, 64),
        (20, 30, 40),
        (30, 20, 25),
        (20_000, 40, 16),
    ],
)
def test_singular_values_are_those_of_the_dense_product(out_features, in_features, rank):
    a, b = random_pair(out_features, in_features, rank)
    assert largest_error(a, b) < 1e-12
    assert len(factors_of(a, b).singular_values("ΔW")) == min(out_features, in_features, rank)


def test_there_are_no_more_singular_values_than_the_matrix_has_rows_even_where_the_rank_is_larger():
    a, b = random_pair(20, 30, 64)
    assert factors_of(a, b).singular_values("ΔW").shape == (20,)


@pytest.mark.parametrize("decay", [1e-2, 1e-5, 1e-8])
def test_small_singular_values_keep_their_digits_where_columns_differ_in_size(decay):
    known = np.geomspace(1, decay, 32)
    a, b = pair_with(known, 400, 300)
    assert factors_of(a, b).singular_values("ΔW") == pytest.approx(known, rel=1e-7)


@pytest.mark.parametrize("condition", [1e1, 1e3, 1e5, 1e7])
def test_ill_conditioned_factors_fall_back_to_qr_and_stay_exact(condition):
    rng = np.random.default_rng(3)
    mixed = np.linalg.qr(rng.standard_normal((16, 16)))[0]
    a, b = pair_with(np.geomspace(1, 1 / condition, 16), 500, 400)
    a, b = mixed @ a, b @ mixed.T
    assert largest_error(a, b) < 1e-14
    smallest = factors_of(a, b).singular_values("ΔW")[-1]
    assert smallest == pytest.approx(1 / condition, rel=1e-7)


def test_the_gram_form_is_left_where_it_would_lose_digits():
    rng = np.random.default_rng(0)
    sound = rng.standard_normal((500, 8))
    nearly_equal = sound.copy()
    nearly_equal[:, 1] = nearly_equal[:, 0] + 1e-6 * sound[:, 1]
    assert core.triangle_of_gram(sound.T @ sound) is not None
    assert core.triangle_of_gram(nearly_equal.T @ nearly_equal) is None
    assert largest_error(rng.standard_normal((8, 60)), nearly_equal) < 1e-14


def test_a_column_of_zeros_costs_one_singular_value():
    a, b = random_pair(60, 50, 4)
    b[:, 2] = 0
    values = factors_of(a, b).singular_values("ΔW")
    assert largest_error(a, b) < 1e-14
    assert values[-1] < 1e-15 * values[0] < values[-2]


def test_a_zero_factor_gives_zeros():
    a, b = random_pair(60, 50, 4)
    factors = factors_of(a, np.zeros_like(b))
    assert factors.singular_values("ΔW").tolist() == [0, 0, 0, 0]
    assert factors.norm_b == 0
    assert factors.norm_a == pytest.approx(np.linalg.norm(a), rel=1e-7)


@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1e18])
def test_float32_factors_of_any_size_neither_overflow_nor_vanish(scale):
    a, b = random_pair(60, 50, 4)
    plain = factors_of(a, b).singular_values("ΔW")
    scaled = factors_of(a * np.float32(scale), b * np.float32(scale)).singular_values("ΔW")
    assert scaled == pytest.approx(plain * scale * scale, rel=1e-4 if scale == 1e-38 else 1e-6)


def test_one_factor_alone_has_its_own_singular_values():
    a, b = random_pair(60, 50, 4)
    factors = factors_of(a, b)
    assert factors.singular_values("A") == pytest.approx(np.linalg.svd(a.astype(float))[1], rel=1e-12)
    assert factors.singular_values("B") == pytest.approx(np.linalg.svd(b.astype(float))[1][:4], rel=1e-12)


@pytest.mark.parametrize(
    ("value", "said"), [(np.nan, "1 NaN and 0 infinite"), (-np.inf, "0 NaN and 1 infinite")]
)
def test_a_value_that_is_not_finite_names_its_tensor(value, said):
    _, b = random_pair(5000, 50, 4)
    b[4999, 3] = value
    with pytest.raises(NonFiniteWeights, match=f"q_proj.lora_B.weight holds {said}"):
        triangle(b, SOURCE)


@pytest.mark.parametrize("scale", [1e-150, 1e-170, 1e-250])
def test_float64_values_whose_squares_vanish_are_still_factored(scale):
    _, b = random_pair(60, 50, 4)
    tiny = triangle(b.astype(float) * scale, SOURCE)
    assert np.linalg.svd(tiny / scale)[1] == pytest.approx(np.linalg.svd(b.astype(float))[1], rel=1e-12)


def test_float64_values_whose_squares_overflow_are_still_factored():
    _, b = random_pair(60, 50, 4)
    huge = b.astype(float) * 1e200
    first = abs(triangle(huge, SOURCE)[0, 0])
    assert first == pytest.approx(np.linalg.norm(b[:, 0].astype(float)) * 1e200, rel=1e-12)
