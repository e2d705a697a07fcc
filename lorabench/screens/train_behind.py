"""The losses of other runs, to be drawn behind the one that is watched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lorabench.runs.events import EVENTS_FILE, Follower
from lorabench.runs.history import read_history
from lorabench.runs.record import RunRecord
from lorabench.runs.scan import find_runs
from lorabench.text import natural_path
from lorabench.widgets.chart import Curve


@dataclass(frozen=True, slots=True)
class OtherRun:
    """A run that has a loss, and what one needs to know to choose it."""

    folder: Path
    title: str


def runs_with_loss(folder: Path, but: Path) -> list[OtherRun]:
    """Return the runs in a folder that have logged a loss, without the one that is watched."""
    found = []
    for path in sorted(find_runs(folder), key=natural_path):
        history = read_history(path)
        if path.resolve() != but.resolve() and history is not None and history.loss is not None:
            name = path.relative_to(folder) if path != folder else path.absolute().name
            step = "" if history.step is None else f"step {history.step:,}"
            found.append(OtherRun(path, f"{name}   {history.state}   {step}   loss {history.loss:.4g}"))
    return found


def loss_behind(folder: Path) -> Curve | None:
    """Read all losses of a run, from its events or from its checkpoints; None where there is none."""
    follower, record = Follower(folder / EVENTS_FILE), RunRecord()
    while events := follower.read():
        for event in events:
            record.add(event)
    losses = record.series.get("loss")
    if losses is not None and losses.last is not None:
        points = losses.points()
        steps, low, high = (np.array(v, float) for v in (points.steps, points.low, points.high))
    else:
        history = read_history(folder)
        if history is None or not history.losses:
            return None
        steps, low = (np.array(values, float) for values in zip(*history.losses, strict=True))
        high = low
    return Curve("behind", f"{folder.name} {low[-1]:.4g}", steps, low, high, "⠒")
