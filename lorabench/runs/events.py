"""Write and follow `events.jsonl`: one JSON object a line, the only channel from trainer to screens."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

EVENTS_FILE = "events.jsonl"
MOST_BYTES = 2**20

Event = dict[str, Any]

_NAMED_FLOATS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_NAMED_FLOATS_IN_A_LINE = (b'"NaN"', b'Infinity"')
_HEAD_BYTES = 64


class EventWriter:
    """Append events to a run's file; each is one write, so that what precedes a crash is whole."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / EVENTS_FILE
        self._fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._one_at_a_time = threading.Lock()
        size = os.fstat(self._fd).st_size
        self._torn = size > 0 and os.pread(self._fd, 1, size - 1) != b"\n"

    def write(self, kind: str, **fields: object) -> None:
        """Append one event; `time` (Unix seconds) is added, and floats that JSON lacks become their names.

        Raises:
            OSError: The disk is full, or the writer is closed. What was written of the line stands alone, and
                readers pass over it.
        """
        event = {"time": time.time(), "kind": kind, **fields}
        line = json.dumps(_plain(event), allow_nan=False, default=str).encode() + b"\n"
        with self._one_at_a_time:
            rest = memoryview(b"\n" + line if self._torn else line)
            self._torn = True
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            self._torn = False

    def close(self) -> None:
        """Close the file; further closing does nothing."""
        with self._one_at_a_time:
            fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Follower:
    """Read an events file as it grows; each event once.

    A file that is not there yet, a torn last line, lines that are no events, and a file that was replaced or
    shortened (read anew from its start) are all fine. An `offset` within a line starts at the next line.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self._offset = max(offset - 1, 0)  # the byte before tells whether a line starts at `offset`
        self._within_a_line = offset > 0
        self._head = b""

    def read(self, most: int = MOST_BYTES) -> list[Event]:
        """Return the next new events, [] where there are none now.

        Takes at most `most` bytes of the file at once: call again until it returns []. A longer line is
        passed over. A file that cannot be read now has no new events.
        """
        try:
            with self.path.open("rb", buffering=0) as file:
                self._start_anew_if_replaced(os.pread(file.fileno(), _HEAD_BYTES, 0), file.fileno())
                events: list[Event] = []
                while not events and (chunk := os.pread(file.fileno(), most, self._offset)):
                    lines = self._whole_lines(chunk, most)
                    if lines is None:
                        break
                    events = [event for line in lines.split(b"\n") if (event := parse_event(line))]
                return events
        except OSError:
            return []

    def _start_anew_if_replaced(self, head: bytes, fd: int) -> None:
        if not head.startswith(self._head) or os.fstat(fd).st_size < self._offset:
            self._offset, self._within_a_line = 0, False
        self._head = head

    def _whole_lines(self, chunk: bytes, most: int) -> bytes | None:
        """Go on behind the chunk's whole lines and return them; None where its only line is not ended yet."""
        end = chunk.rfind(b"\n") + 1
        if not end:
            if len(chunk) < most:
                return None
            self._offset += len(chunk)
            self._within_a_line = True
            return b""
        start = chunk.find(b"\n") + 1 if self._within_a_line else 0
        self._offset += end
        self._within_a_line = False
        return chunk[start:end]


def parse_event(line: bytes) -> Event | None:
    """Return the event in a line, or None where it holds none."""
    if not line.strip():
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    named = any(name in line for name in _NAMED_FLOATS_IN_A_LINE)
    return {key: _with_floats(field) for key, field in value.items()} if named else value


def _plain(value: object) -> object:
    """What JSON can hold: numpy's and torch's numbers as Python's, NaN and the infinities by their names."""
    if isinstance(value, dict):
        return {str(key): _plain(field) for key, field in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _with_floats(value: object) -> object:
    if isinstance(value, dict):
        return {key: _with_floats(field) for key, field in value.items()}
    if isinstance(value, list):
        return [_with_floats(item) for item in value]
    return _NAMED_FLOATS.get(value, value) if isinstance(value, str) else value
