"""Configurations on real architectures for the checks that look at the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorabench.training.config.run_config import RunConfig
from tests.training.preflight_model.architectures import SEVEN, model_folder

Configure = Callable[..., RunConfig]


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """Make a configuration for a model's config.json (a mapping) or a model's folder."""

    def make(model: dict[str, Any] | Path, **changes: Any) -> RunConfig:
        folder = model if isinstance(model, Path) else model_folder(tmp_path / "model", model)
        fields = {
            "model_name_or_path": str(folder),
            "use_peft": True,
            "lora_r": 8,
            "lora_alpha": 16,
            "lora_target_modules": SEVEN,
            "output_dir": str(tmp_path / "out"),
            "use_cpu": True,
            "bf16": False,
        }
        return RunConfig.of(fields | changes)

    return make
