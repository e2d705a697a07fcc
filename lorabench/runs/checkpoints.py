"""The checkpoints in a run's folder: which of them are whole, and how an earlier attempt's are kept."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lorabench.files import is_file, is_folder, is_there, open_plain
from lorabench.json_text import parse_json
from lorabench.text import visible

TRAINER_STATE_FILE = "trainer_state.json"
LARGEST_STATE = 32_000_000
"""Bytes: 100,000 logged steps, which take 300 MB as Python holds them."""
OPTIMIZERS = ("optimizer.pt", "optimizer.bin")
SCHEDULER = "scheduler.pt"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin", "model.safetensors", "pytorch_model.bin")
# What the Trainer writes beside them and does not read when it goes on.
_NOT_READ_ON_RESUME = ("training_args.bin",)
_FINAL_ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
_ENDS = 65_536
_STEP = re.compile(rb'"global_step": *([0-9]{1,18}),')
_NAME = re.compile(r"checkpoint-([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint's folder and step; `torn` says why no training can go on from it, None where one can."""

    path: Path
    step: int
    torn: str | None


def checkpoint_folders(folder: Path) -> list[tuple[int, Path]]:
    """Return the folders that the Trainer takes for checkpoints and their steps, ascending; whole or not."""
    if not is_folder(folder):
        return []
    named = [(match, path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return sorted((int(match[1]), path) for match, path in named if is_folder(path))


def checkpoints(folder: Path) -> list[Checkpoint]:
    """Return the checkpoints of the run in `folder`, ascending by step; [] where there are none.

    Raises:
        OSError: The folder cannot be read.
    """
    return [Checkpoint(path, step, why_torn(path)) for step, path in checkpoint_folders(folder)]


def newest_whole(folder: Path) -> tuple[Checkpoint | None, list[Checkpoint]]:
    """Return the checkpoint that a training can go on from, and the torn ones that are newer."""
    torn: list[Checkpoint] = []
    for step, path in reversed(checkpoint_folders(folder)):
        checkpoint = Checkpoint(path, step, why_torn(path))
        if checkpoint.torn is None:
            return checkpoint, torn
        torn.append(checkpoint)
    return None, torn


def set_aside(folder: Path) -> Path | None:
    """Move an earlier attempt's checkpoints and final adapter to a new folder `earlier-N` beside them.

    So nothing is lost where a run starts anew, and no later resume takes another attempt's checkpoint.
    Returns that folder, or None where nothing was to be moved.
    """
    final = [path for name in _FINAL_ADAPTER if is_file(path := folder / name)]
    earlier = [path for _, path in checkpoint_folders(folder)] + final
    if not earlier:
        return None
    number = 1
    while is_there(folder / f"earlier-{number}"):
        number += 1
    place = folder / f"earlier-{number}"
    place.mkdir()
    for path in earlier:
        path.rename(place / path.name)
    return place


def why_torn(checkpoint: Path) -> str | None:
    """Say what keeps a training from going on, without loading a tensor; the first of several."""
    try:
        return next(_faults(checkpoint), None)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"


def _faults(checkpoint: Path) -> Iterator[str]:
    names = {path.name for path in checkpoint.iterdir()}
    if TRAINER_STATE_FILE not in names:
        yield f"no {TRAINER_STATE_FILE}: it was not saved to its end"
    elif _global_step(checkpoint / TRAINER_STATE_FILE) is None:
        yield f"{TRAINER_STATE_FILE} is damaged"
    sharded = any(_is_state_of_several_processes(checkpoint / name) for name in names)
    if not sharded and names.isdisjoint(WEIGHTS):
        yield "no weights"
    if not sharded and names.isdisjoint(OPTIMIZERS):
        yield "no optimizer.pt: it would go on with a fresh optimizer and a learning rate of 0"
    if not sharded and SCHEDULER not in names:
        yield f"no {SCHEDULER}: it would go on with a fresh optimizer and a learning rate of 0"
    for name in sorted(names):
        if fault := _fault(checkpoint / name):
            yield f"{visible(name)} is damaged: {fault}"


def _is_state_of_several_processes(path: Path) -> bool:
    """DeepSpeed's file `latest`, or the folder that FSDP shards the optimizer into."""
    return path.name == "latest" or (path.name.startswith("optimizer_") and is_folder(path))


def _global_step(path: Path) -> int | None:
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > LARGEST_STATE:  # the Trainer sorts the keys: the step stands before the long history
            found = _STEP.search(os.pread(file.fileno(), _ENDS, 0))
            ended = os.pread(file.fileno(), _ENDS, size - _ENDS).rstrip().endswith(b"}")
            return int(found[1]) if found and ended else None
        content = file.read()
    try:
        state = parse_json(content)
    except ValueError:
        return None
    step = state.get("global_step") if isinstance(state, dict) else None
    return step if isinstance(step, int) else None


def _fault(file: Path) -> str | None:
    """Say why a file is not whole: both formats tell at their ends where everything lies."""
    if file.name in _NOT_READ_ON_RESUME:
        return None
    if not (is_file(file) or is_folder(file)):
        return "it is no plain file"
    if file.suffix == ".safetensors":
        return _safetensors_fault(file)
    if file.suffix in (".pt", ".pth", ".bin"):
        return _zip_fault(file)
    return None


def _zip_fault(file: Path) -> str | None:
    import zipfile

    with open_plain(file) as opened:
        return None if zipfile.is_zipfile(opened) else "its end is missing"


def _safetensors_fault(file: Path) -> str | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np"):
            return None
    except SafetensorError as error:
        return visible(error)
