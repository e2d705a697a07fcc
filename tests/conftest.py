"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Hide the GPUs from tests that are not about them: they tell what is so on any machine.

    CUDA_VISIBLE_DEVICES, where it is set, counts. And let ctrl+c reach what tests start: a shell's background
    jobs ignore it, and so would all that they start.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if "not gpu" in str(config.getoption("-m")):
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real adapters by others and weightwatcher's results; it lies beside the checkout."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the shared data are not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def samples() -> Path:
    """The sample adapters that the project ships."""
    return REPOSITORY / "sample_adapters"
