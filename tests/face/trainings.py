"""Runs to train in tests, and what has become of them."""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import REPOSITORY

PATIENCE = 60.0

CONFIG = """model_name_or_path: {samples}/demo-model
dtype: float32
dataset_name: {samples}/demo-data
max_length: 256
use_peft: true
lora_r: 4
lora_target_modules: [q_proj, v_proj]
per_device_train_batch_size: 2
max_steps: {steps}
learning_rate: 0.002
gradient_checkpointing: false
bf16: false
output_dir: {folder}
save_steps: {save_steps}
logging_steps: 1
"""


def make_run(folder: Path, *, steps: int = 20, save_steps: int = 500) -> Path:
    """Write the run.yaml of a short training of the demo model; return its folder."""
    folder.mkdir(parents=True)
    samples = REPOSITORY / "sample_adapters"
    text = CONFIG.format(samples=samples, steps=steps, save_steps=save_steps, folder=folder)
    (folder / "run.yaml").write_text(text)
    return folder


def events(folder: Path) -> list[dict[str, Any]]:
    """The run's whole events."""
    path = folder / "events.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def kinds(folder: Path) -> list[str]:
    """The kinds of the run's events; a stage as `stage training`."""
    return [
        f"stage {event['stage']}" if event["kind"] == "stage" else event["kind"] for event in events(folder)
    ]


def steps(folder: Path) -> list[int]:
    """The steps that were logged, in the order of the file."""
    return [event["step"] for event in events(folder) if event["kind"] == "log" and "loss" in event]


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Look at the files until this holds."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"{what} never came"
        select.select([], [], [], 0.01)


def alive(pid: int) -> bool:
    """Whether this process, no child of ours, still runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def workbench_of(terminal_child: int) -> int:
    """The process behind the thin parent: its only child."""
    children = Path(f"/proc/{terminal_child}/task/{terminal_child}/children").read_text().split()
    assert len(children) == 1
    return int(children[0])
