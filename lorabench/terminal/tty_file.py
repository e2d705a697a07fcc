"""A terminal as a file that never blocks for good, and that takes whatever comes once it is gone."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable

from lorabench.terminal.lean import lean

# A link on which nothing moves for so long has stalled: what is painted meanwhile is left out.
PATIENCE_SECONDS = 1.0

# Leaves what a full-screen program may have switched on: kitty keys, mouse, pastes, focus, no wrap, alternate
# screen, hidden cursor.
RESET = (
    "\x1b[<u\x1b[?1000l\x1b[?1003l\x1b[?1006l\x1b[?1015l\x1b[?2004l\x1b[?1004l\x1b[?7h\x1b[?1049l\x1b[?25h"
)


class TtyFile:
    """Writes to a terminal's non-blocking fd.

    While the link is slow, a write waits. When nothing moves for `PATIENCE_SECONDS`, the link has stalled:
    what is written then is dropped, and when it moves again `repaint` is called, once. When the terminal is
    gone (EIO, EPIPE, …) everything is dropped.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._rest = b""
        self._writing = threading.Lock()
        self.stalled = False
        self.gone = False
        self.repaint: Callable[[], None] = lambda: None

    def fileno(self) -> int:
        """Return the terminal's fd."""
        return self._fd

    def isatty(self) -> bool:
        """Return True: this is what the class is for."""
        return True

    def flush(self) -> None:
        """Do nothing: a write leaves nothing behind."""

    def write(self, text: str) -> int:
        """Write a text, or drop it where the link has stalled or the terminal is gone."""
        with self._writing:
            if not self.gone and self._moves_again():
                self._send(lean(text).encode(errors="replace"))
        return len(text)

    def look(self) -> None:
        """Go on where a stalled link moves again, though nothing is to be written."""
        if self.stalled and self._writing.acquire(blocking=False):
            try:
                self._moves_again()
            finally:
                self._writing.release()

    def _moves_again(self) -> bool:
        """Say whether the link moves; after a stall, first send what was cut, and have all painted anew."""
        if not self.stalled:
            return True
        if not self._writable(0):
            return False
        self.stalled = False
        rest, self._rest = self._rest, b""
        self._send(rest)
        if not self.stalled:
            self.repaint()
        return not self.stalled

    def _send(self, data: bytes) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while data and not self.gone:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                if not self._writable(deadline - time.monotonic()):
                    # An escape sequence that was cut must be ended before anything else is sent.
                    self._rest, self.stalled = data, True
                    return
            except OSError:
                self.gone = True
            else:
                deadline = time.monotonic() + PATIENCE_SECONDS

    def _writable(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(max(0.0, seconds) * 1000))
