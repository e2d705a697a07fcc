"""Textual's driver on the private fd: it paints there, reads there, and takes its end for a hang-up."""

from __future__ import annotations

import contextlib
import os
import select
from codecs import getincrementaldecoder
from types import FrameType
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual._parser import ParseError
from textual._xterm_parser import XTermParser
from textual.drivers.linux_driver import LinuxDriver

if TYPE_CHECKING:
    from textual.app import App

    from lorabench.terminal.terminal import Terminal

_READ_BYTES = 4096
_LOOK_MILLISECONDS = 100


class TerminalDriver(LinuxDriver):
    """Paints on and reads from `terminal`; its end of file ends the screens, and nothing else."""

    terminal: ClassVar[Terminal]

    def __init__(self, app: App[Any], *, debug: bool, mouse: bool, size: tuple[int, int] | None) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size or self.terminal.size)
        self._file = cast("Any", self.terminal.file)
        self.fileno = self.terminal.fd
        self.input_tty = True
        self.terminal.file.repaint = lambda: self._in_app(self._repaint)

    def _in_app(self, call: Any) -> None:
        # The loop is closed when the application ends while we look.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)

    def _repaint(self) -> None:
        self._app.refresh(layout=True)

    def _get_terminal_size(self) -> tuple[int, int]:
        return self.terminal.size

    def _sigcont_application(self, number: int, frame: FrameType | None) -> None:
        # A hang-up continues us too; and to start while we end, or twice, would leave a second input thread.
        if self.terminal.hung_up or self._app._exit:
            return
        if self._key_thread is not None and self._key_thread.is_alive():
            # Stopped by SIGSTOP: the shell has had the terminal meanwhile.
            self._in_app(self._begin_again)
        else:
            super()._sigcont_application(number, frame)

    def _begin_again(self) -> None:
        self.suspend_application_mode()
        self.resume_application_mode()
        self._repaint()

    def run_input_thread(self) -> None:
        """Pass on what is typed, until the application ends or the terminal does."""
        parser = XTermParser(self._debug)
        # Bytes that are no UTF-8 (an old mouse report beyond column 95) must not end the thread.
        decode = getincrementaldecoder("utf-8")("replace").decode
        poll = select.poll()
        poll.register(self.fileno, select.POLLIN)
        while not self.exit_event.is_set():
            if poll.poll(_LOOK_MILLISECONDS):
                typed = self._read()
                if not typed:
                    self.terminal.hang_up()
                    return
                for event in parser.feed(decode(typed)):
                    self.process_message(event)
            for event in parser.tick():
                self.process_message(event)
            self.terminal.look()
        with contextlib.suppress(EOFError, ParseError):
            for event in parser.feed(""):
                self.process_message(event)

    def _read(self) -> bytes:
        try:
            return os.read(self.fileno, _READ_BYTES)
        except OSError:
            return b""


def driver_on(terminal: Terminal) -> type[TerminalDriver]:
    """Return the class of drivers that paint on this terminal, as an App wants it."""
    return type("TerminalDriver", (TerminalDriver,), {"terminal": terminal})
