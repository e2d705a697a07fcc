"""The losses of a run: as logged, smoothed, of the evaluations, and another run's behind them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lorabench.runs.record import RunRecord
from lorabench.runs.series import Series
from lorabench.widgets.chart import MARK, Chart, Curve, last_step, smoothed, smoothing_span

LARGEST = 1e100


def loss_curve(kind: str, name: str, losses: Series, sign: str) -> Curve:
    """Return a series as a curve, its legend with the last value; what no chart can hold is left out."""
    points = losses.points()
    steps, low, high = (np.array(values, float) for values in (points.steps, points.low, points.high))
    low, high = (np.where(np.abs(values) < LARGEST, values, np.nan) for values in (low, high))
    return Curve(kind, f"{name} {losses.last:.4g}", steps, low, high, sign)


class LossChart(Chart):
    """A chart of a run's losses."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.behind: Curve | None = None
        self.log_axis = False

    def show_run(self, record: RunRecord) -> None:
        """Draw the losses of this run."""
        curves = [] if self.behind is None else [self.behind]
        losses, evaluations = record.series.get("loss"), record.series.get("eval_loss")
        if losses is not None and losses.last is not None:
            means = np.array(losses.points().mean, float)
            if smoothing_span(means.size) == 1:
                curves.append(loss_curve("smoothed", "train", losses, "━"))
            else:
                train = loss_curve("train", "train", losses, "⣿")
                means = smoothed(np.where(np.abs(means) < LARGEST, means, np.nan))
                note = f"smoothed {means[-1]:.4g}"
                curves += [train, Curve("smoothed", note, train.steps, means, means, "━")]
        marks = None
        if evaluations is not None and evaluations.last is not None:
            marks = loss_curve("eval", "eval", evaluations, MARK)
        end = last_step(float(record.step or 1), record.total_steps)
        every = record.started.get("logging_steps")
        first = f"; the first comes with step {every:.0f}" if isinstance(every, int) and every > 1 else ""
        self.show(curves, marks, end, log=self.log_axis, title="" if curves else f"no loss yet{first}")


class LossCurve(Chart):
    """A chart of losses over their steps; hidden where there are not two."""

    losses: Sequence[tuple[int, float]] = ()

    def show_losses(self, losses: Sequence[tuple[int, float]]) -> None:
        """Draw these losses, steps ascending."""
        self.losses = losses
        self.display = len(losses) > 1
        self.draw()

    def on_resize(self) -> None:
        self.draw()

    def draw(self) -> None:
        """Draw them in the room that there is."""
        if self.display:
            steps, values = (np.array(each, float) for each in zip(*self.losses, strict=True))
            values = np.where(np.abs(values) < LARGEST, values, np.nan)
            curve = Curve("smoothed", f"loss {values[-1]:.4g}", steps, values, values, "━")
            self.show([curve], None, float(steps[-1]))
