"""The trainer's end of the events file: a full disk costs events, never the run."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lorabench.runs.events import EVENTS_FILE, EventWriter, parse_event
from lorabench.runs.record import ENDINGS
from lorabench.runs.reserve import Reserve

logger = logging.getLogger(__name__)

_END_BYTES = 65_536


class Events:
    """Writes events where this process is the one that does; others write only how they failed.

    An event that cannot be written is counted, and told of by a `warning` once the file takes writing again.
    For the one that tells how the run has ended some room is kept. Where somebody removes or renames the
    folder while the run trains, it is made again, with a file that begins anew; `restore` puts back the rest.
    """

    def __init__(
        self, folder: Path, *, first: bool = True, restore: Callable[[], None] = lambda: None
    ) -> None:
        self._folder, self._path = folder, folder / EVENTS_FILE
        self._first = first
        self._restore = restore
        self._began = time.time()
        self._lost = 0
        self._started: dict[str, Any] = {}
        self._open()

    def _open(self) -> None:
        self._writer = EventWriter(self._folder)
        self._file = self._path.stat()
        self._reserve = Reserve(self._folder) if self._first else None

    def write(self, kind: str, **fields: object) -> bool:
        """Append an event; say whether it is in the file."""
        if not self._first and kind != "failed":
            return False
        if self._try(kind, fields):
            return True
        if kind in ENDINGS and self._reserve is not None:
            self._reserve.give_up()
            return self._try(kind, fields)
        return False

    def _try(self, kind: str, fields: dict[str, Any]) -> bool:
        if kind == "started":
            self._started = fields
        try:
            if self._first and not self._in_place():
                self._begin_again()
            if self._lost:
                text = f"{self._lost} events could not be written here."
                self._writer.write("warning", text=text, source="lorabench")
                self._lost = 0
            self._writer.write(kind, **fields)
        except OSError as error:
            self._lost += 1
            if self._lost == 1:
                logger.error("An event could not be written: %s", error)
            return False
        return True

    def _in_place(self) -> bool:
        try:
            return os.path.samestat(self._path.stat(), self._file)
        except OSError as error:
            return not isinstance(error, FileNotFoundError | NotADirectoryError)

    def _begin_again(self) -> None:
        """Make the folder again, and say in it what runs there."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._writer.close()
        self._open()
        self._restore()
        if self._started:
            self._writer.write("started", **self._started)
        text = "The run's folder was removed or renamed while it trained: what was told before is not here."
        self._writer.write("warning", text=text, source="lorabench")

    def failed_elsewhere(self) -> bool:
        """Say whether another process of this run has failed: what that one said is the cause."""
        try:
            with self._path.open("rb") as file:
                file.seek(-min(_END_BYTES, file.seek(0, os.SEEK_END)), os.SEEK_END)
                lines = file.read().split(b"\n")
        except OSError:
            return False  # nobody reads there that one has
        events = filter(None, map(parse_event, lines))
        return any(event["kind"] == "failed" and event["time"] >= self._began for event in events)

    def warn(self, text: str, source: str = "lorabench") -> None:
        """Append a warning."""
        self.write("warning", text=text, source=source)

    def note(self, text: str) -> None:
        """Print what is worth a line of the log, and no warning."""
        if self._first:
            print(f"lorabench: {text}", file=sys.stderr, flush=True)  # noqa: T201

    def close(self) -> None:
        """Close the file, and give back the room that was kept."""
        self._writer.close()
        if self._reserve is not None:
            self._reserve.give_up()
