"""Small real trainings: how the tests write their run.yaml, and read what became of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lorabench.runs.events import EVENTS_FILE, Follower
from lorabench.training.trainer.watched import WatchedTrainer
from tests.conftest import REPOSITORY

SAMPLES = REPOSITORY / "sample_adapters"
STEPS = 12

Event = dict[str, Any]


def run_file(folder: Path, **changes: Any) -> Path:
    """Write a run.yaml that trains the demo model for twelve steps into `folder`/run; return its path.

    A change to None takes the field out.
    """
    fields = {
        "model_name_or_path": str(SAMPLES / "demo-model"),
        "dtype": "float32",
        "dataset_name": str(SAMPLES / "demo-data"),
        "output_dir": str(folder / "run"),
        "use_peft": True,
        "lora_r": 4,
        "lora_target_modules": ["q_proj", "v_proj"],
        "assistant_only_loss": True,
        "max_steps": STEPS,
        "learning_rate": 6e-3,
        "per_device_train_batch_size": 2,
        "logging_steps": 1,
        "save_steps": 4,
        "max_length": 64,
        "gradient_checkpointing": False,
        "bf16": False,
        "seed": 7,
    } | changes
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in fields.items() if value is not None}))
    return path


def events_of(folder: Path) -> list[Event]:
    """All events in a run's folder."""
    follower, found = Follower(folder / EVENTS_FILE), []
    while more := follower.read():
        found += more
    return found


def of_kind(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event["kind"] == kind]


def warnings_of(folder: Path) -> list[str]:
    return [event["text"] for event in of_kind(events_of(folder), "warning")]


def learnt(folder: Path) -> dict[int, tuple[float, float]]:
    """Loss and gradient norm of each step, as bit patterns would compare; a newer line replaces an older."""
    return {event["step"]: (event["loss"], event["grad_norm"]) for event in of_kind(events_of(folder), "log")}


def adapter_bytes(folder: Path) -> bytes:
    return (folder / "adapter_model.safetensors").read_bytes()


def rows_file(folder: Path, rows: list[Mapping[str, Any]]) -> Path:
    """Write a dataset's folder with these rows as its train split."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row) for row in rows]
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, do: Any) -> None:
    """Call `do` when this step begins, as if somebody did it from outside."""
    original = WatchedTrainer.training_step

    def training_step(self: WatchedTrainer, *arguments: Any, **options: Any) -> torch.Tensor:
        if self.state.global_step + 1 == step:
            do()
        return original(self, *arguments, **options)

    monkeypatch.setattr(WatchedTrainer, "training_step", training_step)
