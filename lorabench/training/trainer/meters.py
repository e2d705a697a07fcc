"""Read the device's meters now and then, beside the training and never in its way."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from lorabench.runs.device import read_meters
from lorabench.training.trainer.events import Events

SECONDS = 2.0
PATIENCE = 0.5


class MetersThread:
    """A daemon thread that writes a `device` event every few seconds: a driver that hangs delays no step.

    `gpus` are the UUIDs of those that train; none of them is the CPU.
    """

    def __init__(self, events: Events, gpus: Sequence[str]) -> None:
        self._events, self._gpus = events, gpus
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lorabench meters", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        while not self._ended.is_set():
            meters = read_meters(self._gpus)
            if not self._ended.is_set():
                self._events.write("device", **meters.fields())
            self._ended.wait(SECONDS)
