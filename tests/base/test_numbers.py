"""Every number of the comparison is what dense numpy says of the same weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lorabench.adapters.base_model import open_base
from lorabench.adapters.open import open_adapter
from lorabench.spectra import powerlaw
from lorabench.spectra.against_base import EPSILON, TOP
from lorabench.spectra.base_analysis import BaseAnalysis, Comparison
from lorabench.spectra.base_columns import BASE_COLUMNS
from tests.base.conftest import Compare
from tests.base.made import weight, write_adapter, write_base


def column(comparison: Comparison, name: str) -> float:
    value = next(each for each in BASE_COLUMNS if each.name == name).value(comparison)
    assert isinstance(value, int | float)
    return value


def check_against_dense(comparison: Comparison) -> None:
    """Compare all numbers of a layer with those of W, ΔW and W + ΔW as dense float64 matrices."""
    assert comparison.weight is not None
    w = comparison.weight.read().astype(np.float64)
    a, b = (factor.astype(np.float64) for factor in comparison.layer.factors())
    delta = (comparison.layer.scaling or 1.0) * b @ a
    u, s, vt = np.linalg.svd(w, full_matrices=False)
    u2, s2, _ = np.linalg.svd(w + delta, full_matrices=False)
    _, sd, vd = np.linalg.svd(delta)
    assert comparison.base is not None
    np.testing.assert_allclose(comparison.base.singular_values, s, rtol=1e-5, atol=1e-7 * s[0])
    assert column(comparison, "base_alpha") == pytest.approx(alpha_of(s), rel=1e-6)
    assert column(comparison, "merged_alpha") == pytest.approx(alpha_of(s2), rel=1e-6)
    assert column(comparison, "norm_ratio") == pytest.approx(np.linalg.norm(delta) / np.linalg.norm(w))
    assert column(comparison, "spectral_ratio") == pytest.approx(sd[0] / s[0])
    assert column(comparison, "base_stable_rank") == pytest.approx((s**2).sum() / s[0] ** 2)
    share = np.linalg.norm(u[:, :TOP].T @ delta @ vt[:TOP].T) ** 2 / np.linalg.norm(delta) ** 2
    assert column(comparison, "share") == pytest.approx(share, rel=1e-5)
    cosines = np.abs(u.T @ u2[:, :TOP]).max(axis=0)
    assert column(comparison, "intruders") == np.count_nonzero(cosines < EPSILON)
    assert column(comparison, "place") == 1 + np.count_nonzero(s > np.linalg.norm(w @ vd[0]))


def alpha_of(singular_values: np.ndarray) -> float:
    """WeightWatcher's fit of all eigenvalues, by its own cut."""
    fit = powerlaw.fit(singular_values**2, 1e-5)
    assert fit is not None
    return fit.alpha


def check(analysis: BaseAnalysis, layers: int) -> None:
    assert [c.problem for c in analysis.comparisons] == [""] * layers
    for comparison in analysis.comparisons:
        check_against_dense(comparison)


@pytest.mark.parametrize(
    ("name", "layers"), [("style-clean-r16", 42), ("style-overtrained-r32", 42), ("rslora-rank-pattern", 30)]
)
def test_adapters_of_the_demo_model(samples: Path, compare: Compare, name: str, layers: int) -> None:
    check(compare(samples / name), layers)


def test_an_adapter_trained_on_stories260k_with_its_tied_head(
    stories_adapter: Path, compare: Compare
) -> None:
    analysis = compare(stories_adapter)
    check(analysis, 36)
    head = analysis.comparisons[-1]
    assert head.layer.module == "lm_head"
    assert head.weight is not None
    assert head.weight.tensors == ("model.embed_tokens.weight",)


@pytest.mark.parametrize("shape", [(600, 420), (420, 600), (500, 500)], ids=str)
def test_layers_too_large_for_all_their_vectors_have_the_same_numbers(
    tmp_path: Path, compare: Compare, shape: tuple[int, int]
) -> None:
    base = write_base(tmp_path / "base", {"layers.0.q_proj.weight": weight(*shape)})
    check(compare(write_adapter(tmp_path / "adapter", {"layers.0.q_proj": shape}, base)), 1)


def test_a_layer_that_was_not_trained_changes_nothing(samples: Path, compare: Compare) -> None:
    for comparison in compare(samples / "fresh-r8").comparisons:
        assert column(comparison, "norm_ratio") == 0
        assert column(comparison, "intruders") == 0
        assert column(comparison, "merged_alpha") == column(comparison, "base_alpha")
        texts = {each.name: each.text(comparison) for each in BASE_COLUMNS}
        assert texts["share"] == texts["place"] == "—"


def test_small_singular_values_that_squaring_would_lose_are_found_by_svd(
    tmp_path: Path, compare: Compare
) -> None:
    rng = np.random.default_rng(3)
    u, v = (np.linalg.qr(rng.standard_normal((96, 96)))[0] for _ in range(2))
    steep = (u * np.geomspace(1, 1e-9, 96)) @ v.T
    base = write_base(tmp_path / "base", {"layers.0.q_proj.weight": steep})
    (comparison,) = compare(write_adapter(tmp_path / "a", {"layers.0.q_proj": (96, 96)}, base)).comparisons
    assert comparison.base is not None
    values = np.linalg.svd(steep, compute_uv=False)
    np.testing.assert_allclose(comparison.base.singular_values[:90], values[:90], rtol=1e-6)
    assert column(comparison, "base_points") == 96


@pytest.mark.parametrize("shape", [(48, 32), (32, 48), (500, 420), (420, 500)], ids=str)
@pytest.mark.parametrize("rank", [1, 4])
def test_a_base_of_less_than_ten_directions_has_only_those(
    tmp_path: Path, compare: Compare, shape: tuple[int, int], rank: int
) -> None:
    rng = np.random.default_rng(rank)
    left, right = np.ones((shape[0], 1)), np.ones((1, shape[1]))
    if rank > 1:
        left, right = rng.standard_normal((shape[0], rank)), rng.standard_normal((rank, shape[1]))
    w = (left @ right).astype(np.float32)
    base = write_base(tmp_path / "base", {"layers.0.q_proj.weight": w})
    (found,) = compare(write_adapter(tmp_path / "a", {"layers.0.q_proj": shape}, base)).comparisons
    a, b = (factor.astype(np.float64) for factor in found.layer.factors())
    delta = 2 * b @ a
    u, s, vt = np.linalg.svd(w.astype(np.float64), full_matrices=False)
    assert np.count_nonzero(s > 1e-5 * s[0]) == rank
    share = np.linalg.norm(u[:, :rank].T @ delta @ vt[:rank].T) ** 2 / np.linalg.norm(delta) ** 2
    assert column(found, "share") == pytest.approx(share, rel=1e-4)
    merged = np.linalg.svd(w + delta, full_matrices=False)[0][:, : min(TOP, rank + 8)]
    nearest = np.abs(u[:, :rank].T @ merged).max(axis=0)
    assert column(found, "intruders") == np.count_nonzero(nearest < EPSILON)


def test_an_update_that_leaves_less_than_ten_directions_has_no_intruders_of_rounding(
    tmp_path: Path, compare: Compare
) -> None:
    w = np.ones((48, 32), np.float32)
    base = write_base(tmp_path / "base", {"layers.0.q_proj.weight": w})
    module = {"layers.0.q_proj": (48, 32)}
    (found,) = compare(write_adapter(tmp_path / "a", module, base, rank=2)).comparisons
    assert column(found, "intruders") == 2  # of three directions, one of them W's own


def test_a_base_of_zeros_is_dead_and_takes_no_other_layer_away(tmp_path: Path, compare: Compare) -> None:
    modules = {f"layers.{n}.q_proj": (48, 32) for n in range(2)}
    tensors = {"layers.0.q_proj.weight": np.zeros((48, 32), np.float32)}
    base = write_base(tmp_path / "base", {**tensors, "layers.1.q_proj.weight": weight(48, 32)})
    zero, other = compare(write_adapter(tmp_path / "a", modules, base)).comparisons
    assert zero.problem == ""
    assert zero.base is not None
    assert zero.base.verdict == "dead"
    texts = {each.name: each.text(zero) for each in BASE_COLUMNS}
    assert [texts[name] for name in ("base_alpha", "norm_ratio", "intruders", "place")] == ["—"] * 4
    assert texts["share"] == "0 %"
    check_against_dense(other)


def test_a_base_too_large_for_float64_takes_no_other_layer_away(tmp_path: Path, compare: Compare) -> None:
    modules = {f"layers.{n}.q_proj": (48, 32) for n in range(2)}
    tensors = {"layers.0.q_proj.weight": weight(48, 32).astype(np.float64) * 1e160}
    base = write_base(tmp_path / "base", {**tensors, "layers.1.q_proj.weight": weight(48, 32)})
    large, other = compare(write_adapter(tmp_path / "a", modules, base)).comparisons
    assert large.problem == "The base weight's squared norm is too large for float64."
    check_against_dense(other)


def test_a_matrix_that_lapack_gives_up_on_takes_no_other_layer_away(tmp_path: Path) -> None:
    modules = {f"layers.{n}.q_proj": (48, 32) for n in range(2)}
    base = write_base(tmp_path / "base", {f"{m}.weight": weight(48, 32, n) for n, m in enumerate(modules)})
    asked = []

    def once(matrix: np.ndarray) -> np.ndarray:
        asked.append(len(matrix))
        if len(asked) == 1:
            raise np.linalg.LinAlgError("Eigenvalues did not converge")
        return np.linalg.eigvalsh(matrix)

    adapter = open_adapter(write_adapter(tmp_path / "a", modules, base))
    analysis = BaseAnalysis(adapter, open_base(adapter), eigenvalues=once)
    assert list(analysis.compute()) == [0, 1]
    first, other = analysis.comparisons
    assert first.problem == "It cannot be computed: Eigenvalues did not converge."
    check_against_dense(other)
