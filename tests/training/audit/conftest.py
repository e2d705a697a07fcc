"""Runs of the demo model that are built as the audit builds them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorabench.training.config.presets import new_run
from lorabench.training.config.run_config import RunConfig

SGD = {
    "optim": "sgd",
    "learning_rate": 1.0,
    "max_grad_norm": 0.0,
    "lr_scheduler_type": "constant",
    "warmup_steps": 0,
    "lora_dropout": 0.0,
    "lora_r": 16,
    "lora_alpha": 16,
    "lora_target_modules": ["q_proj", "down_proj"],
}
"""The case of the user who asked: r = lora_alpha = 16, SGD, lr 1.0."""

Configured = Callable[..., RunConfig]


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    """Runs of the demo model under SGD with other values, each in a folder of its own."""

    numbers = itertools.count(1)

    def configure(**values: Any) -> RunConfig:
        config = RunConfig.load(new_run(tmp_path / f"run-{next(numbers)}"))
        quiet = {"save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True}
        config.apply(SGD | quiet | values)
        return config

    return configure
