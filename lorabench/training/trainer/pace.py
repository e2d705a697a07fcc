"""How fast a training goes: its steps, and the tokens in them."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """Counts steps, tokens and seconds from one log to the next; evaluating and saving take none of them."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._tokens = 0
        self.begin(0)

    def begin(self, tokens: int) -> None:
        """Begin to count, with so many tokens seen."""
        self._tokens = tokens
        self._steps, self._seconds = 0, 0.0
        self.go_on()

    def go_on(self) -> None:
        """Leave out what was done since the last step."""
        self._mark = self._clock()

    def step(self) -> None:
        """Count a step."""
        now = self._clock()
        self._seconds += now - self._mark
        self._mark = now
        self._steps += 1

    def read(self, tokens: int, rows: int) -> dict[str, float]:
        """Return the pace since the last reading, {} where no step was taken; `rows` are those of a step."""
        steps, seconds, seen = self._steps, self._seconds, tokens - self._tokens
        self._tokens = tokens
        self._steps, self._seconds = 0, 0.0
        if not steps or seconds <= 0:
            return {}
        return {
            "tokens_per_second": seen / seconds,
            "step_seconds": seconds / steps,
            "samples_per_second": steps * rows / seconds,
        }
