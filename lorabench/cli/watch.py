"""Follow a run from the command line: its events to the display, Ctrl-C to the trainer."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from pathlib import Path
from types import FrameType
from typing import Self

from lorabench.cli.progress import Display
from lorabench.runs.events import EVENTS_FILE, Follower
from lorabench.runs.record import RunRecord
from lorabench.runs.requests import clear_requests, request_stop

POLL = 0.2  # seconds
STOPPING = "Stopping: the trainer saves and ends. Ctrl-C again ends it at once, without saving."


class Interrupts:
    """Counts SIGINT and SIGTERM within a `with`, where they end nothing."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Self:
        self._before = {
            number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.count += 1


class Watch:
    """Follows the run that `process` trains, from `offset` in its events file on.

    The first of the `interrupts` asks the trainer to save and stop, the second ends it at once (`killed`). A
    SIGHUP ends the watcher alone, as it does by default: the trainer has a session of its own.
    """

    def __init__(
        self,
        folder: Path,
        process: subprocess.Popen[bytes],
        shown: Display,
        offset: int,
        interrupts: Interrupts,
    ) -> None:
        self.record = RunRecord()
        self.killed = False
        self._folder, self._process, self._shown = folder, process, shown
        self._follower = Follower(folder / EVENTS_FILE, offset)
        self._interrupts = interrupts
        self._heeded = 0

    def follow(self, *, until_training: bool) -> bool:
        """Show what happens until the process ends, or has begun to train; return whether it has ended."""
        while True:
            ended = self._process.poll() is not None  # before the last look at what it wrote
            self._show()
            if ended:
                if self._heeded:
                    clear_requests(self._folder)
                return True
            if until_training and self.record.state == "training":
                return False
            self._heed()
            time.sleep(POLL)

    def _show(self) -> None:
        while events := self._follower.read():
            for event in events:
                self.record.add(event)
                self._shown.show(event, self.record)
        self._shown.refresh()

    def _heed(self) -> None:
        if self._heeded == 0 and self._interrupts.count:
            self._heeded = 1
            self._shown.line(STOPPING, "yellow")
            request_stop(self._folder)
        elif self._heeded == 1 and self._interrupts.count > 1:
            self._heeded = 2
            self.killed = True
            end_at_once(self._process)


def end_at_once(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all below it: `accelerate launch` gives each of its workers a session of its own."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        whole = psutil.Process(process.pid)
        for each in [whole, *whole.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
    process.wait()
