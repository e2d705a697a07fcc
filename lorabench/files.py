"""Files that anybody may have put there, in folders that may be locked, and disks that may be full."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from io import FileIO
from pathlib import Path

from lorabench.text import visible

_NO_ROOM = "Make room on that disk, then try again."
_MENDS = {
    errno.ENOSPC: _NO_ROOM,
    errno.EDQUOT: _NO_ROOM,
    errno.EACCES: "You may not do that there: ask its owner, or name another place.",
    errno.EPERM: "You may not do that there: ask its owner, or name another place.",
    errno.EROFS: "That disk is read-only: name another place.",
    errno.ENAMETOOLONG: "Name it shorter.",
}


def is_file(path: Path) -> bool:
    """Say whether a file is there, as far as one may look: pathlib's own raises below a locked folder."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Say whether a folder is there, as far as one may look."""
    return os.path.isdir(path)  # noqa: PTH112


def is_there(path: Path) -> bool:
    """Say whether anything is there, as far as one may look."""
    return os.path.exists(path)  # noqa: PTH110


def at_home(path: str | os.PathLike[str]) -> Path:
    """Return a path with `~` as the user's folder; another's, who is not known, stays as it is written."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


def working_folder() -> Path:
    """Return the current folder, or the user's own where that has been removed."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return at_home("~")


def real(path: Path) -> Path:
    """Return where a path leads by all links; a link that leads to itself ends there."""
    return Path(os.path.realpath(path))


def why_not_there(path: str | Path) -> tuple[str, str]:
    """Return why nothing can be seen at a path, and what to do."""
    try:
        os.stat(path)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        return cannot(path, "reached", error)
    return f"There is nothing at {visible(path)}.", "Check the path."


def cannot(path: object, done: str, error: OSError) -> tuple[str, str]:
    """Return why something at a path cannot be `done` (read, written, made), and what to do about it."""
    why = error.strerror or visible(error)
    return f"{visible(path)} cannot be {done}: {why}.", _MENDS.get(error.errno or 0, "")


def open_plain(path: Path) -> FileIO:
    """Open a file to be read, without a buffer: a pipe or a device in its place keeps nobody waiting.

    Raises:
        OSError: it cannot be opened, or is no plain file.
    """
    return _plain(FileIO(path, opener=_without_waiting))


def append_plain(path: Path) -> FileIO:
    """Open a file to be read, and appended to; it is made where there is none.

    Raises:
        OSError: it cannot be opened, or is no plain file: a pipe that nobody reads would stop its writer.
    """
    return _plain(FileIO(path, "a+", opener=_without_waiting))


def read_plain(path: Path, most: int) -> bytes:
    """Return the content of a plain file.

    Raises:
        OSError: it cannot be read, is no plain file, or is larger than `most` bytes.
    """
    with open_plain(path) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        return file.read()


def replace_text(path: Path, text: str) -> None:
    """Write a whole text file, so that a crash or a full disk leaves the old one or the new one, whole.

    A link stays a link, and the file that it points to keeps its permissions. A device is written as it is,
    and so is a file that one may write in a folder that takes no other.

    Raises:
        OSError: it cannot be written; what was there is, unless it had to be written as it is.
    """
    target = real(path)
    if is_there(target) and not is_file(target):
        target.write_text(text, encoding="utf-8")
        return
    content = text.encode("utf-8")
    try:
        _replace(target, content)
    except PermissionError:
        if not is_file(target):
            raise
        with target.open("r+b") as file:
            file.write(content)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())


def _replace(target: Path, content: bytes) -> None:
    mode = stat.S_IMODE(target.stat().st_mode) if is_there(target) else None
    # No longer than any name may be, whatever the target's; and never open to more people than the target.
    draft = target.with_name(f".{os.urandom(4).hex()}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(draft, flags, 0o666 if mode is None else 0o600), "wb") as file:
            file.write(content)
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    # What may not be listed cannot be opened; the file is whole there all the same.
    with contextlib.suppress(PermissionError):
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _plain(file: FileIO) -> FileIO:
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError(errno.EINVAL, "Not a plain file", str(file.name))


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
