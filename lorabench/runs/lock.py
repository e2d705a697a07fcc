"""The run lock: one trainer in a folder at a time, and who that is."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lorabench.errors import LorabenchError
from lorabench.files import is_there, read_plain
from lorabench.json_text import parse_json
from lorabench.text import visible

LOCK_FILE = "run.lock"
PROC = Path("/proc")
_DEAD_STATES = ("Z", "X")
_LONGEST = 4096
_LATEST = 2.0**40
"""Seconds: no clock can show more."""


class RunLockedError(LorabenchError):
    """Somebody trains in this folder already."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who trains in a folder, since when (Unix seconds).

    `boot` is the machine's boot id, `namespace` its process namespace and `started` the process's start in
    clock ticks after boot: together they tell a process from a later one with the same pid. `alive` is None
    where it cannot be told from here: on another host, or in another container.
    """

    host: str
    pid: int
    since: float
    boot: str
    namespace: str = ""
    started: int | None = None
    alive: bool | None = None


class RunLock:
    """A folder's lock, held until released; `taken_over` is the owner that is gone and left it behind.

    `since` is when it was taken by the clock that dates the folder's files (Unix seconds).
    """

    def __init__(self, path: Path, content: bytes, taken_over: Owner | None, since: float) -> None:
        self.path = path
        self.taken_over = taken_over
        self.since = since
        self._content = content

    def put_back(self) -> None:
        """Write the lock again where it was removed, with its folder; another's stays.

        Raises:
            OSError: The folder cannot be written.
        """
        with contextlib.suppress(FileExistsError), self.path.open("xb") as file:
            file.write(self._content)

    def release(self) -> None:
        """Remove the lock; somebody else's, put there in the meantime, stays."""
        with contextlib.suppress(FileNotFoundError):
            if self.path.read_bytes() == self._content:
                self.path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def take_lock(folder: Path) -> RunLock:
    """Take the folder's lock for this process, also from an owner that is gone.

    Raises:
        RunLockedError: Its owner lives, or is on another machine and may.
        OSError: The folder cannot be written.
    """
    path = folder / LOCK_FILE
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
        try:
            # Where a file system knows no flock, two takers within the same microseconds would both succeed.
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_EX)
            if not _still_at(path, fd):
                continue
            before = _owner(os.read(fd, _LONGEST))
            if before is not None and before.alive is not False:
                raise _locked(path, before)
            content = _content_of_this_process()
            os.ftruncate(fd, 0)
            if os.pwrite(fd, content, 0) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            return RunLock(path, content, before, os.fstat(fd).st_mtime)
        finally:
            os.close(fd)


def read_owner(folder: Path) -> Owner | None:
    """Return who holds the folder's lock, alive or not; None where nobody does."""
    try:
        return _owner(read_plain(folder / LOCK_FILE, _LONGEST))
    except OSError:
        return None


def _still_at(path: Path, fd: int) -> bool:
    """Say whether the path still names this open file: an owner may have removed it while we waited."""
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def _locked(path: Path, owner: Owner) -> RunLockedError:
    place = f"process {owner.pid} on {visible(owner.host)}"
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(owner.since))
    if owner.alive:
        return RunLockedError(
            f"This run is being trained by {place}, since {since}.",
            "Watch it, or stop it before you start it again.",
        )
    return RunLockedError(
        f"This run was taken by {place} at {since}, and from here nobody can tell whether it still trains.",
        f"If it does not, remove {visible(path)}.",
    )


def _content_of_this_process() -> bytes:
    pid = os.getpid()
    state = _process(pid)
    content = {
        "host": socket.gethostname(),
        "pid": pid,
        "since": time.time(),
        "boot": _boot(),
        "namespace": _namespace(),
        "started": state[1] if state else None,
    }
    return json.dumps(content).encode() + b"\n"


def _owner(content: bytes) -> Owner | None:
    try:
        told: Any = parse_json(content)
        owner = Owner(
            host=str(told["host"]),
            pid=int(told["pid"]),
            since=float(told["since"]),
            boot=str(told.get("boot", "")),
            namespace=str(told.get("namespace", "")),
            started=None if told.get("started") is None else int(told["started"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
    if not 0 <= owner.since < _LATEST:
        return None
    return Owner(**{name: getattr(owner, name) for name in Owner.__slots__[:-1]}, alive=_alive(owner))


def _alive(owner: Owner) -> bool | None:
    if owner.host != socket.gethostname():
        return None
    if owner.boot != _boot():
        return False
    if owner.namespace != _namespace():
        return None
    if not is_there(PROC.joinpath("self")):
        return _answers(owner.pid)
    state = _process(owner.pid)
    return state is not None and state[0] not in _DEAD_STATES and owner.started in (None, state[1])


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _process(pid: int) -> tuple[str, int] | None:
    """A process's state letter and its start in clock ticks after boot (proc_pid_stat(5))."""
    try:
        # The name before them, in brackets, may hold anything.
        fields = (PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        return fields[0].decode(), int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


def _boot() -> str:
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return str((PROC / "self/ns/pid").readlink())
    except OSError:
        return ""
