"""A training in a process that tells afterwards what the GPU held.

Its words: a run.yaml, a file for the numbers, `process` or `thread`, and the share of the GPU's memory that
PyTorch may take.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pynvml
import torch

from lorabench.training.trainer.thread import TrainingThread
from lorabench.training.trainer.train import Outcome, train


def main() -> None:
    """Train, and write down how it ended and what it took."""
    path, found, place, share = sys.argv[1:]
    torch.cuda.set_per_process_memory_fraction(float(share))
    outcome = in_thread(Path(path)) if place == "thread" else train(Path(path), override=True)
    numbers = {name: str(value) for name, value in asdict(outcome).items()} | memory()
    Path(found).write_text(json.dumps(numbers))


def in_thread(path: Path) -> Outcome:
    """Train as the workbench does."""
    training = TrainingThread(path, override=True)
    training.start()
    training.done.wait()
    assert training.outcome is not None
    return training.outcome


def memory() -> dict[str, Any]:
    """Bytes on the GPU: PyTorch's tensors at most, its reserve at most and now, and the context beside it."""
    torch._C._cuda_clearCublasWorkspaces()  # of each thread that multiplied matrices, for the next
    reserved = torch.cuda.memory_reserved()
    context = own_bytes() - reserved
    return {
        "allocated": torch.cuda.max_memory_allocated(),
        "peak": torch.cuda.max_memory_reserved() + context,
        "reserved": reserved,
        "held": torch.cuda.memory_allocated(),
        "context": context,
    }


def own_bytes() -> int:
    """What the driver says that this process holds."""
    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    own = [each for each in pynvml.nvmlDeviceGetComputeRunningProcesses(handle) if each.pid == os.getpid()]
    if own and own[0].usedGpuMemory:
        return int(own[0].usedGpuMemory)
    return int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)


if __name__ == "__main__":
    main()
