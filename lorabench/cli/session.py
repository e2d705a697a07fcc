"""One session of the workbench: from taking the terminal to the end of the run that it has begun."""

from __future__ import annotations

import gc
import os
import shlex
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lorabench.cli import trainers
from lorabench.cli.signals import end_by_exception
from lorabench.terminal.parent import detach
from lorabench.terminal.terminal import Terminal
from lorabench.text import visible

if TYPE_CHECKING:
    from lorabench.app import LorabenchApp
    from lorabench.cli.workbench import Options
    from lorabench.spectra.gram import Eigenvalues

# `timeout` and a service manager send one signal to the parent and to the child: these are not two.
_SAME_SIGNAL_SECONDS = 0.5


def run(path: Path | None, options: Options) -> int:
    """Run the workbench on a folder or an adapter's file, None for the current folder; return the status.

    The status is 0, or 1 when the screens or, once they are closed, the run has failed.

    Raises:
        LorabenchError: The terminal cannot be opened.
    """
    end_by_exception()  # until there is a session, which knows better
    terminal = Terminal()
    try:
        app = _app(path, options, terminal)
        session = Session(app, terminal)
        # What is imported by now stays: keep the garbage collector from walking it again and again.
        gc.freeze()
        app.run(mouse=options.mouse)
    except BaseException:
        terminal.reset()
        terminal.give_back()
        raise
    return session.finish()


def _app(path: Path | None, options: Options, terminal: Terminal) -> LorabenchApp:
    from lorabench.app import LorabenchApp

    start = path or Path.cwd()
    return LorabenchApp(
        start if start.is_dir() else start.parent,
        None if start.is_dir() else start,
        start=trainers.start,
        own_process=options.own_process,
        terminal=terminal,
        refresh_seconds=options.refresh_seconds,
        theme=options.theme,
        find_eigenvalues=_eigenvalues,
    )


def _eigenvalues() -> Eigenvalues:
    from lorabench.training.eigenvalues import best_eigenvalues

    return best_eigenvalues()


class Session:
    """What signals do while the screens are open, and what is left to do when they are closed.

    A hang-up closes the screens. SIGTERM and SIGINT close them and stop the run that trains in this process,
    which saves it; a second one ends at once.
    """

    def __init__(self, app: LorabenchApp, terminal: Terminal) -> None:
        self._app = app
        self._terminal = terminal
        self._asked: float | None = None
        terminal.on_hang_up = app.leave
        app.on_interrupt = lambda: self._end(signal.SIGINT)
        signal.signal(signal.SIGHUP, lambda *_: terminal.hang_up())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: self._end(number))

    def _end(self, number: int) -> None:
        training, now = self._app.training, time.monotonic()
        if self._asked is None and not training.stopping:
            self._asked = now
            if training.here is not None:
                training.stop()
            self._app.leave()
        elif self._asked is None or now - self._asked > _SAME_SIGNAL_SECONDS:
            self._terminal.reset()
            self._terminal.log.unlink(missing_ok=True)
            os._exit(128 + number)

    def finish(self) -> int:
        """Let a run that trains in this process come to its end, and return the exit status."""
        # Textual's handlers want its screens; a hang-up continues us too.
        for number in (signal.SIGCONT, signal.SIGTSTP):
            signal.signal(number, signal.SIG_DFL)
        trainer, gone = self._app.training.begun_here, self._terminal.hung_up or self._app.detached
        if trainer is None or not (gone or trainer.alive):
            self._terminal.give_back()
            return self._app.return_code or 0
        self._terminal.say(self._farewell())
        if gone:
            self._terminal.leave()
            if self._app.detached:
                detach()
        well = trainer.wait()
        if not gone:
            self._terminal.give_back()
        return 0 if well else 1

    def _farewell(self) -> str:
        training = self._app.training
        if training.stopping:
            return f"{training.name} stops at its next step and saves; ctrl+c ends it at once."
        if self._app.detached:
            return f"{training.name} trains on. To see it: lorabench {shlex.quote(visible(training.folder))}"
        return f"{training.name} trains on without its screens; ctrl+c stops it, which saves it."
