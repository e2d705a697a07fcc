"""Base models and adapters of known weights, written as PEFT and transformers write them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

Tensors = Mapping[str, np.ndarray]


def weight(out: int, inner: int, seed: int = 0, directions: int = 12) -> np.ndarray:
    """Return noise with some strong directions in it, float32, shape (out, inner)."""
    rng, directions = np.random.default_rng(seed), min(directions, out, inner)
    matrix = rng.standard_normal((out, inner)) / np.sqrt(inner)
    u = np.linalg.qr(rng.standard_normal((out, directions)))[0]
    v = np.linalg.qr(rng.standard_normal((inner, directions)))[0]
    return (matrix + (u * np.geomspace(9, 2.5, directions)) @ v.T).astype(np.float32)


def write_base(folder: Path, tensors: Tensors, shards: int = 1, **config: Any) -> Path:
    """Write a model: one file, or several with an index."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    stored = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    if shards == 1:
        save_file(stored, folder / "model.safetensors")
        return folder
    names = sorted(stored)
    files = {
        name: f"model-{1 + at % shards:05d}-of-{shards:05d}.safetensors" for at, name in enumerate(names)
    }
    for file in set(files.values()):
        save_file({name: stored[name] for name in names if files[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    return folder


def write_adapter(
    folder: Path, modules: Mapping[str, tuple[int, int]], base: object, rank: int = 8, **config: Any
) -> Path:
    """Write a PEFT adapter of random factors: module → (out, in) of its ΔW."""
    rng = np.random.default_rng(5)
    tensors = {}
    for module, (out, inner) in modules.items():
        a, b = rng.standard_normal((rank, inner)), rng.standard_normal((out, rank)) * 0.05
        tensors[f"base_model.model.{module}.lora_A.weight"] = a.astype(np.float32)
        tensors[f"base_model.model.{module}.lora_B.weight"] = b.astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "base_model_name_or_path": str(base)}
    (folder / "adapter_config.json").write_text(json.dumps({**settings, **config}))
    return folder
