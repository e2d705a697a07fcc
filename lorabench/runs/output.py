"""Follow `output.log`: the last lines of all that the libraries print, in bounded memory."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

from lorabench.files import open_plain
from lorabench.text import human_bytes

OUTPUT_FILE = "output.log"

MOST_LINES = 5_000
MOST_BYTES = 2**19
LONGEST_LINE = 4_000
TOO_LONG = " …"
# Nested progress bars write it; like the carriage return it moves the cursor and shows nothing.
CURSOR_UP = b"\x1b[A"


class OutputTail:
    """The last lines of a growing file; `first` is the number of the oldest line that is kept.

    A carriage return begins its line anew, as on a terminal: of a progress bar the newest state remains. When
    the file grows by more than half a megabyte between two readings, the middle is passed over, and a line
    says so.
    """

    def __init__(self, path: Path, most_lines: int = MOST_LINES) -> None:
        self.path = path
        self.lines: deque[str] = deque(maxlen=most_lines)
        self.ended = 0
        self._offset = 0
        self._open = b""
        self._file: tuple[int, int] | None = None

    @property
    def first(self) -> int:
        """The number of the oldest line that is kept, from 0."""
        return self.ended - len(self.lines)

    @property
    def unfinished(self) -> str:
        """What stands behind the last newline, such as a progress bar that still moves."""
        return _shown(self._open)

    def add(self, line: str) -> None:
        """Append a line that does not come from the file."""
        self.lines.append(line)
        self.ended += 1

    def read(self) -> bool:
        """Take in what is new; return whether anything is."""
        try:
            with open_plain(self.path) as file:
                status = os.fstat(file.fileno())
                identity = (status.st_dev, status.st_ino)
                replaced = self._file not in (None, identity) or status.st_size < self._offset
                if replaced:
                    self._offset, self._open = 0, b""
                self._file = identity
                passed = self._pass_over(status.st_size)
                chunk = os.pread(file.fileno(), MOST_BYTES, self._offset)
        except OSError:
            return False
        self._offset += len(chunk)
        self._take(chunk[chunk.find(b"\n") + 1 :] if passed else chunk)
        return bool(chunk) or replaced

    def _pass_over(self, size: int) -> bool:
        """Go to the file's last part where more is new than one reading takes; return whether it is."""
        passed = size - MOST_BYTES - self._offset
        if passed <= 0:
            return False
        self.add(f"… {human_bytes(passed)} of {self.path.name} passed over …")
        self._offset += passed
        self._open = b""
        return True

    def _take(self, chunk: bytes) -> None:
        *ended, rest = (self._open + chunk).split(b"\n")
        for line in ended:
            self.add(_shown(line))
        # Of an open line only what a terminal would show is kept, however often a bar has moved.
        self._open = _after_return(rest)[-LONGEST_LINE:]


def _after_return(line: bytes) -> bytes:
    body = line.rstrip(b"\r")
    return body[body.rfind(b"\r") + 1 :] + line[len(body) :][:1]


def _shown(line: bytes) -> str:
    text = _after_return(line).rstrip(b"\r").replace(CURSOR_UP, b"").decode(errors="replace")
    return text if len(text) <= LONGEST_LINE else text[:LONGEST_LINE] + TOO_LONG
