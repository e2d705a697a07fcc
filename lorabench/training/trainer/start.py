"""From where a training starts: a checkpoint to go on from, or a folder cleared for a new attempt."""

from __future__ import annotations

import filecmp
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorabench.files import is_there
from lorabench.runs.checkpoints import newest_whole, set_aside
from lorabench.runs.history import RUN_FILE
from lorabench.text import visible
from lorabench.training.config.run_config import RunConfig
from lorabench.training.preflight.resume import wanted_checkpoint
from lorabench.training.trainer.hardware import computing, find_hardware
from lorabench.training.trainer.provenance import digest, fingerprint, versions
from lorabench.training.trainer.ranks import is_first

if TYPE_CHECKING:
    from lorabench.training.trainer.events import Events
    from lorabench.training.trainer.watched import WatchedTrainer


def prepare_folder(config: RunConfig, file: Path, events: Events, *, anew: bool = False) -> Path | None:
    """Return the checkpoint to go on from, or None after an earlier attempt was set aside.

    The first process decides and touches the folder, the others are told. Keeps a copy of `file`, the
    configuration, in the folder; another one that lies there is kept beside it. What is moved is warned of,
    unless the user himself has chosen to begin `anew`: then the log tells it.
    """
    from accelerate.utils import broadcast_object_list

    told: list[Path | None] = [_prepare(config, file, events, anew) if is_first() else None]
    broadcast_object_list(told)
    return told[0]


def _prepare(config: RunConfig, file: Path, events: Events, anew: bool) -> Path | None:
    tell = events.note if anew else events.warn
    checkpoint = _checkpoint(config, events)
    aside = set_aside(config.folder) if checkpoint is None else None
    if aside is not None:
        tell(f"An earlier attempt's checkpoints and adapter were moved to {visible(aside.name)}.")
    _keep_config(file, config.folder, aside, tell)
    return checkpoint


def _checkpoint(config: RunConfig, events: Events) -> Path | None:
    wanted = wanted_checkpoint(config)
    if wanted is not True:
        return wanted.absolute() if wanted else None
    newest, _ = newest_whole(config.folder)  # of those that it passes over the preflight has warned
    if newest is None:
        events.warn("No whole checkpoint was found to go on from: the run starts anew.")
        return None
    return newest.path


def _keep_config(file: Path, folder: Path, aside: Path | None, tell: Callable[[str], None]) -> None:
    kept = folder / RUN_FILE
    if is_there(kept) and kept.samefile(file):
        return
    if is_there(kept) and not filecmp.cmp(kept, file, shallow=False):
        number = 1
        while is_there(place := (aside or folder) / f"run-{number}.yaml"):
            number += 1
        kept.rename(place)
        tell(f"The run.yaml of an earlier attempt was moved to {visible(place.relative_to(folder))}.")
    if not is_there(kept):
        shutil.copyfile(file, kept)


def started_fields(config: RunConfig, text: str, trainer: WatchedTrainer, place: str) -> dict[str, Any]:
    """Return what is known before the first step: what is trained, on what, with what, from which seed.

    `text` is the configuration's as it stands in its file.
    """
    hardware = find_hardware()
    model: Any = trainer.model
    device = trainer.args.device
    return {
        "seed": trainer.args.seed,
        "config": digest(text),
        "data": fingerprint(trainer.train_dataset),
        "versions": versions(),
        "device": {
            "name": hardware.name if device.type == hardware.kind else device.type.upper(),
            "kind": device.type,
            "dtype": computing(config, hardware).name,
        },
        "processes": trainer.args.world_size,
        "place": place,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "model": config.get("model_name_or_path"),
        "trainable": sum(weights.numel() for weights in model.parameters() if weights.requires_grad),
        "total": sum(weights.numel() for weights in model.parameters()),
    }
