"""Save the adapter whole or not at all; where its place is full or gone, save it where that can still be."""

from __future__ import annotations

import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorabench.runs.reserve import RESERVE
from lorabench.text import visible
from lorabench.training.trainer.ranks import world_size

if TYPE_CHECKING:
    from lorabench.training.trainer.watched import WatchedTrainer

Save = Callable[[str], Any]
DRAFT = ".saving"


def save_final(trainer: WatchedTrainer, folder: Path) -> None:
    """Save the adapter and what belongs to it in the run's folder.

    What an earlier attempt has saved there stays whole until the new files are: they are written beside it.

    Raises:
        OSError, …: whatever the libraries raise where it cannot be written.
    """
    draft = folder / DRAFT
    try:
        trainer.save_model(str(draft), _internal_call=True)  # else it would push what is not in place yet
        trainer.accelerator.wait_for_everyone()
        if trainer.is_world_process_zero():
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

    Returns its folder; None where no step was taken, several processes hold it, or it fits nowhere.
    """
    step = trainer.state.global_step
    if not step or world_size() > 1:
        return None
    save: Save = trainer.accelerator.unwrap_model(trainer.model).save_pretrained
    for place in _places(folder, f"adapter-at-step-{step}"):
        draft = place.with_name(f".{place.name}.part")
        try:
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
            save(str(draft))
            if shutil.disk_usage(draft).free < RESERVE:
                continue  # the room for telling of it counts more
            draft.rename(place)
        except Exception as error:  # noqa: BLE001  a run that fails must not fail to say so
            traceback.print_exception(error)
        else:
            return place
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return None


def _places(folder: Path, name: str) -> Iterator[Path]:
    yield folder / name
    try:
        yield Path(tempfile.mkdtemp(prefix=f"lorabench-{folder.name}-")) / name
    except OSError as error:
        traceback.print_exception(error)


def where_rescued(place: Path | None, step: int | None) -> str:
    """Return what to add to an error: where the adapter is, "" where it is nowhere."""
    return "" if place is None else f" (The adapter as of step {step} is in {visible(place)}.)"
