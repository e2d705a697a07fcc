"""Find the runs beneath a folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from lorabench.runs.events import EVENTS_FILE
from lorabench.runs.history import RUN_FILE

DEEPEST = 6
MOST_FOLDERS = 20_000


def find_runs(folder: Path) -> list[Path]:
    """Return the folders that hold a `run.yaml` or an `events.jsonl`, `folder` itself included.

    Goes where `folders_below` goes.
    """
    return [place for place, names in _walk(folder) if RUN_FILE in names or EVENTS_FILE in names]


def folders_below(folder: Path) -> list[Path]:
    """Return the folders in which runs are looked for, `folder` itself first.

    Goes `DEEPEST` levels down and through at most `MOST_FOLDERS` folders, nearest first; hidden folders
    and links are passed over, and so is what cannot be read.
    """
    return [place for place, _names in _walk(folder)]


def times_of(paths: Iterable[Path]) -> dict[Path, int | None]:
    """Return when each file or folder was last written, in ns; None for what is not there.

    A folder's time changes with what it holds, and not when a file in it grows.
    """
    return {path: _time_of(path) for path in paths}


def _time_of(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _walk(folder: Path) -> Iterator[tuple[Path, set[str]]]:
    waiting = [(folder, 0)]
    for place, depth in waiting:
        names, folders = _contents(place)
        yield place, names
        if depth < DEEPEST:
            room = MOST_FOLDERS - len(waiting)
            waiting += [(inner, depth + 1) for inner in folders[:room]]


def _contents(folder: Path) -> tuple[set[str], list[Path]]:
    names: set[str] = set()
    folders: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if not entry.name.startswith("."):
                        folders.append(entry.path)
                else:
                    names.add(entry.name)
    except OSError:
        return set(), []
    return names, [Path(path) for path in sorted(folders)]
