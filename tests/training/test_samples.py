"""The shipped samples are what their names say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from trl import ModelConfig, ScriptArguments, SFTConfig, TrlParser, get_peft_config

from lorabench.adapters.open import open_adapter
from lorabench.spectra.analysis import spectra_of
from lorabench.training.demo.adapters import assistant_loss, load_base
from lorabench.training.demo.build import DemoSettings
from lorabench.training.demo.corpus import conversations, split_facts
from lorabench.training.demo.recipes import RECIPES

NAMES = [recipe.name for recipe in RECIPES]


def adapted(samples: Path, name: str) -> PeftModel:
    model, _ = load_base(samples / "demo-model")
    return PeftModel.from_pretrained(model, samples / name)


def lora_layers(model: PeftModel) -> dict[str, LoraLayer]:
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


@pytest.fixture(scope="module")
def losses(samples: Path) -> dict[str, float]:
    """Loss on held-out conversations, of the base model and of each adapter that these tests compare."""
    rows = conversations(split_facts()[1], "captain", 40, seed=7)
    base, tokenizer = load_base(samples / "demo-model")
    found = {"base": assistant_loss(base, tokenizer, rows)}
    for name in NAMES:
        found[name] = assistant_loss(adapted(samples, name), tokenizer, rows)
    return found


def test_all_of_it_stays_small(samples: Path) -> None:
    assert sum(path.stat().st_size for path in samples.rglob("*") if path.is_file()) < 12_000_000


def test_only_what_is_needed_is_there(samples: Path) -> None:
    kept = {
        "adapter_config.json",
        "adapter_model.safetensors",
        "adapter_model.bin",
        "trainer_state.json",
        "run.yaml",
    }
    found = {path.name for name in NAMES for path in (samples / name).rglob("*") if path.is_file()}
    assert found == kept
    assert {path.name for path in samples.iterdir()} == {"README.md", "demo-model", "demo-data", *NAMES}


def test_nothing_tells_where_it_was_built(samples: Path) -> None:
    texts = [path for path in samples.rglob("*") if path.suffix in {".json", ".md", ".yaml", ".jinja"}]
    assert len(texts) > 15
    for path in texts:
        text = path.read_text(encoding="utf-8")
        assert not any(place in text for place in ("/tmp", "/home", "/root", "/work", "/Users", "C:"))
    for path in samples.rglob("adapter_model.*"):
        assert b"/tmp/" not in path.read_bytes()


def test_the_base_model_is_named_as_it_loads_from_beside_the_samples(
    samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(samples.parent)
    for name in NAMES:
        config = json.loads((samples / name / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == "sample_adapters/demo-model"
    model = AutoModelForCausalLM.from_pretrained("sample_adapters/demo-model")
    assert 1_000_000 <= model.num_parameters() <= 3_000_000


@pytest.mark.parametrize("name", NAMES)
def test_the_adapter_changes_the_model_as_its_config_says(samples: Path, name: str) -> None:
    config = json.loads((samples / name / "adapter_config.json").read_text())
    layers = lora_layers(adapted(samples, name))
    assert len(layers) == DemoSettings().layers * len(config["target_modules"])
    deltas = [layer.get_delta_weight("default") for layer in layers.values()]
    assert all(torch.isfinite(delta).all() for delta in deltas)
    assert all((delta.abs().max() > 0) == (name != "fresh-r8") for delta in deltas)


def test_the_readme_tells_the_losses_that_the_files_have(samples: Path) -> None:
    lines = (samples / "demo-data" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    _, tokenizer = load_base(samples / "demo-model")
    readme = (samples / "README.md").read_text(encoding="utf-8")
    told = {name: float(loss) for name, loss in re.findall(r"\| `([\w-]+)/` \|.* ([\d.]+) \|", readme)}
    assert list(told) == NAMES
    for name in ("style-clean-r16", "fresh-r8"):
        assert assistant_loss(adapted(samples, name), tokenizer, rows) == pytest.approx(told[name], abs=2e-3)


def test_the_clean_adapter_learned_the_style_on_facts_that_it_never_saw(losses: dict[str, float]) -> None:
    assert losses["style-clean-r16"] < 0.15 * losses["base"]


def test_the_overtrained_adapter_is_worse_where_it_was_not_trained(losses: dict[str, float]) -> None:
    assert losses["style-overtrained-r32"] > 2 * losses["style-clean-r16"]


def test_every_trained_adapter_is_better_than_the_base_model(losses: dict[str, float]) -> None:
    trained = [name for name in NAMES if name != "fresh-r8"]
    assert all(losses[name] < losses["base"] for name in trained)
    assert losses["fresh-r8"] == losses["base"]


def test_the_overtrained_adapter_learned_its_24_rows_by_heart(
    samples: Path, losses: dict[str, float]
) -> None:
    lines = (samples / "demo-data" / "train.jsonl").read_text(encoding="utf-8").splitlines()[:24]
    model = adapted(samples, "style-overtrained-r32")
    _, tokenizer = load_base(samples / "demo-model")
    seen = assistant_loss(model, tokenizer, [json.loads(line) for line in lines])
    assert seen < 0.2 * losses["style-overtrained-r32"]


def test_the_overtrained_updates_are_larger_and_heavier_tailed(samples: Path) -> None:
    norms, alphas = {}, {}
    for name in ("style-clean-r16", "style-overtrained-r32"):
        spectra = list(spectra_of(open_adapter(samples / name)))
        norms[name] = median(spectrum.frobenius_norm for spectrum in spectra)
        alphas[name] = median(spectrum.alpha.fit.alpha for spectrum in spectra if spectrum.alpha)
    assert norms["style-overtrained-r32"] > 2 * norms["style-clean-r16"]
    assert alphas["style-overtrained-r32"] < alphas["style-clean-r16"]


def test_the_fresh_adapter_has_b_exactly_zero(samples: Path) -> None:
    tensors = load_file(samples / "fresh-r8" / "adapter_model.safetensors")
    factors = {side: [t for name, t in tensors.items() if f"lora_{side}" in name] for side in "AB"}
    assert len(factors["A"]) == len(factors["B"]) == 24
    assert all(torch.count_nonzero(b) == 0 for b in factors["B"])
    assert all(torch.count_nonzero(a) == a.numel() for a in factors["A"])


def test_the_pickled_adapter_loads_without_running_code(samples: Path) -> None:
    folder = samples / "legacy-bin-r8"
    assert not (folder / "adapter_model.safetensors").exists()
    tensors = torch.load(folder / "adapter_model.bin", weights_only=True)
    assert len(tensors) == 48


def test_rslora_has_the_ranks_and_scalings_of_its_patterns(samples: Path) -> None:
    layers = lora_layers(adapted(samples, "rslora-rank-pattern"))
    expected = {
        "q_proj": (16, 16),
        "k_proj": (8, 16),
        "v_proj": (16, 16),
        "o_proj": (32, 8),
        "down_proj": (64, 16),
    }
    for name, layer in layers.items():
        rank, lora_alpha = expected[name.rsplit(".", 1)[-1]]
        assert layer.r["default"] == rank
        assert layer.lora_A["default"].weight.shape[0] == rank
        assert layer.scaling["default"] == pytest.approx(lora_alpha / rank**0.5)


def test_dora_has_a_magnitude_for_every_output(samples: Path) -> None:
    tensors = load_file(samples / "dora-r16" / "adapter_model.safetensors")
    magnitudes = {name: tensor for name, tensor in tensors.items() if "lora_magnitude_vector" in name}
    assert len(magnitudes) == 24
    for name, magnitude in magnitudes.items():
        b = tensors[name.replace("lora_magnitude_vector", "lora_B.weight")]
        assert magnitude.shape == b.shape[:1]
        assert bool((magnitude > 0).all())


def test_the_run_has_checkpoints_whose_log_grows_and_whose_loss_falls(samples: Path) -> None:
    folder = samples / "style-checkpoints-r8"
    checkpoints = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    states = [json.loads((path / "trainer_state.json").read_text()) for path in checkpoints]
    assert [state["global_step"] for state in states] == [60, 120, 180, 240]
    eval_losses = [entry["eval_loss"] for entry in states[-1]["log_history"] if "eval_loss" in entry]
    assert len(eval_losses) == 4
    assert eval_losses == sorted(eval_losses, reverse=True)
    for earlier, later in pairwise(states):
        assert later["log_history"][: len(earlier["log_history"])] == earlier["log_history"]
    final = load_file(folder / "adapter_model.safetensors")
    last = load_file(checkpoints[-1] / "adapter_model.safetensors")
    first = load_file(checkpoints[0] / "adapter_model.safetensors")
    assert all(torch.equal(final[name], last[name]) for name in final)
    assert not any(torch.equal(final[name], first[name]) for name in final)


def test_the_run_yaml_is_what_trl_takes_and_describes_the_adapter(samples: Path) -> None:
    parser = TrlParser((ScriptArguments, SFTConfig, ModelConfig))
    run = str(samples / "style-checkpoints-r8" / "run.yaml")
    script, training, model = parser.parse_args_and_config(["--config", run], fail_with_unknown_args=True)
    assert script.dataset_name == "sample_adapters/demo-data"
    assert model.model_name_or_path == "sample_adapters/demo-model"
    assert (training.max_steps, training.save_steps, training.assistant_only_loss) == (240, 60, True)
    lora = get_peft_config(model)
    config = json.loads((samples / "style-checkpoints-r8" / "adapter_config.json").read_text())
    for name in ("r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "task_type"):
        assert getattr(lora, name) == config[name]
    assert sorted(lora.target_modules) == config["target_modules"]


@pytest.mark.slow
def test_trl_itself_repeats_the_run(samples: Path, tmp_path: Path) -> None:
    run = "sample_adapters/style-checkpoints-r8/run.yaml"
    command = [sys.executable, "-m", "trl.cli.main", "sft", "--config", run, "--output_dir", str(tmp_path)]
    subprocess.run(command, cwd=samples.parent, check=True, capture_output=True)
    ours = load_file(samples / "style-checkpoints-r8" / "adapter_model.safetensors")
    theirs = load_file(tmp_path / "adapter_model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(theirs[name].shape == tensor.shape for name, tensor in ours.items())
