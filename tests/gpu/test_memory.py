"""Memory: the preflight's band holds what the GPU gave, for a model of 1.1 billion parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lorabench.training.config.run_config import RunConfig
from lorabench.training.preflight.memory import estimate, setting_of, total
from lorabench.training.preflight.meta_model import meta_model
from lorabench.training.preflight.model_source import source_of
from tests.gpu.conftest import Trained

pytestmark = pytest.mark.gpu

SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
FOUR_BIT = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "dtype": "bfloat16", "bf16": True}
SETTINGS: dict[str, dict[str, Any]] = {
    "bf16": {"dtype": "bfloat16", "bf16": True},
    "bf16, checkpointing": {"dtype": "bfloat16", "bf16": True, "gradient_checkpointing": True},
    "bf16, short rows": {
        "dtype": "bfloat16",
        "bf16": True,
        "max_length": 256,
        "per_device_train_batch_size": 16,
    },
    "float32 under bf16": {"dtype": "float32", "bf16": True},
    "float32": {"dtype": "float32", "per_device_train_batch_size": 2},
    "fp16": {"dtype": "float16", "fp16": True},
    "eager": {"dtype": "bfloat16", "bf16": True, "attn_implementation": "eager"},
    "DoRA": {"dtype": "bfloat16", "bf16": True, "use_dora": True},
    "packed": {"dtype": "bfloat16", "bf16": True, "packing": True, "gradient_checkpointing": True},
    "4 bits": FOUR_BIT,
    "4 bits, nested, checkpointing": FOUR_BIT
    | {"use_bnb_nested_quant": True, "gradient_checkpointing": True, "optim": "paged_adamw_8bit"},
    "8 bits": {"load_in_8bit": True, "dtype": "bfloat16", "bf16": True},
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_band_holds_what_the_gpu_gave(
    setting: str, llama: Path, long_rows: Path, trained: Trained, tmp_path: Path, record_property: Any
) -> None:
    if "bits" in setting:
        pytest.importorskip("bitsandbytes")
    fields: dict[str, Any] = {
        "model_name_or_path": str(llama),
        "dataset_name": str(long_rows),
        "assistant_only_loss": False,
        "lora_r": 16,
        "lora_target_modules": SEVEN,
        "lora_dropout": 0.05,
        "max_length": 1024,
        "per_device_train_batch_size": 4,
        "max_steps": 4,
        "save_strategy": "no",
    }
    measured = trained(**fields | SETTINGS[setting])
    assert measured["state"] == "finished", measured["error"]
    config = RunConfig.load(tmp_path / "run.yaml")
    source, lora = source_of(config), config.peft_config()
    wanted = setting_of(config, source.config, int(config.get("max_length")))
    parts = estimate(source.config, lora, meta_model(source.config, lora), wanted)
    low, high = total(parts)
    told = {name: [round(bound / 1e9, 2) for bound in band] for name, band in parts.items()}
    record_property("parts", json.dumps(told))
    record_property("measured", json.dumps(measured))
    assert low <= measured["peak"] <= high
