"""A little room on the disk of a run, kept for its last words."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path

RESERVE_FILE = ".reserve"
RESERVE = 2**16
"""Bytes: enough for the end of a run and its preflight's findings."""


def check_room(folder: Path) -> None:
    """Refuse a disk on which no run could even say why it fails.

    Raises:
        OSError: There is less room than a run keeps for its last words.
    """
    if shutil.disk_usage(folder).free < RESERVE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


class Reserve:
    """A file in the run's folder that is given up where the disk is full.

    Its bytes are random: a file system that compresses keeps next to no room for zeros.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / RESERVE_FILE
        with contextlib.suppress(OSError):  # no room by now: what there is of it may do
            self._path.write_bytes(os.urandom(RESERVE))

    def give_up(self) -> None:
        """Give the room back."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
