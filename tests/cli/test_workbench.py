"""`lorabench PATH` as a user meets it: in a terminal, until it is quit."""

import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time

import pyte
import pytest

from tests.cli.conftest import COMMAND, environment

PATIENCE = 30.0


class Terminal:
    """`lorabench` on a pty of 80×24, and the screen that it paints."""

    def __init__(self, *words, cwd=None):
        self.child, self.device = pty.fork()
        if self.child == 0:
            if cwd is not None:
                os.chdir(cwd)
            os.execve(sys.executable, [*COMMAND, *map(str, words)], environment())
        fcntl.ioctl(self.device, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.screen = pyte.Screen(80, 24)
        self.stream = pyte.ByteStream(self.screen)

    def wait_for(self, text):
        """Read until the screen shows this text."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.shown:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.device], [], [], left)[0]:
                raise AssertionError(f"{text!r} never came; the screen shows:\n{self.shown}")
            self.stream.feed(self._read())

    @property
    def shown(self):
        return "\n".join(self.screen.display)

    def _read(self):
        try:
            return os.read(self.device, 65536)
        except OSError:  # EIO: the program has ended
            raise AssertionError(f"lorabench ended; the screen shows:\n{self.shown}") from None

    def type(self, keys):
        os.write(self.device, keys.encode())

    def close(self):
        """Read until the program ends; return its exit status."""
        while True:
            try:
                if not os.read(self.device, 65536):
                    break
            except OSError:
                break
        os.close(self.device)
        return os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])


@pytest.mark.parametrize("words", [[], ["open"]])
def test_an_adapter_opens_and_q_quits(adapter, words):
    terminal = Terminal(*words, adapter)
    terminal.wait_for("style-r8")
    terminal.wait_for("1 dead")
    terminal.type("q")
    assert terminal.close() == 0


def test_the_current_folder_opens_without_a_path(adapter):
    terminal = Terminal(cwd=adapter.parent)
    terminal.wait_for("style-r8")
    terminal.type("q")
    assert terminal.close() == 0
