"""Read the device's meters now and then, beside the training and never in its way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from lorabench.runs.device import Meters, read_meters
from lorabench.training.trainer.events import Events

SECONDS = 2.0


class MetersThread:
    """A daemon thread that writes a `device` event every few seconds: a driver that hangs delays no step."""

    def __init__(
        self, events: Events, read: Callable[[], Meters] = read_meters, seconds: float = SECONDS
    ) -> None:
        self._events, self._read, self._seconds = events, read, seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lorabench meters", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(self._seconds)

    def _run(self) -> None:
        while not self._ended.is_set():
            self._events.write("device", **self._read().fields())
            self._ended.wait(self._seconds)
