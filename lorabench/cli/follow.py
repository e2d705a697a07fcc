"""`lorabench watch` and `lorabench stop`: a run that somebody else has begun."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

from lorabench.cli.check import readable_config
from lorabench.cli.progress import display
from lorabench.cli.train import tell_end
from lorabench.cli.watch import POLL
from lorabench.errors import LorabenchError
from lorabench.files import is_folder, is_there
from lorabench.runs.events import EVENTS_FILE, Follower
from lorabench.runs.history import RUN_FILE
from lorabench.runs.lock import Owner, read_owner
from lorabench.runs.record import RunRecord
from lorabench.runs.requests import request_stop
from lorabench.text import visible


def watch(path: Path) -> int:
    """Show a run from its beginning until nobody trains it; return 0, or 1 when it failed.

    Raises:
        LorabenchError: No training has been recorded there.
    """
    folder = _trained(path)
    follower, record = Follower(folder / EVENTS_FILE), RunRecord()
    with display() as shown:
        while True:
            owner = _owner(folder)  # the owner first: who is gone by now has written all his events before
            while events := follower.read():
                for event in events:
                    record.add(event)
                    shown.show(event, record)
            shown.refresh()
            if owner is None:
                return tell_end(folder, record, shown)
            time.sleep(POLL)


def stop(path: Path) -> int:
    """Ask who trains a run to save and stop; return 0.

    Raises:
        LorabenchError: Nobody trains it, or its folder cannot be written.
    """
    folder = _trained(path)
    owner = _owner(folder)
    if owner is None:
        raise LorabenchError(f"Nobody trains {visible(folder)}.", "lorabench PATH shows which runs train.")
    request_stop(folder)
    sys.stdout.write(
        f"Process {owner.pid} on {visible(owner.host)} saves and stops at its next step.\n"
        f"Watch it: lorabench watch {shlex.quote(visible(folder))}\n"
    )
    return 0


def _owner(folder: Path) -> Owner | None:
    owner = read_owner(folder)
    return None if owner is None or owner.alive is False else owner


def _trained(path: Path) -> Path:
    """Return the folder that tells of the training: the one that is named, or where its run.yaml trains."""
    file = path / RUN_FILE if is_folder(path) else path
    named = is_there(path / EVENTS_FILE) or _owner(path) is not None
    folder = path if named or not is_there(file) else readable_config(file).folder
    if not is_there(folder / EVENTS_FILE) and _owner(folder) is None:
        raise LorabenchError(
            f"No training has been recorded in {visible(folder)}.",
            "Name a run's folder, or its run.yaml; w on the Bench shows what other tools recorded.",
        )
    return folder
