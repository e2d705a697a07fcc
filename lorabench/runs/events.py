"""Write and follow `events.jsonl`: one JSON object a line, the only channel from trainer to screens."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lorabench.files import append_plain, open_plain
from lorabench.json_text import parse_json

EVENTS_FILE = "events.jsonl"
MOST_BYTES = 2**20
# The spectra of a model of 80 layers take 125 kB.
LONGEST_LINE = 2**22
_PATIENCE = 0.5  # seconds that a reader spends on lines that hold no event
_FURTHEST_BACK = 2**28
_MOST_TRIES = 1_000

Event = dict[str, Any]

_NAMED_FLOATS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_HEAD_BYTES = 64
_KIND_WITHIN = 100


class EventWriter:
    """Append events to a run's file; each is one write, so that what precedes a crash is whole."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / EVENTS_FILE
        with append_plain(self._path) as file:
            self._fd = os.dup(file.fileno())
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
    Events of the kinds `without` are passed over, at no more cost than reading their bytes.
    """

    def __init__(self, path: Path, offset: int = 0, without: Sequence[str] = ()) -> None:
        self.path = path
        self._without = [f'"kind": "{kind}"'.encode() for kind in without]
        self._offset = max(offset - 1, 0)  # the byte before tells whether a line starts at `offset`
        self._within_a_line = offset > 0
        self._head = b""

    def read(self, most: int = MOST_BYTES) -> list[Event]:
        """Return the next new events, [] where there are none now.

        Takes at most `most` bytes of the file at once, or one line: call again until it returns []. A line
        longer than `LONGEST_LINE` is passed over. A file that cannot be read now has no new events, and nor
        has one that held none for half a second of reading: the next call goes on behind that.
        """
        ends = time.monotonic() + _PATIENCE
        try:
            with open_plain(self.path) as file:
                self._start_anew_if_replaced(os.pread(file.fileno(), _HEAD_BYTES, 0), file.fileno())
                events: list[Event] = []
                while not events and (lines := self._next_lines(file.fileno(), most)):
                    events = list(self._parsed(lines))
                    if time.monotonic() > ends:
                        break
                return events
        except OSError:
            return []

    def _start_anew_if_replaced(self, head: bytes, fd: int) -> None:
        if not head.startswith(self._head) or os.fstat(fd).st_size < self._offset:
            self._offset, self._within_a_line = 0, False
        self._head = head

    def _next_lines(self, fd: int, most: int) -> list[bytes]:
        """Go on behind the next whole lines and return them, [] where none has been ended yet."""
        chunk = os.pread(fd, most, self._offset)
        if len(chunk) == most < LONGEST_LINE and b"\n" not in chunk:
            chunk = os.pread(fd, LONGEST_LINE, self._offset)
            chunk = chunk[: chunk.find(b"\n") + 1] or chunk
        end = chunk.rfind(b"\n") + 1
        if not end and len(chunk) < max(most, LONGEST_LINE):
            return []
        lines = chunk[:end].split(b"\n")
        if self._within_a_line:
            lines[0] = b""
        self._offset += end or len(chunk)
        self._within_a_line = not end
        return lines

    def _parsed(self, lines: list[bytes]) -> Iterator[Event]:
        for line in lines:
            start = line[:_KIND_WITHIN]
            if any(kind in start for kind in self._without):
                continue
            if event := parse_event(line):
                yield event


def last_of_kind(path: Path, kind: str) -> tuple[int, Event] | None:
    """Return where the last event of a kind starts in a file, and the event; None where there is none.

    Reads the file from its end, part by part, a quarter of a gigabyte at most, and no more than a thousand
    lines that only look like such an event.

    Raises:
        OSError: it cannot be read.
    """
    wanted = f'"kind": "{kind}"'.encode()
    with BufferedReader(open_plain(path)) as file:
        end = file.seek(0, os.SEEK_END)
        furthest, left = end - _FURTHEST_BACK, _MOST_TRIES
        while end > max(0, furthest):
            start = max(0, end - MOST_BYTES)
            # A line that begins in this part may name its kind in the next.
            chunk = os.pread(file.fileno(), end - start + _KIND_WITHIN, start)
            at = chunk.rfind(wanted)
            while at >= 0 and left:
                left -= 1
                line_start = chunk.rfind(b"\n", 0, at) + 1
                file.seek(start + line_start)
                event = parse_event(file.readline(LONGEST_LINE)) if line_start or not start else None
                if event is not None and event.get("kind") == kind:
                    return start + line_start, event
                at = chunk.rfind(wanted, 0, line_start)
            end = start
    return None


def parse_event(line: bytes) -> Event | None:
    """Return the event in a line, or None where it holds none."""
    if not line.strip():
        return None
    try:
        value = parse_json(line)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    named = b'"NaN"' in line or b'Infinity"' in line
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
