"""Adapters and spectra made for a test, with known answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

Array = npt.NDArray[Any]
Pair = tuple[Array, Array]

PREFIX = "base_model.model.model.layers."


def write_adapter(folder: Path, pairs: dict[str, Pair], lora_alpha: float = 16, **config: Any) -> Path:
    """Write a PEFT adapter: module under `PREFIX` (`0.self_attn.q_proj`) → (A, B); other config as given."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for module, (a, b) in pairs.items():
        tensors[f"{PREFIX}{module}.lora_A.weight"] = np.ascontiguousarray(a)
        tensors[f"{PREFIX}{module}.lora_B.weight"] = np.ascontiguousarray(b)
    save_file(tensors, folder / "adapter_model.safetensors")
    rank = next(iter(pairs.values()))[0].shape[0]
    write_config(folder, r=rank, lora_alpha=lora_alpha, **config)
    return folder


def write_config(folder: Path, **config: Any) -> None:
    """Write `adapter_config.json` for LoRA."""
    text = json.dumps({"peft_type": "LORA", "task_type": "CAUSAL_LM", **config})
    (folder / "adapter_config.json").write_text(text)


def random_pair(out_features: int, in_features: int, rank: int, seed: int = 0, decay: float = 1.0) -> Pair:
    """Draw A as PEFT initialises it and B Gaussian, B's columns falling geometrically from 1 to `decay`."""
    rng = np.random.default_rng(seed)
    a = rng.uniform(-1, 1, (rank, in_features)) / np.sqrt(in_features)
    b = rng.standard_normal((out_features, rank)) * np.geomspace(1, decay, rank)
    return a.astype(np.float32), b.astype(np.float32)


def pair_with(singular_values: Array, out_features: int, in_features: int, seed: int = 0) -> Pair:
    """Build A and B, float64, so that B·A has these singular values to nearly full relative accuracy."""
    rng = np.random.default_rng(seed)
    rank = len(singular_values)
    left = np.linalg.qr(rng.standard_normal((out_features, rank)))[0]
    right = np.linalg.qr(rng.standard_normal((in_features, rank)))[0]
    return right.T, left * singular_values


def power_law_values(alpha: float, points: int, seed: int = 0) -> Array:
    """Draw singular values whose squares follow p(λ) ∝ λ^-alpha above 1, descending."""
    eigenvalues = np.random.default_rng(seed).uniform(size=points) ** (-1 / (alpha - 1))
    return np.sqrt(np.sort(eigenvalues)[::-1])
