"""A Textual application on a terminal of our own, which can be left from anywhere."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import IO, Any, cast

from textual.app import App
from textual.filter import LineFilter

from lorabench.terminal.harmless import Harmless
from lorabench.terminal.terminal import Terminal

_HARMLESS = Harmless()


class TerminalApp(App[None]):
    """Paints on `terminal`, where there is one; what is printed meanwhile goes to the terminal's log."""

    def __init__(self, terminal: Terminal | None) -> None:
        if terminal is None:
            super().__init__()
        else:
            from lorabench.terminal.driver import driver_on

            super().__init__(driver_class=driver_on(terminal))
            self.error_console.file = cast("IO[str]", terminal.file)
        self.terminal = terminal
        self._ending = False
        self._leaving = False
        self._running_loop: asyncio.AbstractEventLoop | None = None

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Return what looks at each line before it is painted."""
        return [*super().get_line_filters(), _HARMLESS]

    def on_mount(self) -> None:
        if self.terminal is not None:
            # Textual has put its own in their place, which swallow what is printed.
            sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        self._running_loop = asyncio.get_running_loop()
        if self._leaving:
            self.exit()

    def leave(self) -> None:
        """Close the screens; from any thread, from a signal handler, and before they were ever open."""
        self._leaving = True
        if self._running_loop is not None and not self._running_loop.is_closed():
            self._running_loop.call_soon_threadsafe(self.exit)

    def exit(self, *arguments: Any, **options: Any) -> None:
        """Close the screens."""
        self._ending = True
        super().exit(*arguments, **options)

    @property
    def ending(self) -> bool:
        """Whether the screens are being closed: what is shown on them now may be gone in the middle of it."""
        return self._ending or not self.is_running
