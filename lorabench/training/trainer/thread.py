"""Train in a thread of this process."""

from __future__ import annotations

import gc
import sys
import threading
from pathlib import Path

from lorabench.training.trainer.train import Outcome, train


class TrainingThread:
    """A plain thread that trains, and keeps the process alive until it is done.

    It is no daemon and no executor's: a screen that goes, or an event loop that ends, leaves it training.
    `done` is set after `outcome` is.
    """

    def __init__(self, path: Path, *, resume: bool | None = None, override: bool = False) -> None:
        self.path = path
        self.outcome: Outcome | None = None
        self.done = threading.Event()
        self._resume, self._override = resume, override
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lorabench training", daemon=False)

    def start(self) -> None:
        """Begin to train."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it was started and is not done."""
        return self._thread.ident is not None and not self.done.is_set()

    def stop(self) -> None:
        """Ask for a stop: the training saves and ends at its next step."""
        self._stopping.set()

    def _run(self) -> None:
        try:
            self.outcome = train(
                self.path,
                resume=self._resume,
                override=self._override,
                place="thread",
                stopping=self._stopping,
            )
        finally:
            _release()
            self.done.set()


def _release() -> None:
    """Give back what the model took: the next training in this process needs the room.

    Model and trainer hold each other, so that nothing but a collection frees them.
    """
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
