"""Open files that anybody may have put there: a pipe or a device in their place keeps nobody waiting."""

from __future__ import annotations

import errno
import os
import stat
from io import FileIO
from pathlib import Path


def open_plain(path: Path) -> FileIO:
    """Open a file to be read, without a buffer.

    Raises:
        OSError: it cannot be opened, or is no plain file.
    """
    file = FileIO(path, opener=_without_waiting)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "Not a plain file", str(path))
    return file


def read_plain(path: Path, most: int) -> bytes:
    """Return the content of a plain file.

    Raises:
        OSError: it cannot be read, is no plain file, or is larger than `most` bytes.
    """
    with open_plain(path) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        return file.read()


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
