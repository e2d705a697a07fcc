"""Run `lorabench` as a user does: on a pty, with an emulator of a terminal that shows what one sees."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pyte

from tests.conftest import REPOSITORY

COMMAND = [sys.executable, "-m", "lorabench"]
PATIENCE = 30.0


def environment(**more: str) -> dict[str, str]:
    """The environment of a user without colour or width settings of his own, in this checkout."""
    mine = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")}
    return {**mine, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm-256color", **more}


class Terminal:
    """A command on a pty, and the screen that it paints; `painted` holds all bytes that it sent."""

    def __init__(
        self, *words: object, size: tuple[int, int] = (80, 24), cwd: Path | None = None, **env: str
    ) -> None:
        """Run `lorabench` with these words, or another command given as one list."""
        command = words[0] if words and isinstance(words[0], list) else [*COMMAND, *map(str, words)]
        columns, rows = size
        self.started = time.monotonic()
        self.child, self.device = pty.fork()
        if self.child == 0:
            if cwd is not None:
                os.chdir(cwd)
            os.execve(command[0], command, environment(**env))
        fcntl.ioctl(self.device, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen = pyte.Screen(columns, rows)
        self.stream = pyte.ByteStream(self.screen)
        self.painted = b""

    @property
    def lines(self) -> list[str]:
        """The lines that one sees, without the blanks at their ends."""
        return [line.rstrip() for line in self.screen.display]

    @property
    def shown(self) -> str:
        """The screen as one text."""
        return "\n".join(self.lines)

    def read(self, seconds: float) -> bool:
        """Take in what is painted next; False when nothing comes in so long, or the command has ended."""
        if not select.select([self.device], [], [], max(0.0, seconds))[0]:
            return False
        try:
            data = os.read(self.device, 65536)
        except OSError:  # EIO: the command has ended
            return False
        self.painted += data
        self.stream.feed(data)
        return bool(data)

    def wait_until(self, holds: Callable[[], bool], what: str = "it") -> float:
        """Read until this holds; return the seconds since the start."""
        deadline = time.monotonic() + PATIENCE
        while not holds():
            if not self.read(deadline - time.monotonic()):
                raise AssertionError(f"{what} never came; the screen shows:\n{self.shown}")
        return time.monotonic() - self.started

    def wait_for(self, text: str) -> float:
        """Read until the screen shows this text; return the seconds since the start."""
        return self.wait_until(lambda: text in self.shown, repr(text))

    def type(self, keys: str) -> None:
        """Type these keys."""
        os.write(self.device, keys.encode())

    def close(self) -> int:
        """Read until the command ends; return its exit status."""
        while self.read(PATIENCE):
            pass
        os.close(self.device)
        return os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])
