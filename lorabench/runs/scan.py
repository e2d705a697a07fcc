"""Find the runs beneath a folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from lorabench.files import is_folder, real
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

    Goes `DEEPEST` levels down and through at most `MOST_FOLDERS` folders, nearest first; hidden folders are
    passed over, and so is what cannot be read. A link to a folder elsewhere is one of them, but not the way
    to those beneath it: it may lead anywhere.
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
        names, folders, links = _contents(place)
        yield place, names
        if depth < DEEPEST:
            inner = [(Path(path), depth + 1) for path in sorted(folders)]
            inner += [(link, DEEPEST) for link in _leading_elsewhere(links, folder)]
            waiting += inner[: MOST_FOLDERS - len(waiting)]


def _leading_elsewhere(links: Iterable[str], folder: Path) -> Iterator[Path]:
    """Yield the links to folders that are not found without them."""
    for link in map(Path, sorted(links)):
        if is_folder(link) and not real(link).is_relative_to(real(folder)):
            yield link


def _contents(folder: Path) -> tuple[set[str], list[str], list[str]]:
    """Return the names of the files in a folder, and the paths of its folders and links."""
    names: set[str] = set()
    folders: list[str] = []
    links: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    names.add(entry.name)
                if not entry.name.startswith("."):
                    if entry.is_symlink():
                        links.append(entry.path)
                    elif entry.is_dir():
                        folders.append(entry.path)
    except OSError:
        return set(), [], []
    return names, folders, links
