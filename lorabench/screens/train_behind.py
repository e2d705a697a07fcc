"""The losses of other runs, to be drawn behind the one that is watched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lorabench.files import is_there, real
from lorabench.runs.events import EVENTS_FILE, Follower
from lorabench.runs.history import read_history
from lorabench.runs.record import RunRecord
from lorabench.runs.scan import find_runs
from lorabench.runs.trainer_state import events_of_checkpoints
from lorabench.text import natural_path, visible
from lorabench.widgets.chart import Curve
from lorabench.widgets.loss_chart import loss_curve


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
        if real(path) != real(but) and history is not None and history.loss is not None:
            name = path.relative_to(folder) if path != folder else path.absolute().name
            step = "" if history.step is None else f"step {history.step:,}"
            found.append(OtherRun(path, f"{name}   {history.state}   {step}   loss {history.loss:.4g}"))
    return found


def loss_behind(folder: Path) -> Curve | None:
    """Read all losses of a run, from its events or from its checkpoints; None where there is none."""
    follower, record = Follower(folder / EVENTS_FILE), RunRecord()
    if not is_there(follower.path):
        for event in events_of_checkpoints(folder):
            record.add(event)
    while events := follower.read():
        for event in events:
            record.add(event)
    losses = record.series.get("loss")
    if losses is not None and losses.last is not None:
        return loss_curve("behind", visible(folder.name), losses, "⠒")
    return None
