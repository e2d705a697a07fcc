"""Print into a log that may be on a full disk."""

from __future__ import annotations

import contextlib
from io import FileIO, TextIOWrapper
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class LogFile(FileIO):
    """A file that takes what it can: the libraries print without expecting that this can fail.

    So what a full disk does not take is lost, and ends no run.
    """

    def write(self, content: ReadableBuffer, /) -> int:
        """Write what there is room for; return the length of all."""
        with contextlib.suppress(OSError):
            super().write(content)
        return memoryview(content).nbytes


def log_stream(fd: int) -> TextIOWrapper:
    """Return a stream that writes to `fd` at once, and raises nothing whatever is printed."""
    file = LogFile(fd, "w", closefd=False)
    return TextIOWrapper(
        file,
        encoding="utf-8",
        errors="backslashreplace",
        line_buffering=True,
        write_through=True,
    )
