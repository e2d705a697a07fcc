"""The two ways in which the workbench begins a training: a thread of its own, or a process of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from lorabench.runs.lock import read_owner
from lorabench.runs.requests import request_stop

if TYPE_CHECKING:
    from lorabench.training.trainer.thread import TrainingThread


def start(
    path: Path, *, resume: bool | None, override: bool, own_process: bool
) -> ThreadTrainer | ProcessTrainer:
    """Begin to train in a thread of this process, or in a process of its own."""
    if own_process:
        return start_process(path, resume=resume, override=override)
    return start_thread(path, resume=resume, override=override)


def start_thread(path: Path, *, resume: bool | None, override: bool) -> ThreadTrainer:
    """Begin to train in a thread of this process."""
    from lorabench.training.trainer.thread import TrainingThread

    return ThreadTrainer(TrainingThread(path, resume=resume, override=override))


def start_process(path: Path, *, resume: bool | None, override: bool) -> ProcessTrainer:
    """Begin to train in a process that shares nothing with this one but the run's folder."""
    from lorabench.training.config.run_config import RunConfig
    from lorabench.training.trainer.launch import launch

    process = launch(path, resume=resume, override=override)
    return ProcessTrainer(RunConfig.load(path).folder, process)


class ThreadTrainer:
    """A thread that trains, started."""

    def __init__(self, thread: TrainingThread) -> None:
        self._thread = thread
        thread.start()

    @property
    def alive(self) -> bool:
        """Whether it still trains or saves."""
        return self._thread.alive

    def stop(self) -> None:
        """Ask it to save and end at its next step."""
        self._thread.stop()

    def wait(self) -> bool:
        """Wait for its end; say whether it has finished, or stopped as it was asked to.

        By the event, not by Thread.join: an exception in that marks a running thread as ended (CPython
        before 3.13).
        """
        self._thread.done.wait()
        outcome = self._thread.outcome
        return outcome is not None and outcome.state in ("finished", "stopped")


class ProcessTrainer:
    """A process that trains; it outlives this one."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self._folder = folder
        self._process = process
        self._seen = False

    @property
    def alive(self) -> bool:
        """Whether it still trains or saves: a process that has let go of its folder only takes its leave."""
        if self._process.poll() is not None:
            return False
        owner = read_owner(self._folder)
        held = owner is not None and owner.alive is not False
        self._seen = self._seen or held
        return held or not self._seen

    def stop(self) -> None:
        """Ask it to save and end at its next step."""
        request_stop(self._folder)

    def wait(self) -> bool:
        """Wait for its end; say whether its exit status is 0."""
        return self._process.wait() == 0
