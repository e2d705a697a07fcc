"""What a watcher asks of the trainer, by a file: `stop` (save, then end) or `save` (a checkpoint now)."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path

from lorabench.errors import LorabenchError
from lorabench.files import is_there
from lorabench.text import visible

STOP_FILE = "stop"
SAVE_FILE = "save"


def request_stop(folder: Path) -> None:
    """Ask the trainer of this folder to save and stop at its next step."""
    _ask(folder / STOP_FILE)


def stop_requested(folder: Path) -> bool:
    """Say whether somebody asks for a stop."""
    return is_there(folder / STOP_FILE)


def request_checkpoint(folder: Path) -> None:
    """Ask the trainer of this folder for a checkpoint at its next step."""
    _ask(folder / SAVE_FILE)


def take_checkpoint_request(folder: Path) -> bool:
    """Say whether somebody asks for a checkpoint, and withdraw what was asked."""
    try:
        (folder / SAVE_FILE).unlink()
    except FileNotFoundError:
        return False
    return True


def requests_in(folder: Path) -> list[str]:
    """Return what tells the requests that are there now from later ones; a file that is touched is later.

    By inode and time of change, compared with themselves only: the clock of a file server is not ours.
    """
    found = []
    for name in (STOP_FILE, SAVE_FILE):
        with contextlib.suppress(FileNotFoundError):
            found.append(_identity(folder / name))
    return found


def clear_requests(folder: Path, only: Collection[str] | None = None) -> None:
    """Withdraw what was asked, or `only` these (as `requests_in` had them), which a new run must not heed."""
    for path in (folder / STOP_FILE, folder / SAVE_FILE):
        with contextlib.suppress(FileNotFoundError):
            if only is None or _identity(path) in only:
                path.unlink()


def _identity(path: Path) -> str:
    status = path.stat()
    return f"{path.name}:{status.st_ino}:{status.st_mtime_ns}"


def _ask(path: Path) -> None:
    try:
        path.touch()
    except OSError as error:
        raise LorabenchError(
            f"The file {visible(path)} cannot be made: {error.strerror}.",
            "The trainer looks for this file at each step: whoever may write in its folder can make it.",
        ) from error
