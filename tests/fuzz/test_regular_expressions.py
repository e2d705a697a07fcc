"""Hostile regular expressions: they get their second, and no more, however many there are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lorabench.adapters.open import open_adapter
from tests.fuzz.bounds import LONG, sentence_or

CATASTROPHIC = ["(.+)+X", "(a|aa)+$", "(.*.*)*X", "((((.*)*)*)*)*X", "(?=(.+)+X).*"]
LONG_NAME = "layers.0." + "a" * 60 + "b"


def opened(path: Path) -> str:
    """Open an adapter and return what it has been found to be."""
    return "\n".join(finding.message for finding in open_adapter(path).findings)


def saved(path: Path, modules: list[str]) -> None:
    shapes = {"A": (2, 4), "B": (4, 2)}
    tensors = {
        f"{module}.lora_{part}.weight": np.ones(shape, np.float32)
        for module in modules
        for part, shape in shapes.items()
    }
    save_file(tensors, path)


@pytest.mark.parametrize("pattern", CATASTROPHIC if LONG else CATASTROPHIC[:1])
@pytest.mark.parametrize("key", ["rank_pattern", "alpha_pattern"])
def test_a_pattern_that_would_run_for_years_is_a_finding(key: str, pattern: str, tmp_path: Path) -> None:
    saved(tmp_path / "adapter_model.safetensors", [LONG_NAME])
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 2, key: {pattern: 4}}))
    said = sentence_or(lambda: opened(tmp_path))
    assert f"{key} cannot be applied: its regular expressions took longer than" in said


def test_two_of_them_and_a_hundred_adapters_in_one_file_share_the_time(tmp_path: Path) -> None:
    tensors = {}
    for number in range(100):
        tensors[f"{LONG_NAME}.lora_A.evil{number}.weight"] = np.ones((2, 4), np.float32)
        tensors[f"{LONG_NAME}.lora_B.evil{number}.weight"] = np.ones((4, 2), np.float32)
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    config = {"r": 2, "lora_alpha": 2, "rank_pattern": {"(.+)+X": 4}, "alpha_pattern": {"(.+)+Y": 4}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    assert "took longer than" in sentence_or(lambda: opened(tmp_path))


def test_a_hundred_components_of_diffusers_share_the_time(tmp_path: Path) -> None:
    names = [f"part{number}.transformer_blocks.0.{LONG_NAME}" for number in range(100)]
    tensors = {f"{name}.lora_A.weight": np.ones((2, 4), np.float32) for name in names}
    tensors |= {f"{name}.lora_B.weight": np.ones((4, 2), np.float32) for name in names}
    told = {f"part{number}.rank_pattern": {"(.+)+X": 4} for number in range(100)}
    path = tmp_path / "pytorch_lora_weights.safetensors"
    save_file(tensors, path, {"lora_adapter_metadata": json.dumps(told)})
    assert "took longer than" in sentence_or(lambda: opened(path))
