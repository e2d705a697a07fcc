"""One undisturbed training, to which the others are compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorabench.training.trainer.train import train
from tests.training.trainer.runs import run_file


@pytest.fixture(scope="package")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nobody stopped: twelve steps, checkpoints after 4, 8 and 12."""
    path = run_file(tmp_path_factory.mktemp("undisturbed"))
    assert train(path).state == "finished"
    return path.parent / "run"
