"""Correlation coefficients against pandas, their intervals against known ones, and when there are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lorabench.spectra.correlation import DECIDED, correlate, pearson, spearman
from tests.base.conftest import Compare


def test_coefficients_are_those_of_pandas_with_ties_too() -> None:
    rng = np.random.default_rng(0)
    x = np.round(rng.standard_normal(60), 1)
    y = x + rng.standard_normal(60)
    table = pd.DataFrame({"x": x, "y": y})
    ranks = table.rank()
    assert (found := pearson(x, y)) is not None
    assert found.value == pytest.approx(table.x.corr(table.y))
    assert (found := spearman(x, y)) is not None
    assert found.value == pytest.approx(ranks.x.corr(ranks.y))


def test_the_interval_covers_the_true_correlation_in_nine_of_ten_samples() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(2000):
        x = rng.standard_normal(20)
        y = 0.6 * x + 0.8 * rng.standard_normal(20)
        found = pearson(x, y)
        assert found is not None
        inside += found.low <= 0.6 <= found.high
    assert inside / 2000 == pytest.approx(0.9, abs=0.02)


def test_fishers_interval_is_the_known_one() -> None:
    # r = 0.5 of 28 pairs: atanh(0.5) ± 1.645/5, by hand [0.217, 0.706].
    x = np.arange(28.0)
    noise = np.where(np.arange(28) % 2, 1.0, -1.0)
    noise -= noise.mean() + (noise @ (x - x.mean())) / ((x - x.mean()) @ (x - x.mean())) * (x - x.mean())
    y = (x - x.mean()) / np.linalg.norm(x - x.mean()) + np.sqrt(3) * noise / np.linalg.norm(noise)
    found = pearson(x, y)
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.217, 0.706), abs=1e-3)
    assert str(found) == "+0.50 [0.22, 0.71]"


def test_three_pairs_or_equal_values_have_no_correlation() -> None:
    assert pearson(np.arange(3.0), np.arange(3.0)) is None
    assert spearman(np.ones(9), np.arange(9.0)) is None


def test_order_alone_counts_for_spearman() -> None:
    x = np.arange(1.0, 12)
    found = spearman(x, np.exp(x))
    assert found is not None
    assert found.value == 1


def test_plus_and_minus_one_have_no_interval() -> None:
    x = np.array([1.0, 2, 3, 5])
    for found, value in ((spearman(x, x**3), 1), (pearson(x, -0.1 * x), -1)):
        assert found is not None
        assert (found.value, found.low, found.high) == (value, None, None)
        assert str(found) == f"{value:+.2f}"


def test_values_that_differ_by_rounding_alone_are_equal() -> None:
    x = np.full(8, 2.3) * (1 + np.arange(8) * 2.0**-52)
    assert np.ptp(x) > 0
    assert pearson(x, np.arange(8.0)) is None


def test_the_demo_adapter_is_correlated_over_decided_layers_over_all_and_by_type(
    samples: Path, compare: Compare
) -> None:
    comparisons = compare(samples / "style-clean-r16").comparisons
    found = correlate(comparisons)
    pairs = pd.DataFrame(
        [
            (
                c.layer.module_type,
                c.base.alpha.fit.alpha,
                c.lora.alpha.fit.alpha,
                c.base.verdict,
                c.lora.verdict.word,
            )
            for c in comparisons
            if c.base and c.base.alpha and c.lora.alpha
        ],
        columns=["type", "base", "lora", "base_verdict", "verdict"],
    )
    decided = pairs[pairs.base_verdict.isin(DECIDED) & pairs.verdict.isin(DECIDED)]
    assert found.over_all.layers == 42
    assert found.over_all.pearson is not None
    assert found.over_all.pearson.value == pytest.approx(pairs.base.corr(pairs.lora))
    assert found.decided.layers == len(decided) == 11
    assert found.decided.pearson is not None
    assert found.decided.pearson.value == pytest.approx(decided.base.corr(decided.lora))
    assert [each.of for each in found.by_type] == list(pairs.type.drop_duplicates())
    q_proj = next(each for each in found.by_type if each.of == "q_proj")
    assert q_proj.pearson is not None
    of_type = pairs[pairs.type == "q_proj"]
    assert q_proj.pearson.value == pytest.approx(of_type.base.corr(of_type.lora))


def test_where_most_lora_alphas_are_undecided_it_says_that_instead(samples: Path, compare: Compare) -> None:
    found = correlate(compare(samples / "style-checkpoints-r8").comparisons)
    assert found.undecided == found.layers == 24
    assert found.facts() == [
        ("", "24 of 24 LoRA alphas are undecided: whether they go with the base's cannot be told.")
    ]
