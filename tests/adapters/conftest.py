"""Fixtures of the adapters' tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that saves a PEFT model and gives the folder."""

    def save(model: Any) -> Path:
        model.save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=False)
        return tmp_path / "adapter"

    return save
