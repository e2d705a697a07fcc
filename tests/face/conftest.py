"""Adapters of known spectra, and a workbench on them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lorabench.app import LorabenchApp
from lorabench.runs.device import Device

Names = dict[str, np.ndarray]


def factors(
    rng: np.random.Generator, out: int, inner: int, eigenvalues: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A and B whose product has these eigenvalues λ = σ² (orthonormal sides, σ split evenly)."""
    u, _ = np.linalg.qr(rng.standard_normal((out, eigenvalues.size)))
    v, _ = np.linalg.qr(rng.standard_normal((inner, eigenvalues.size)))
    quarter = eigenvalues**0.25
    return (quarter[:, None] * v.T).astype(np.float32), (u * quarter).astype(np.float32)


def power_law(alpha: float, n: int) -> np.ndarray:
    """The n quantiles of a power law with this exponent, from x_min = 1."""
    return (1 - (np.arange(n) + 0.5) / n) ** (-1 / (alpha - 1))


def write_adapter(folder: Path, layers: int = 4, r: int = 16, size: int = 64) -> Path:
    """Write a PEFT adapter: q heavy-tailed, v well-formed, w random, up dead (B = 0)."""
    rng = np.random.default_rng(layers)
    tensors: Names = {}
    for layer in range(layers):
        made = {
            "attn.q_proj": factors(rng, size, size, power_law(1.4, r)),
            "attn.v_proj": factors(rng, size, size, power_law(3.0, r)),
            "attn.w_proj": (
                rng.standard_normal((r, size)).astype(np.float32),
                rng.standard_normal((size, r)).astype(np.float32),
            ),
            "mlp.up_proj": (
                rng.standard_normal((r, size)).astype(np.float32),
                np.zeros((2 * size, r), np.float32),
            ),
        }
        for module, (a, b) in made.items():
            prefix = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{prefix}.lora_A.weight"] = a
            tensors[f"{prefix}.lora_B.weight"] = b
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": "tiny/base",
        "r": r,
        "lora_alpha": 2 * r,
        "target_modules": ["q_proj", "v_proj", "w_proj", "up_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """An output folder: two adapters, a run with a checkpoint, a run without, and a damaged adapter."""
    folder = tmp_path / "outputs"
    write_adapter(folder / "style-r16")
    write_adapter(folder / "run[1]" / "checkpoint-500", layers=2)
    write_adapter(folder / "run[1]", layers=2)
    state = {
        "global_step": 500,
        "max_steps": 1000,
        "log_history": [{"step": step, "loss": 3 - step / 250} for step in range(100, 600, 100)],
    }
    (folder / "run[1]" / "checkpoint-500" / "trainer_state.json").write_text(json.dumps(state))
    events = [
        {"time": 1, "kind": "started", "total_steps": 1000},
        {"time": 2, "kind": "log", "step": 1000, "loss": 0.5},
        {"time": 3, "kind": "finished"},
    ]
    (folder / "run[1]" / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (folder / "new").mkdir()
    (folder / "new" / "run.yaml").write_text("lora_r: 8\n")
    damaged = write_adapter(folder / "damaged", layers=1)
    (damaged / "adapter_model.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{broken}")
    return folder


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show one device on every machine."""
    shown = Device("CPU, 2 cores", 3_100_000_000, 25_300_000_000)
    monkeypatch.setattr("lorabench.runs.device.read_device", lambda: shown)


@pytest.fixture
def workbench(outputs: Path) -> Callable[..., LorabenchApp]:
    """Make a workbench on the output folder, or on another."""

    def make(folder: Path = outputs, open_path: Path | None = None) -> LorabenchApp:
        return LorabenchApp(folder, open_path)

    return make


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that has finished: a recorded training of the demo model."""
    folder = tmp_path / "runs" / "style-r8"
    shutil.copytree(Path(__file__).parent / "recorded" / "style-r8", folder)
    return folder


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """A run of which nothing is known yet."""
    folder = tmp_path / "runs" / "new-run"
    folder.mkdir(parents=True)
    return folder
