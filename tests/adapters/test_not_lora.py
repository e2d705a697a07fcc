"""Adapters of other kinds end in a sentence that says what they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
from safetensors.numpy import save_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from lorabench.adapters.kinds import not_lora
from lorabench.adapters.open import open_adapter
from lorabench.errors import NotFound, NotLora

Saved = Callable[[Any], Path]


def llama() -> LlamaForCausalLM:
    config = LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, vocab_size=30
    )
    return LlamaForCausalLM(config)


TARGETS = ["q_proj", "v_proj"]
CONFIGS: dict[str, tuple[Any, str]] = {
    "IA3": (lambda: peft.IA3Config(target_modules=TARGETS, feedforward_modules=[]), "IA³"),
    "AdaLoRA": (lambda: peft.AdaLoraConfig(target_modules=TARGETS, total_step=10), "AdaLoRA"),
    "LoHa": (lambda: peft.LoHaConfig(target_modules=TARGETS), "LoHa"),
    "LoKr": (lambda: peft.LoKrConfig(target_modules=TARGETS), "LoKr"),
    "OFT": (lambda: peft.OFTConfig(target_modules=TARGETS, r=0, oft_block_size=4), "OFT"),
    "VeRA": (lambda: peft.VeraConfig(target_modules=TARGETS), "VeRA"),
    "FourierFT": (lambda: peft.FourierFTConfig(target_modules=TARGETS, n_frequency=10), "FourierFT"),
    "HRA": (lambda: peft.HRAConfig(target_modules=TARGETS, r=4), "HRA"),
    "prompt tuning": (
        lambda: peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
        "prompt tuning",
    ),
    "LN tuning": (lambda: peft.LNTuningConfig(target_modules=["input_layernorm"]), "layer-norm tuning"),
}


@pytest.mark.parametrize(("config", "words"), CONFIGS.values(), ids=CONFIGS.keys())
def test_what_peft_saves_of_another_kind_is_said(config: Any, words: str, saved: Saved) -> None:
    folder = saved(peft.get_peft_model(llama(), config()))
    with pytest.raises(NotLora, match=words):
        open_adapter(folder)


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - {"LN tuning"}))
def test_the_tensors_alone_tell_it_too(name: str, saved: Saved) -> None:
    config, words = CONFIGS[name]
    folder = saved(peft.get_peft_model(llama(), config()))
    (folder / "adapter_config.json").unlink()
    with pytest.raises(NotLora, match=words):
        open_adapter(folder)


def test_every_type_that_peft_has_is_known() -> None:
    unnamed = [
        kind.value
        for kind in peft.PeftType
        if kind.value != "LORA" and "PEFT type" in not_lora("x", kind.value).message
    ]
    assert unnamed == []


def test_a_type_of_the_future_is_named_as_it_is(tmp_path: Path) -> None:
    save_file({"a.newra_x": np.ones((2, 2), np.float32)}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "NEWRA\x1b[2J"}))
    with pytest.raises(NotLora, match="an adapter of PEFT type NEWRA␛"):
        open_adapter(tmp_path)


def test_in_memory_as_well() -> None:
    model = peft.get_peft_model(nn.Sequential(nn.Linear(8, 8)), peft.LoHaConfig(target_modules=["0"]))
    with pytest.raises(NotLora, match="LoHa"):
        open_adapter(model)


def test_a_whole_model_is_said_to_be_one(shared_data: Path) -> None:
    with pytest.raises(NotFound, match="whole model"):
        open_adapter(shared_data / "models" / "stories260K" / "model.safetensors")


@pytest.mark.parametrize("option", ["use_qalora", "use_bdlora", "kasa_config"])
def test_a_variant_whose_update_is_another_gives_no_numbers(option: str) -> None:
    tensors = {"x.lora_A.weight": np.ones((2, 4), np.float32), "x.lora_B.weight": np.ones((4, 2), np.float32)}
    adapter = open_adapter(tensors, config={"r": 2, "lora_alpha": 2, option: {"a": 1}})
    assert [finding.level for finding in adapter.layers[0].findings] == ["error"]
    assert "ΔW is not B·A" in adapter.layers[0].findings[0].message
