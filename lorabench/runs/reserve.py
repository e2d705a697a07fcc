"""A little room on the disk of a run, kept for its last words."""

from __future__ import annotations

import contextlib
from pathlib import Path

RESERVE_FILE = ".reserve"
RESERVE = 2**16
"""Bytes: enough for the end of a run and its preflight's findings."""


class Reserve:
    """A file of zeros in the run's folder that is given up where the disk is full."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / RESERVE_FILE
        with contextlib.suppress(OSError):  # no room by now: what there is of it may do
            self._path.write_bytes(bytes(RESERVE))

    def give_up(self) -> None:
        """Give the room back."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
