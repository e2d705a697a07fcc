"""What ended a run, as a reason for programs and an error with a hint for people."""

from __future__ import annotations

import errno
import math
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lorabench.errors import LorabenchError
from lorabench.files import is_folder, is_there
from lorabench.runs.checkpoints import TRAINER_STATE_FILE, newest_whole
from lorabench.text import visible

if TYPE_CHECKING:
    from lorabench.training.config.run_config import RunConfig


# The last two are all that PyTorch says of a write that fell short.
_NO_ROOM = (
    "No space left",
    "File too large",
    "quota exceeded",
    "unexpected pos",
    "PytorchStreamWriter failed",
)


LEARNT_NOTHING = ("nan", "zero gradients")
"""Reasons of runs whose weights are worth nothing."""


class NotFinite(LorabenchError):
    """A loss that is NaN or infinite."""

    def __init__(self, step: int, loss: float) -> None:
        name = "NaN" if math.isnan(loss) else "infinite"
        super().__init__(
            f"The loss is {name} at step {step}.",
            "Start anew with a lower learning_rate; "
            "look for rows, or a base model, that hold no finite numbers.",
        )


class NoGradients(LorabenchError):
    """Gradients that are all zero."""

    def __init__(self, step: int) -> None:
        super().__init__(
            f"All gradients are zero at step {step}: nothing is learnt.",
            "Look in the preflight at which tokens the loss counts, and whether any LoRA weight is trained.",
        )


class Failure(NamedTuple):
    """Why a run failed: `reason` is one of a few words, `error` and `hint` are sentences."""

    reason: str
    error: str
    hint: str = ""


def failure_of(error: BaseException, config: RunConfig) -> Failure:
    """Return what to say of an exception that ended a run of this configuration."""
    if isinstance(error, NotFinite):
        found, _ = newest_whole(config.folder)
        hint = error.hint if found is None else f"Go on from checkpoint {found.step}, or s{error.hint[1:]}"
        return Failure("nan", error.message, hint)
    if isinstance(error, NoGradients):
        return Failure("zero gradients", error.message, error.hint)
    if isinstance(error, LorabenchError):
        return Failure("configuration", error.message, error.hint)
    if out_of_memory(error):
        return Failure("out of memory", _first_line(error), _how_to_save_memory(config))
    if disk_full(error):
        return Failure(
            "disk full",
            f"The disk that holds {visible(config.folder)} is full: {_first_line(error)}",
            "Make room, then go on from the newest whole checkpoint. save_total_limit keeps fewer of them, "
            "save_only_model makes them smaller.",
        )
    if isinstance(error, ImportError):
        return Failure("missing package", _first_line(error), _how_to_install(error))
    told = f"{type(error).__name__}: {_first_line(error)}"
    return Failure("error", told, "output.log holds the traceback.")


def out_of_memory(error: BaseException) -> bool:
    """Say whether a device's or the machine's memory ran out."""
    torch = sys.modules.get("torch")  # not imported here: it may be what cannot be
    if isinstance(error, MemoryError | getattr(torch, "OutOfMemoryError", MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        told in str(error) for told in ("DefaultCPUAllocator: can't allocate", "out of memory")
    )


def disk_full(error: BaseException | None) -> bool:
    """Say whether a file could not be written for want of room; PyTorch and safetensors hide it in words."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        text = str(error)
        if any(told in text for told in _NO_ROOM):
            return True
        error = error.__cause__ or error.__context__
    return False


def make_room(folder: Path, step: int) -> None:
    """Remove the checkpoint of this step where it was not saved to its end: no run could go on from it."""
    torn = folder / f"checkpoint-{step}"
    if is_folder(torn) and not is_there(torn / TRAINER_STATE_FILE):
        shutil.rmtree(torn)


def _how_to_install(error: ImportError) -> str:
    if "bitsandbytes" in str(error):
        return "pip install 'lorabench[qlora]'"
    return "Install what it names, or another version of it; output.log holds the traceback."


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return visible(lines[0]) if lines else type(error).__name__


def _how_to_save_memory(config: RunConfig) -> str:
    """Return the changes that would save most, with how much, by the preflight's estimate."""
    from lorabench.training.preflight.memory import memory_findings

    try:
        findings = memory_findings(config)
    except Exception:  # noqa: BLE001  no estimate, which the preflight has said: the failure is still to be told
        findings = []
    lines = findings[0].detail.splitlines() if findings else []
    savings = [line for line in lines if " would save " in line][:3]
    return "; ".join(savings) + "." if savings else "Lower per_device_train_batch_size or max_length."
