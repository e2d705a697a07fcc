"""Which of several processes this one is, before any library has asked."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lorabench.training.preflight.processes import HIDDEN_SHARED, HIDDEN_WORLD_SIZE, share_gpus

_RANKS = (
    "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE",
    "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE",
)  # fmt: skip
_LAUNCHERS = ("ACCELERATE_", "FSDP_")


def rank() -> int:
    """Return this process's number among those that its launcher started; 0 where there is no launcher."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Return how many processes the launcher started; 1 where there is no launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Say whether this is the process that writes: one for all of them."""
    return rank() == 0


def waits_for_the_first() -> bool:
    """Say whether this is another process, and has not met the first one yet, which makes the preflight."""
    if is_first():
        return False
    distributed = sys.modules.get("torch.distributed")
    return distributed is None or not distributed.is_initialized()


@contextmanager
def without_ranks() -> Iterator[None]:
    """Hide the launcher: what is built in here joins no other process, and does not wait for one.

    The preflight still counts with all processes.
    """
    hidden = {
        name: os.environ.pop(name)
        for name in list(os.environ)
        if name in _RANKS or name.startswith(_LAUNCHERS)
    }
    if "WORLD_SIZE" in hidden:
        os.environ[HIDDEN_WORLD_SIZE] = hidden["WORLD_SIZE"]
    if share_gpus(hidden):
        os.environ[HIDDEN_SHARED] = "1"
    try:
        yield
    finally:
        for name in (HIDDEN_WORLD_SIZE, HIDDEN_SHARED):
            os.environ.pop(name, None)
        os.environ.update(hidden)
