"""A curve over the steps of a run, of any length in bounded memory."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from typing import NamedTuple

MOST_BUCKETS = 4096


class Points(NamedTuple):
    """A curve: steps ascending, and the lowest, the highest and the mean of the values each stands for."""

    steps: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    mean: tuple[float, ...]


class Series:
    """Values by step; when `MOST_BUCKETS` are full, pairs of neighbours become one, at half the resolution.

    A value at a step that has one already, or at an earlier step, takes the place of all from there on: so a
    resumed run's steps replace those that it repeats. What is not finite is kept as `last` only.
    """

    def __init__(self) -> None:
        self._steps = array("q")  # of each bucket the last step
        self._low, self._high, self._mean = array("d"), array("d"), array("d")
        self._bucket_size = 1
        self._open: list[tuple[int, float]] = []  # the newest values, fewer than fill a bucket
        self.last: float | None = None
        self.last_step: int | None = None

    def add(self, step: int, value: float) -> None:
        """Add the value at a step."""
        if self.last_step is not None and step <= self.last_step:
            self.drop_after(step - 1)
        self.last, self.last_step = value, step
        if not math.isfinite(value):
            return
        self._open.append((step, value))
        if len(self._open) == self._bucket_size:
            step, low, high, mean = _summed(self._open)
            self._steps.append(step)
            self._low.append(low)
            self._high.append(high)
            self._mean.append(mean)
            self._open.clear()
        if len(self._steps) == MOST_BUCKETS:
            self._halve()

    def drop_after(self, step: int) -> None:
        """Forget the values after a step, and a bucket that reaches beyond it as a whole."""
        self._open = [(at, value) for at, value in self._open if at <= step]
        kept = bisect_right(self._steps, step)
        for column in (self._steps, self._low, self._high, self._mean):
            del column[kept:]
        if self.last_step is not None and self.last_step > step:
            points = self.points()
            self.last_step = points.steps[-1] if points.steps else None
            self.last = points.mean[-1] if points.steps else None

    def points(self) -> Points:
        """Return the curve; each point stands at the last step of the values that it stands for."""
        steps, low, high, mean = tuple(self._steps), tuple(self._low), tuple(self._high), tuple(self._mean)
        if self._open:
            at, lowest, highest, middle = _summed(self._open)
            return Points((*steps, at), (*low, lowest), (*high, highest), (*mean, middle))
        return Points(steps, low, high, mean)

    def __len__(self) -> int:
        return len(self._steps) + bool(self._open)

    def _halve(self) -> None:
        self._steps = self._steps[1::2]
        self._low = array("d", map(min, self._low[::2], self._low[1::2]))
        self._high = array("d", map(max, self._high[::2], self._high[1::2]))
        halves = zip(self._mean[::2], self._mean[1::2], strict=True)
        self._mean = array("d", (one / 2 + two / 2 for one, two in halves))
        self._bucket_size *= 2


def _summed(values: list[tuple[int, float]]) -> tuple[int, float, float, float]:
    """The last step, and the lowest, the highest and the mean of these values."""
    numbers = [value for _, value in values]
    mean = math.fsum(number / len(numbers) for number in numbers)
    return values[-1][0], min(numbers), max(numbers), mean
