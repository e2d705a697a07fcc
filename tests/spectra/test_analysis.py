"""From a layer in a file to its spectrum, alpha and verdict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lorabench.adapters.model import Adapter
from lorabench.adapters.open import open_adapter
from lorabench.spectra.analysis import analyze_factors, analyze_layer, spectra_of
from lorabench.spectra.model import LayerSpectrum
from lorabench.spectra.weightwatcher import parity_row
from tests.spectra.made import pair_with, power_law_values, random_pair, write_adapter


def spectrum_of(folder: Path, pair: tuple[np.ndarray, np.ndarray], **config: object) -> LayerSpectrum:
    adapter = open_adapter(write_adapter(folder, {"0.self_attn.q_proj": pair}, **config))
    return analyze_layer(adapter.layers[0])


def test_the_spectrum_is_that_of_the_scaled_update(tmp_path):
    a, b = random_pair(60, 50, 8)
    spectrum = spectrum_of(tmp_path, (a, b), lora_alpha=32)
    dense = np.linalg.svd(4.0 * b.astype(float) @ a.astype(float), compute_uv=False)[:8]
    assert spectrum.singular_values == pytest.approx(dense, rel=1e-10)
    assert spectrum.frobenius_norm == pytest.approx(np.linalg.norm(dense), rel=1e-12)
    assert spectrum.spectral_norm == pytest.approx(dense[0], rel=1e-12)
    assert spectrum.norm_a == pytest.approx(np.linalg.norm(a), rel=1e-6)
    assert spectrum.norm_b == pytest.approx(np.linalg.norm(b), rel=1e-6)


def test_rslora_divides_by_the_root_of_the_rank(tmp_path):
    pair = random_pair(60, 50, 16)
    plain = spectrum_of(tmp_path / "plain", pair)
    stabilised = spectrum_of(tmp_path / "rs", pair, use_rslora=True)
    assert stabilised.spectral_norm == pytest.approx(4 * plain.spectral_norm, rel=1e-12)
    assert stabilised.alpha.fit.alpha == pytest.approx(plain.alpha.fit.alpha, rel=1e-9)


def test_ranks_say_how_many_directions_carry_the_update(tmp_path):
    spectrum = spectrum_of(tmp_path, pair_with(np.array([2.0, 1.0, 1.0, 1.0]), 30, 20), lora_alpha=4)
    assert spectrum.stable_rank == pytest.approx(7 / 4)
    p = np.array([0.4, 0.2, 0.2, 0.2])
    assert spectrum.effective_rank == pytest.approx(np.exp(-np.sum(p * np.log(p))))
    assert (spectrum.rank90, spectrum.rank95, spectrum.rank99) == (4, 4, 4)
    steep = spectrum_of(tmp_path / "steep", pair_with(np.array([10.0, 3.0, 1.0, 0.1]), 30, 20))
    assert (steep.rank90, steep.rank95, steep.rank99) == (1, 2, 2)


@pytest.mark.parametrize(("alpha", "word"), [(1.4, "heavy-tailed"), (3.2, "well-formed")])
def test_a_known_power_law_is_found_with_its_verdict(tmp_path, alpha, word):
    spectrum = spectrum_of(tmp_path, pair_with(power_law_values(alpha, 128, seed=3), 3000, 2000))
    assert spectrum.alpha.low < alpha < spectrum.alpha.high
    assert spectrum.verdict.word == word
    assert f"alpha {spectrum.alpha.fit.alpha:.3g}" in spectrum.verdict.reason


def test_an_untrained_update_is_random_like(tmp_path):
    spectrum = spectrum_of(tmp_path, random_pair(2048, 2048, 64))
    assert spectrum.alpha.null_low < spectrum.alpha.fit.alpha < spectrum.alpha.null_high
    assert spectrum.verdict.word == "random-like"


def test_a_layer_of_rank_8_near_a_border_is_undecided(tmp_path):
    spectrum = spectrum_of(tmp_path, pair_with(power_law_values(2.0, 8, seed=1), 60, 50))
    assert spectrum.verdict.word == "undecided"
    assert "8 points in the tail are too few to tell" in spectrum.verdict.reason


@pytest.mark.parametrize("factor", ["A", "B"])
def test_a_zero_factor_makes_a_dead_layer_without_a_fit(tmp_path, factor):
    a, b = random_pair(60, 50, 8)
    pair = (np.zeros_like(a), b) if factor == "A" else (a, np.zeros_like(b))
    spectrum = spectrum_of(tmp_path, pair)
    assert spectrum.verdict.word == "dead"
    assert spectrum.verdict.reason.startswith(f"{factor} is zero throughout")
    assert spectrum.alpha is None
    assert spectrum.singular_values.tolist() == [0] * 8
    assert (spectrum.stable_rank, spectrum.effective_rank, spectrum.rank90) == (0, 0, 0)


def test_an_update_that_cancels_is_dead(tmp_path):
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((50, 8)))[0]
    a = np.vstack([basis.T, basis.T])
    half = rng.standard_normal((60, 8))
    spectrum = spectrum_of(tmp_path, (a, np.hstack([half, -half])))
    assert spectrum.verdict.word == "dead"
    assert "cancels" in spectrum.verdict.reason


def test_a_scaling_of_zero_and_a_vanishing_update_are_dead(tmp_path):
    a, b = random_pair(60, 50, 8)
    assert spectrum_of(tmp_path / "zero", (a, b), lora_alpha=0).verdict.word == "dead"
    tiny = spectrum_of(tmp_path / "tiny", (a * np.float32(1e-20), b * np.float32(1e-20)))
    assert tiny.verdict.word == "dead"
    assert "below the smallest float32" in tiny.verdict.reason


@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1e3])
def test_alpha_and_verdict_do_not_depend_on_the_scale(tmp_path, scale):
    a, b = random_pair(300, 200, 32, decay=1e-2)
    plain = spectrum_of(tmp_path / "plain", (a, b))
    scaled = spectrum_of(tmp_path / "scaled", (a, b * np.float32(scale)))
    assert scaled.alpha.fit.alpha == pytest.approx(plain.alpha.fit.alpha, rel=1e-4)
    assert scaled.verdict.word == plain.verdict.word
    assert scaled.alpha.fit.xmin == pytest.approx(plain.alpha.fit.xmin * scale**2, rel=1e-4)


def test_our_alpha_is_weightwatchers_where_its_cut_removes_nothing(tmp_path):
    spectrum = spectrum_of(tmp_path, random_pair(300, 200, 32, decay=0.1))
    row = parity_row(spectrum, 0)
    assert row["sv_min"] ** 2 > 1e-5
    assert row["alpha"] == pytest.approx(spectrum.alpha.fit.alpha, rel=1e-9)
    assert row["num_pl_spikes"] == spectrum.alpha.fit.tail
    scaling = spectrum.layer.scaling
    assert row["xmin"] == pytest.approx(spectrum.alpha.fit.xmin / scaling**2, rel=1e-9)


def test_what_the_rounding_of_the_stored_type_hides_does_not_enter_the_fit(tmp_path):
    """Three real directions stored in float16: the rest of the spectrum is their rounding."""
    a, b = random_pair(300, 200, 8)
    b[:, 3:] = b[:, :1] @ np.ones((1, 5), np.float32)
    a[3:] = a[:1]
    spectrum = spectrum_of(tmp_path, (a.astype(np.float16), b.astype(np.float16)))
    assert spectrum.alpha.fit.points == 3


def test_an_unknown_scaling_counts_as_one_and_says_so(tmp_path):
    a, b = random_pair(60, 50, 8)
    folder = write_adapter(tmp_path, {"0.self_attn.q_proj": (a, b)})
    (folder / "adapter_config.json").unlink()
    spectrum = analyze_layer(open_adapter(folder).layers[0])
    dense = np.linalg.norm(b.astype(float) @ a.astype(float))
    assert spectrum.frobenius_norm == pytest.approx(dense, rel=1e-12)
    assert any("counts as 1" in finding.message for finding in spectrum.findings)


def test_a_bad_layer_is_unreadable_and_the_others_are_analyzed(tmp_path):
    sound, bad = random_pair(60, 50, 8), random_pair(60, 50, 8, seed=1)
    bad[1][7, 3] = np.nan
    misfit = (sound[0], random_pair(60, 50, 6)[1])
    pairs = {"0.self_attn.q_proj": sound, "1.self_attn.q_proj": bad, "2.self_attn.q_proj": misfit}
    adapter = open_adapter(write_adapter(tmp_path, pairs))
    first, second, third = spectra_of(adapter)
    assert first.alpha is not None
    assert second.verdict.word == third.verdict.word == "unreadable"
    assert "lora_B.weight holds 1 NaN" in second.verdict.reason
    assert [finding.level for finding in second.findings] == ["error"]
    assert [finding.level for finding in third.findings] == ["error"]
    assert second.singular_values.size == 0
    assert np.isnan(second.frobenius_norm)


@pytest.mark.parametrize("scale", [1e100, 1e200, 1e300])
def test_float64_values_too_large_to_square_make_an_unreadable_layer(tmp_path, scale):
    a, b = random_pair(60, 50, 8)
    spectrum = spectrum_of(tmp_path, (a.astype(float) * scale, b.astype(float) * scale))
    assert spectrum.verdict.word == "unreadable"
    assert "too large for float64" in spectrum.verdict.reason


def test_an_absurd_rank_costs_no_more_memory_than_its_factors(tmp_path):
    a, b = random_pair(3, 2, 200_000)
    spectrum = spectrum_of(tmp_path, (a, b), lora_alpha=200_000)
    dense = np.linalg.svd(b.astype(float) @ a.astype(float), compute_uv=False)
    assert spectrum.singular_values == pytest.approx(dense, rel=1e-10)


def test_a_file_that_vanishes_under_the_analysis_makes_unreadable_layers(tmp_path):
    folder = write_adapter(tmp_path, {"0.self_attn.q_proj": random_pair(60, 50, 8)})
    adapter = open_adapter(folder)
    (folder / "adapter_model.safetensors").write_bytes(b"short")
    assert analyze_layer(adapter.layers[0]).verdict.word == "unreadable"


def test_factors_are_analyzed_each_alone(tmp_path):
    a, b = random_pair(60, 50, 8)
    adapter = open_adapter(write_adapter(tmp_path, {"0.self_attn.q_proj": (a, b)}, lora_alpha=64))
    of_a, of_b = analyze_factors(adapter.layers[0])
    assert (of_a.part, of_b.part) == ("A", "B")
    assert of_a.singular_values == pytest.approx(np.linalg.svd(a.astype(float))[1], rel=1e-6)
    assert of_b.singular_values == pytest.approx(np.linalg.svd(b.astype(float))[1][:8], rel=1e-6)
    assert of_b.frobenius_norm == pytest.approx(of_b.norm_b)


@pytest.mark.parametrize("workers", [1, 3, None])
def test_spectra_come_in_the_order_of_the_layers(tmp_path, workers):
    pairs = {f"{depth}.self_attn.q_proj": random_pair(60 + depth, 50, 8, seed=depth) for depth in range(12)}
    adapter = open_adapter(write_adapter(tmp_path, pairs))
    spectra = list(spectra_of(adapter, workers=workers))
    assert [spectrum.layer.name for spectrum in spectra] == [layer.name for layer in adapter.layers]
    assert [s.frobenius_norm for s in spectra] == [analyze_layer(x).frobenius_norm for x in adapter.layers]


class CountedLayers(tuple):
    """Layers that count how many of them have been taken."""

    taken = 0

    def __iter__(self) -> Iterator[object]:
        for layer in super().__iter__():
            self.taken += 1
            yield layer


def test_work_runs_at_most_a_few_layers_ahead_and_stops_when_closed(tmp_path):
    adapter = open_adapter(write_adapter(tmp_path, {"0.self_attn.q_proj": random_pair(60, 50, 8)}))
    layers = CountedLayers([adapter.layers[0]] * 500)
    stream = spectra_of(replace(adapter, layers=layers), workers=2)
    next(stream)
    next(stream)
    assert layers.taken <= 2 + 2 * 2 + 1
    stream.close()
    assert layers.taken <= 2 + 2 * 2 + 1


def test_an_adapter_without_layers_has_no_spectra():
    empty = Adapter(name="empty", path=None, format="PEFT", config={}, layers=())
    assert list(spectra_of(empty)) == []
