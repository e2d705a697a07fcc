"""Save the adapter whole or not at all; where its place is full or gone, save it where that can still be."""

from __future__ import annotations

import os
import shutil
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from lorabench.errors import LorabenchError
from lorabench.files import is_folder
from lorabench.runs.reserve import RESERVE
from lorabench.text import visible
from lorabench.training.trainer.ranks import is_first, world_size

if TYPE_CHECKING:
    from lorabench.training.trainer.watched import WatchedTrainer

DRAFT = ".saving"


class NothingSaved(LorabenchError):
    """An adapter that lies in shards, which the Trainer leaves where they are."""

    def __init__(self) -> None:
        super().__init__(
            "No adapter was saved at the end: FSDP with SHARDED_STATE_DICT leaves it in shards.",
            "Train with fsdp_state_dict_type: FULL_STATE_DICT in accelerate's configuration. "
            "What checkpoints were saved hold the shards.",
        )


def save_final(trainer: WatchedTrainer, folder: Path) -> None:
    """Save the adapter and what belongs to it in the run's folder.

    What an earlier attempt has saved there stays whole until the new files are: they are written beside it.

    Raises:
        NothingSaved: The libraries saved nothing.
        OSError, …: whatever the libraries raise where it cannot be written.
    """
    draft = folder / DRAFT
    try:
        trainer.save_model(str(draft), _internal_call=True)  # else it would push what is not in place yet
        trainer.accelerator.wait_for_everyone()
        if trainer.is_world_process_zero():
            if not is_folder(draft):
                raise NothingSaved
            _move(draft, folder)
    finally:
        if trainer.is_world_process_zero():
            shutil.rmtree(draft, ignore_errors=True)


def _move(draft: Path, folder: Path) -> None:
    # The weights last: whoever finds them finds their configuration.
    for path in sorted(draft.iterdir(), key=lambda path: path.name.startswith("adapter_model")):
        if path.is_dir():
            shutil.rmtree(folder / path.name, ignore_errors=True)
        path.replace(folder / path.name)


def rescue(trainer: WatchedTrainer, folder: Path) -> Path | None:
    """Save the adapter of a run that ends before its time: beside its checkpoints, or else elsewhere.

    Returns its folder; None where no step was taken, this process does not hold all of it or is not the one
    that writes, or it fits nowhere.
    """
    step = trainer.state.global_step
    if not step or not _holds_all(trainer):
        return None
    for place in _places(folder, f"adapter-at-step-{step}"):
        draft = place.with_name(f".{place.name}.part")
        try:
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
            trainer.accelerator.unwrap_model(trainer.model).save_pretrained(str(draft))
            if shutil.disk_usage(draft).free < RESERVE:
                continue  # the room for telling of it counts more
            draft.rename(place)
        except Exception as error:  # noqa: BLE001  a run that fails must not fail to say so
            print_trace(error)
        else:
            return place
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return None


def _holds_all(trainer: WatchedTrainer) -> bool:
    """Say whether this process is to save, and can without the others: under DDP each holds all weights."""
    from torch.nn.parallel import DistributedDataParallel

    return world_size() == 1 or (is_first() and isinstance(trainer.model_wrapped, DistributedDataParallel))


def _places(folder: Path, name: str) -> Iterator[Path]:
    """Yield where to save, each when what went before has failed."""
    names = chain([name], (f"{name}-{number}" for number in count(2)))
    yield next(place for place in map(folder.joinpath, names) if not os.path.lexists(place))
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f"lorabench-{folder.name}-"))
    except OSError as error:
        print_trace(error)
        return
    yield temporary / name
    with suppress(OSError):
        temporary.rmdir()


def print_trace(error: BaseException) -> None:
    """Print an error's traceback, where that can be printed: the log may be on the disk that is full."""
    with suppress(OSError):
        traceback.print_exception(error)


def where_rescued(place: Path | None, step: int | None) -> str:
    """Return what to add to an error: where the adapter is, "" where it is nowhere."""
    return "" if place is None else f" (The adapter as of step {step} is in {visible(place)}.)"
