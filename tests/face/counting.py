"""The workbench with a trainer that only counts: `python -m tests.face.counting FOLDER [OPTION …]`.

It keeps the contract of the real one (lock, events, stop) without its libraries. While there is a file
`hold` in the run's folder, it does not come to its end.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from lorabench.runs.events import EventWriter
from lorabench.runs.lock import take_lock
from lorabench.runs.requests import clear_requests, stop_requested

STEP_SECONDS = 0.01
STEPS = 150


class Counter:
    """Counts to 150 in some two seconds and prints each step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stopping, self.done = threading.Event(), threading.Event()
        self.state = ""
        threading.Thread(target=self.run, daemon=False).start()

    @property
    def alive(self) -> bool:
        return not self.done.is_set()

    def stop(self) -> None:
        self.stopping.set()

    def wait(self) -> bool:
        self.done.wait()
        return self.state in ("finished", "stopped")

    def run(self) -> None:
        clear_requests(self.folder)
        with take_lock(self.folder), EventWriter(self.folder) as events:
            events.write("started", total_steps=STEPS)
            for step in range(1, STEPS + 1):
                self.stopping.wait(STEP_SECONDS)
                events.write("log", step=step, loss=1 / step)
                print(f"step {step}", flush=True)  # noqa: T201
                if self.stopping.is_set() or stop_requested(self.folder):
                    break
            while (self.folder / "hold").exists():
                threading.Event().wait(STEP_SECONDS)
            self.state = "finished" if step == STEPS else "stopped"
            events.write(self.state, step=step, pid=os.getpid())
        self.done.set()


def start(path: Path, *, resume: bool | None, override: bool) -> Counter:
    """Begin to count, in place of a training thread."""
    return Counter(path.parent)


if __name__ == "__main__":
    from lorabench.__main__ import main
    from lorabench.cli import trainers

    trainers.start_thread = start  # type: ignore[assignment]
    sys.exit(main())
