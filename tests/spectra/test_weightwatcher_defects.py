"""Where WeightWatcher 0.7.7 is wrong or silent, and what lorabench says instead.

The twelfth, a table of LoRA alphas beside those of the base model, is no defect of the spectrum and has no
test here.
"""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lorabench.adapters.open import open_adapter
from lorabench.spectra.analysis import analyze_layer, spectra_of
from lorabench.spectra.model import Verdict
from lorabench.spectra.weightwatcher import analyze_rows, parity_row
from tests.spectra.made import PREFIX, pair_with, power_law_values, random_pair, write_adapter, write_config

Q, V = f"{PREFIX}0.self_attn.q_proj", f"{PREFIX}0.self_attn.v_proj"


def dense_norm(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(b.astype(float) @ a.astype(float)))


def add_tensors(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    file = folder / "adapter_model.safetensors"
    save_file({**load_file(file), **tensors}, file)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_defect_1_one_zero_or_nan_module_does_not_end_the_run(tmp_path, value):
    sound, bad = random_pair(64, 48, 8), random_pair(64, 48, 8, seed=1)
    bad[1][:] = value
    folder = write_adapter(tmp_path, {"0.self_attn.q_proj": bad, "0.self_attn.v_proj": sound})
    first, second = spectra_of(open_adapter(folder))
    assert first.verdict.word == ("dead" if value == 0 else "unreadable")
    assert second.alpha is not None
    rows = analyze_rows(open_adapter(folder))
    assert [row["status"] for row in rows] == ["failed", "success"]
    assert rows[1]["alpha"] > 1


@pytest.mark.parametrize(("side", "rank"), [(48, 1), (48, 64), (64, 96)])
def test_defect_2_b_before_a_and_any_rank_give_the_spectrum_of_b_times_a(side, rank):
    a, b = random_pair(64, side, rank)
    adapter = open_adapter({f"{Q}.lora_B.weight": b, f"{Q}.lora_A.weight": a})
    spectrum = analyze_layer(adapter.layers[0])
    assert spectrum.singular_values.shape == (min(rank, 64, side),)
    assert spectrum.frobenius_norm == pytest.approx(dense_norm(a, b), rel=1e-9)


def test_defect_3_a_factor_without_its_partner_is_no_row_and_does_not_shift_the_others(tmp_path):
    folder = write_adapter(tmp_path, {"0.self_attn.q_proj": random_pair(64, 48, 8)})
    add_tensors(folder, {f"{V}.lora_A.weight": random_pair(64, 48, 8)[0]})
    adapter = open_adapter(folder)
    assert [row["name"] for row in analyze_rows(adapter)] == [f"{Q}.lora_BA"]
    whole, lone = spectra_of(adapter)
    assert (whole.layer.module_type, lone.layer.module_type) == ("q_proj", "v_proj")
    assert whole.alpha is not None
    assert lone.verdict == Verdict("unreadable", "B is missing: the layer has only its A.")
    factors = [row["name"] for row in analyze_rows(adapter, peft=False)]
    assert factors == [f"{Q}.lora_A", f"{Q}.lora_B", f"{V}.lora_A"]
    small = [(row["status"], row["M"], row["N"]) for row in analyze_rows(adapter, every=True)]
    assert small == [("success", 48, 64), ("failed", 0, 48)]


def test_defect_4_two_adapters_in_one_model_are_each_paired_with_their_own(tmp_path):
    one, two = random_pair(64, 48, 8, seed=1), random_pair(64, 48, 8, seed=2)
    state = {}
    for module in (Q, V):
        for name, (a, b) in {"default": one, "other": two}.items():
            state[f"{module}.lora_A.{name}.weight"], state[f"{module}.lora_B.{name}.weight"] = a, b
    expected = {"default": dense_norm(*one), "other": dense_norm(*two)}
    spectra = list(spectra_of(open_adapter(state)))
    assert sorted(s.layer.adapter for s in spectra) == ["default", "default", "other", "other"]
    for spectrum in spectra:
        assert spectrum.frobenius_norm == pytest.approx(expected[spectrum.layer.adapter], rel=1e-9)


@pytest.mark.parametrize(
    ("config", "scaling"),
    [
        ({"lora_alpha": 32}, 32 / 8),
        ({"lora_alpha": 32, "use_rslora": True}, 32 / np.sqrt(8)),
        ({"lora_alpha": 32, "alpha_pattern": {"q_proj": 4}}, 4 / 8),
        ({"lora_alpha": 32, "rank_pattern": {"q_proj": 8}, "r": 4}, 32 / 8),
    ],
)
def test_defect_5_norms_are_those_of_the_scaled_update(tmp_path, config, scaling):
    a, b = random_pair(64, 48, 8)
    folder = write_adapter(tmp_path, {"0.self_attn.q_proj": (a, b)})
    write_config(folder, **{"r": 8, **config})
    spectrum = analyze_layer(open_adapter(folder).layers[0])
    assert spectrum.frobenius_norm == pytest.approx(scaling * dense_norm(a, b), rel=1e-9)


def test_defect_6_alpha_does_not_depend_on_the_scale_and_a_failed_fit_is_not_over_trained(tmp_path):
    a, b = random_pair(300, 200, 32, decay=0.03)
    alphas, words, rows = [], [], []
    for index, scale in enumerate((1.0, 1e-3, 1e-5)):
        pair = (a, b * np.float32(scale))
        adapter = open_adapter(write_adapter(tmp_path / str(index), {"0.self_attn.q_proj": pair}))
        spectrum = analyze_layer(adapter.layers[0])
        alphas.append(spectrum.alpha.fit.alpha)
        words.append(spectrum.verdict.word)
        rows.append(parity_row(spectrum, 0))
    assert alphas == pytest.approx([alphas[0]] * 3, rel=1e-5)
    assert len(set(words)) == 1
    assert abs(rows[1]["alpha"] / rows[0]["alpha"] - 1) > 0.05
    assert (rows[2]["alpha"], rows[2]["status"], rows[2]["warning"]) == (-1, "failed", "")


@pytest.mark.parametrize("rank", [2, 4, 7])
def test_defect_7_fewer_than_eight_eigenvalues_are_reported(tmp_path, rank):
    folder = write_adapter(tmp_path, {"0.self_attn.q_proj": random_pair(64, 48, rank)})
    spectrum = analyze_layer(open_adapter(folder).layers[0])
    assert spectrum.singular_values.shape == (rank,)
    assert spectrum.alpha.fit.points == rank
    assert spectrum.alpha.low < spectrum.alpha.fit.alpha < spectrum.alpha.high


def test_defect_7_sigma_of_few_eigenvalues_belongs_to_their_alpha(tmp_path):
    pair = pair_with(power_law_values(2.0, 12, seed=1), 64, 48)
    pair = (pair[0], pair[1] * np.array([0.3] * 5 + [1e-5] * 7))
    row = analyze_rows(open_adapter(write_adapter(tmp_path, {"0.self_attn.q_proj": pair})))[0]
    assert row["num_pl_spikes"] == 5
    assert row["sigma"] == pytest.approx((row["alpha"] - 1) / np.sqrt(5))


def test_defect_8_alpha_has_an_interval_and_is_compared_with_noise(tmp_path):
    """At r = 8 a true alpha of 3 may be fitted anywhere from 2.2 to 5.1: the interval says so."""
    folder = write_adapter(tmp_path / "law", {"0.q": pair_with(power_law_values(3.0, 8, seed=2), 64, 48)})
    known = analyze_layer(open_adapter(folder).layers[0])
    assert known.alpha.low < 3 < known.alpha.high
    assert known.alpha.high - known.alpha.low > 1
    folder = write_adapter(tmp_path / "noise", {"0.q": random_pair(1024, 1024, 64)})
    noise = analyze_layer(open_adapter(folder).layers[0])
    assert noise.alpha.null_low < noise.alpha.fit.alpha < noise.alpha.null_high
    assert noise.verdict.word == "random-like"
    assert parity_row(noise, 0)["warning"] == "under-trained"


def test_defect_9_dora_conv_embedding_and_saved_modules_are_not_passed_over(tmp_path):
    folder = write_adapter(tmp_path, {"0.self_attn.q_proj": random_pair(64, 48, 8)})
    rng = np.random.default_rng(0)
    conv_a = rng.standard_normal((8, 3, 3, 3)).astype(np.float32)
    conv_b = rng.standard_normal((16, 8, 1, 1)).astype(np.float32)
    embedding_a = rng.standard_normal((8, 100)).astype(np.float32)
    embedding_b = rng.standard_normal((48, 8)).astype(np.float32)
    add_tensors(
        folder,
        {
            f"{Q}.lora_magnitude_vector": np.ones(64, np.float32),
            "base_model.model.conv.lora_A.weight": conv_a,
            "base_model.model.conv.lora_B.weight": conv_b,
            "base_model.model.embed_tokens.lora_embedding_A": embedding_a,
            "base_model.model.embed_tokens.lora_embedding_B": embedding_b,
            "base_model.model.score.weight": np.ones((2, 48), np.float32),
        },
    )
    adapter = open_adapter(folder)
    found = {spectrum.layer.module_type: spectrum for spectrum in spectra_of(adapter)}
    assert found.keys() == {"q_proj", "conv", "embed_tokens"}
    assert any("DoRA" in finding.message for finding in found["q_proj"].findings)
    conv = 2.0 * dense_norm(conv_a.reshape(8, 27), conv_b.reshape(16, 8))
    assert found["conv"].frobenius_norm == pytest.approx(conv, rel=1e-9)
    embedding = 2.0 * dense_norm(embedding_a, embedding_b)
    assert found["embed_tokens"].frobenius_norm == pytest.approx(embedding, rel=1e-9)
    assert "base_model.model.score.weight" in [other.tensor.name for other in adapter.others]


def test_defect_10_a_file_an_odd_folder_and_a_model_beside_the_adapter_are_found(tmp_path):
    pair = random_pair(64, 48, 8)
    folder = write_adapter(tmp_path / "run[1]", {"0.self_attn.q_proj": pair})
    save_file({"other.weight": np.ones((64, 64), np.float32)}, folder / "model.safetensors")
    for path in (folder, folder / "adapter_model.safetensors"):
        rows = analyze_rows(open_adapter(path))
        assert [row["name"] for row in rows] == [f"{Q}.lora_BA"]
        assert np.sqrt(rows[0]["norm"]) == pytest.approx(dense_norm(*pair), rel=1e-9)


def test_defect_11_the_product_is_never_formed(tmp_path):
    """The product of this layer would be 24 GB. How much faster that is, tests/benchmarks measures."""
    a, b = random_pair(60_000, 50_000, 8)
    layer = open_adapter(write_adapter(tmp_path, {"0.self_attn.q_proj": (a, b)})).layers[0]
    tracemalloc.start()
    try:
        spectrum = analyze_layer(layer)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * (a.nbytes + b.nbytes)
    gram = (b.astype(float).T @ b.astype(float)) @ (a.astype(float) @ a.astype(float).T)
    assert spectrum.frobenius_norm == pytest.approx(2 * np.sqrt(np.trace(gram)), rel=1e-9)
