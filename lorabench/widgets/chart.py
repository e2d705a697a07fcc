"""A chart of what moves while a run trains: curves and marks over the steps, in braille."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from rich.style import Style
from rich.text import Text

from lorabench.widgets.axes import ticks
from lorabench.widgets.braille import BLANK, DOTS_ACROSS, DOTS_DOWN, Dots, Floats, Frame, band, characters
from lorabench.widgets.painting import Painting

MARK = "◆"
GUTTER = 7
LOW_ROWS = 5
Kind = str


@dataclass(frozen=True, slots=True)
class Curve:
    """Values over ascending steps: between `low` and `high` lies what was measured within one point.

    `kind` is one of the chart's component classes without its prefix; `sign` and `note` are its legend.
    """

    kind: Kind
    note: str
    steps: Floats
    low: Floats
    high: Floats
    sign: str = "⣿"

    def logarithmic(self) -> Curve:
        """Return the curve of log₁₀; what is not positive becomes NaN."""
        low, high = (np.log10(np.where(v > 0, v, np.nan)) for v in (self.low, self.high))
        return Curve(self.kind, self.note, self.steps, low, high, self.sign)


def smoothing_span(count: int) -> int:
    """Return over how many of `count` values to average: about a thirtieth, and 1 of fewer than 64."""
    return 1 << (max(count, 32) // 32).bit_length() - 1


def smoothed(values: Floats) -> Floats:
    """Return the mean of the exponential moving averages from both ends: smooth, and not behind the values.

    Values that are not finite are left out; where there is nothing to average yet, the result is NaN.
    """
    span = smoothing_span(values.size)
    return (_moving_average(values, span) + _moving_average(values[::-1], span)[::-1]) / 2


def _moving_average(values: Floats, span: int) -> Floats:
    """Return the exponential moving average, which begins as the plain mean of what there is."""
    means, mean, count = np.full_like(values, np.nan), 0.0, 0
    for at, value in enumerate(values.tolist()):
        if math.isfinite(value):
            count += 1
            mean += (value - mean) / min(count, span)
        if count:
            means[at] = mean
    return means


def last_step(reached: float, total: float | None) -> float:
    """Return where the step axis ends: at a half, a quarter, … of the total, whichever first holds `reached`.

    So the curve fills half of the chart or more, and stays where it is while it grows.
    """
    if not total or total < reached:
        return max(reached, 1.0)
    while total / 2 >= max(reached, 4.0):
        total /= 2
    return total


class Chart(Painting):
    """Curves, each over the one before it, and marks over all; the axes carry numbers."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "chart--behind",
        "chart--train",
        "chart--smoothed",
        "chart--eval",
        "chart--axis",
    }

    def show(
        self, curves: Sequence[Curve], marks: Curve | None, end: float, *, log: bool = False, title: str = ""
    ) -> None:
        """Draw curves, and marks at the upper values of another, from the first step to `end`."""
        rows = self.size.height - 2
        if self.size.width < GUTTER + 8 or rows < 2:
            return
        drawn = [curve.logarithmic() if log else curve for curve in (*curves, *([marks] if marks else []))]
        bounds = _bounds(drawn, end)
        legend = self._legend([*curves, *([marks] if marks else [])], title)
        if bounds is None:
            self.paint([legend])
            return
        start = min((float(curve.steps[0]) for curve in drawn if curve.steps.size), default=0.0)
        labels = _labels(rows, *bounds, log=log)
        gutter = max(GUTTER, *(len(label) + 2 for label in labels.values()))
        frame = Frame(max(1, self.size.width - gutter), rows, start, max(end, start + 1), *bounds)
        layers = [(curve.kind, band(frame, curve.steps, curve.low, curve.high)) for curve in drawn]
        if marks:
            layers.pop()
        cells, kinds = _stack(layers, frame)
        if marks:
            _set_marks(cells, kinds, drawn[-1], frame, len(layers))
        styles = [self.look(kind) for kind in ["axis", *(kind for kind, _ in layers), "eval"]]
        axis = [f"{labels.get(row, ''):>{gutter - 2}} {'┤' if row in labels else '│'}" for row in range(rows)]
        lines = [self._row(axis[row], cells[row], kinds[row], styles) for row in range(rows)]
        self.paint([legend, *lines, self._step_axis(frame, gutter)])

    def look(self, kind: Kind) -> Style:
        """Return the style of a kind of curve."""
        return self.get_component_rich_style(f"chart--{kind}")

    def _legend(self, curves: Sequence[Curve], title: str) -> Text:
        legend = Text(title, no_wrap=True)
        for curve in curves:
            legend.append("  " if legend else "")
            legend.append(f"{curve.sign} ", self.look(curve.kind)).append(curve.note)
        return legend

    def _row(
        self, label: str, cells: npt.NDArray[np.int64], kinds: npt.NDArray[np.int64], styles: Sequence[Style]
    ) -> Text:
        line = Text(no_wrap=True).append(label, styles[0])
        edges = [0, *(np.flatnonzero(np.diff(kinds)) + 1).tolist(), cells.size]
        for first, last in pairwise(edges):
            line.append("".join(map(chr, cells[first:last].tolist())), styles[int(kinds[first])])
        return line

    def _step_axis(self, frame: Frame, gutter: int) -> Text:
        at, labels = ticks(frame.left, frame.right)
        line = [" "] * (gutter + frame.columns)
        taken = 0
        for step, label in zip(at, labels, strict=True):
            if step != round(step):
                continue
            label = f"{step:,.0f}" if step < 1e6 else label
            column = gutter + int(frame.across(np.array([step]))[0]) // DOTS_ACROSS
            first = min(max(column - len(label) // 2, taken), len(line) - len(label))
            if first >= taken:
                line[first : first + len(label)] = label
                taken = first + len(label) + 2
        return Text("".join(line), self.look("axis"), no_wrap=True)


def _bounds(curves: Sequence[Curve], end: float) -> tuple[float, float] | None:
    """Return the least and the greatest value up to a step, rounded outwards: so the axis seldom moves."""
    seen = [(curve.steps <= end, curve) for curve in curves]
    values = [v[up_to & np.isfinite(v)] for up_to, curve in seen for v in (curve.low, curve.high)]
    found = np.concatenate(values) if values else np.empty(0)
    if not found.size:
        return None
    low, high = float(found.min()), float(found.max())
    at, _ = ticks(low, high)
    step = (at[1] - at[0]) / 2 if len(at) > 1 else abs(high) * 0.1 or 1.0
    bottom = math.floor(low / step + 1e-9)
    return bottom * step, max(math.ceil(high / step - 1e-9), bottom + 1) * step


def _stack(
    layers: Sequence[tuple[Kind, Dots]], frame: Frame
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return each cell's character, and which layer it is of, counted from 1; a later layer hides others.

    Dots of two layers in one cell could not be told apart, and with them not the curves, without colour.
    """
    cells = np.full((frame.rows, frame.columns), BLANK, dtype=np.int64)
    kinds = np.zeros_like(cells)
    for number, (_, dots) in enumerate(layers, 1):
        drawn = characters(dots)
        there = drawn != BLANK
        cells[there], kinds[there] = drawn[there], number
    return cells, kinds


def _set_marks(
    cells: npt.NDArray[np.int64], kinds: npt.NDArray[np.int64], marks: Curve, frame: Frame, layers: int
) -> None:
    there = np.isfinite(marks.high) & (marks.steps >= frame.left) & (marks.steps <= frame.right)
    columns = frame.across(marks.steps[there]) // DOTS_ACROSS
    rows = frame.down(marks.high[there]) // DOTS_DOWN
    cells[rows, columns], kinds[rows, columns] = ord(MARK), layers + 1


def _log_ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """Ticks for log₁₀ values, at 1, 2 and 5 of each decade where there are few decades."""
    digits = (1, 2, 5) if high - low <= 3 else (1,)
    steps = [digit * 10.0**d for d in range(math.floor(low), math.ceil(high) + 1) for digit in digits]
    inside = [step for step in steps if low <= math.log10(step) <= high]
    return [math.log10(step) for step in inside], [f"{step:g}" for step in inside]


def _labels(rows: int, bottom: float, top: float, *, log: bool) -> dict[int, str]:
    """Return the labels of the value axis by their rows: as many as leave a row free between two."""
    at, labels = (_log_ticks if log else ticks)(bottom, top)
    if rows < LOW_ROWS or len(at) < 2:
        at = [bottom, top]
        labels = _told_apart([10**value if log else value for value in at])
    elif len(set(labels)) < len(labels):
        labels = _told_apart(at)
    places = Frame(1, rows, 0, 1, bottom, top).down(np.array(at)) // DOTS_DOWN
    every = next(n for n in range(1, places.size + 1) if (np.diff(places[::n]) <= -2).all())
    return dict(zip(places[::every].tolist(), labels[::every], strict=True))


def _told_apart(values: Sequence[float]) -> list[str]:
    """Write different values with as few digits, three at least, as tell each from the next."""
    written = [[f"{value:.{digits}g}" for value in values] for digits in range(3, 18)]
    return next((labels for labels in written if len(set(labels)) == len(labels)), written[-1])
