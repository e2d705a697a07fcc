"""Find the runs beneath a folder."""

from __future__ import annotations

import os
from pathlib import Path

from lorabench.runs.events import EVENTS_FILE
from lorabench.runs.history import RUN_FILE

DEEPEST = 6
MOST_FOLDERS = 20_000


def find_runs(folder: Path) -> list[Path]:
    """Return the folders that hold a `run.yaml` or an `events.jsonl`, `folder` itself included.

    Goes `DEEPEST` levels down and through at most `MOST_FOLDERS` folders, nearest first; hidden folders
    and links are passed over, and so is what cannot be read.
    """
    found: list[Path] = []
    waiting = [(folder, 0)]
    for place, depth in waiting:
        names, folders = _contents(place)
        if RUN_FILE in names or EVENTS_FILE in names:
            found.append(place)
        if depth < DEEPEST:
            room = MOST_FOLDERS - len(waiting)
            waiting += [(inner, depth + 1) for inner in folders[:room]]
    return found


def _contents(folder: Path) -> tuple[set[str], list[Path]]:
    names: set[str] = set()
    folders: list[Path] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if not entry.name.startswith("."):
                        folders.append(Path(entry.path))
                else:
                    names.add(entry.name)
    except OSError:
        return set(), []
    return names, sorted(folders)
