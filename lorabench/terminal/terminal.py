"""The terminal on a private fd; what anyone writes to standard output and error goes to a log."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import tempfile
import termios
from collections.abc import Callable
from pathlib import Path

from lorabench.errors import LorabenchError
from lorabench.runs.log_stream import log_stream
from lorabench.terminal.tty_file import RESET, TtyFile

_PRIVATE_FD = 100
_DEFAULT_SIZE = (80, 24)


class Terminal:
    """The terminal, opened again by its name, with /dev/null and a log in its place on fds 0, 1 and 2.

    The log is `lorabench-….log`, a private file in the folder for temporary files, which is removed in the
    end; while a run trains in this process it is the run's own `output.log`. It is a file, never a pipe: C
    code that fills a pipe while it holds the GIL would wait for ever for a reader in Python.

    Raises:
        LorabenchError: The terminal cannot be opened by its name.
    """

    def __init__(self) -> None:
        self.fd = _open_by_name()
        self.file = TtyFile(self.fd)
        self.hung_up = False
        self.on_hang_up: Callable[[], None] = lambda: None
        self._parent = os.getppid()
        self._attributes = termios.tcgetattr(self.fd)
        sys.stdout.flush()
        sys.stderr.flush()
        self._standard = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _PRIVATE_FD) for fd in (0, 1, 2)]
        self._log, name = tempfile.mkstemp(prefix="lorabench-", suffix=".log")
        self.log = Path(name)
        fcntl.fcntl(self._log, fcntl.F_SETFL, os.O_APPEND)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        self.log_here()
        # Whatever is printed goes into the log at once; Textual puts streams of its own over these.
        sys.stdout = sys.__stdout__ = log_stream(1)  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = log_stream(2)  # type: ignore[misc]

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows; those of `COLUMNS` and `LINES` go first, as everywhere."""
        try:
            columns, rows = os.get_terminal_size(self.fd)
        except OSError:
            columns, rows = _DEFAULT_SIZE
        named = [os.environ.get(name, "") for name in ("COLUMNS", "LINES")]
        sizes = [int(name) if name.isdecimal() else 0 for name in named]
        return sizes[0] or columns or _DEFAULT_SIZE[0], sizes[1] or rows or _DEFAULT_SIZE[1]

    def hang_up(self) -> None:
        """Take note that nobody is at the terminal any more, and tell `on_hang_up` of it, once."""
        if not self.hung_up:
            self.hung_up = True
            self.on_hang_up()

    def look(self) -> None:
        """See whether a stalled link moves again, and whether the shell still waits for us."""
        self.file.look()
        if os.getppid() != self._parent:
            self.hang_up()

    def log_to(self, path: Path) -> None:
        """Append to this file what is written to standard output and error from now on.

        Raises:
            OSError: It cannot be opened.
        """
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        _onto_standard_output(fd)
        os.close(fd)

    def log_here(self) -> None:
        """Send what is written to standard output and error to the private log again."""
        _onto_standard_output(self._log)

    def say(self, text: str) -> None:
        """Write a line for whoever is at the terminal, when the screens are closed."""
        self.file.write(f"{text}\r\n")

    def reset(self) -> None:
        """Leave full-screen mode at once, whatever the screens are doing."""
        self.file.write(RESET)
        with contextlib.suppress(termios.error):
            termios.tcsetattr(self.fd, termios.TCSANOW, self._attributes)

    def give_back(self) -> None:
        """Put the terminal on fds 0, 1 and 2 again, and remove the log."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for fd, saved in enumerate(self._standard):
            os.dup2(saved, fd)
        self.leave()

    def leave(self) -> None:
        """Let go of the terminal: what is printed from now on goes to the log, which stays until the end."""
        for fd in (*self._standard, self.fd):
            os.close(fd)
        self.file.gone = True
        self.log.unlink(missing_ok=True)


def _open_by_name() -> int:
    """Open the terminal of standard input anew: its own description can be non-blocking, the shell's not."""
    flags = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
    # After su the terminal's own name may not be opened, and in a container it may be missing.
    names = ["/dev/tty"]
    with contextlib.suppress(OSError):
        names.insert(0, os.ttyname(0))
    for name in names:
        try:
            low = os.open(name, flags)
        except OSError as error:
            problem = error.strerror
            continue
        # Out of the way of what a library takes for one of its own.
        fd = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, _PRIVATE_FD)
        os.close(low)
        return fd
    raise LorabenchError(
        f"The terminal {names[0]} cannot be opened: {problem}.",
        "A new login, or tmux, gives a terminal that can.",
    )


def _onto_standard_output(fd: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for number in (1, 2):
        os.dup2(fd, number)
