"""What a watcher asks of the trainer, by a file: `stop` (save, then end) or `save` (a checkpoint now)."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

from lorabench.errors import LorabenchError
from lorabench.text import visible

STOP_FILE = "stop"
SAVE_FILE = "save"


def request_stop(folder: Path) -> None:
    """Ask the trainer of this folder to save and stop at its next step."""
    _ask(folder / STOP_FILE)


def stop_requested(folder: Path) -> bool:
    """Say whether somebody asks for a stop."""
    return (folder / STOP_FILE).exists()


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


def clear_requests(folder: Path, before: float = math.inf) -> None:
    """Withdraw what was asked before a moment (Unix seconds): a new training must not heed the last one's."""
    for path in (folder / STOP_FILE, folder / SAVE_FILE):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < before:
                path.unlink()


def _ask(path: Path) -> None:
    try:
        path.touch()
    except OSError as error:
        raise LorabenchError(
            f"The file {visible(path)} cannot be made: {error.strerror}.",
            "The trainer looks for this file at each step: whoever may write in its folder can make it.",
        ) from error
