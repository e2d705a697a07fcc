"""What happened in a run's folder, in short: its state, its steps and its losses.

Two sources: lorabench's own `events.jsonl`, and the `trainer_state.json` that the Hugging Face Trainer
writes into every checkpoint, so that runs made by any other tool show theirs too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from lorabench.runs.checkpoints import TRAINER_STATE_FILE, checkpoint_folders
from lorabench.runs.events import EVENTS_FILE, Event, Follower
from lorabench.runs.lock import Owner, read_owner
from lorabench.runs.record import ENDINGS, RunRecord

State = Literal["configured", "training", "unfinished", "finished", "stopped", "failed", "checkpoint"]

RUN_FILE = "run.yaml"

# A longer events file is read at both ends only: enough for its start, its end and its last losses.
WHOLE_FILE_BYTES = 150_000
END_BYTES = 60_000


@dataclass(frozen=True, slots=True)
class History:
    """A run as its folder tells it; `losses` are (step, training loss), steps ascending.

    `saved_step` is the step of the last checkpoint that the events tell of, `started` the event with which
    the training began, `owner` the process that trains it, or that did and is gone without releasing its
    lock.
    """

    state: State
    step: int | None = None
    total_steps: int | None = None
    losses: tuple[tuple[int, float], ...] = ()
    reason: str = ""
    saved_step: int | None = None
    seconds_left: float | None = None
    started: Event = field(default_factory=dict)
    owner: Owner | None = None
    stamp: object = field(default=None, compare=False, repr=False)

    @property
    def loss(self) -> float | None:
        """The last training loss, or None."""
        return self.losses[-1][1] if self.losses else None


def read_history(folder: Path) -> History | None:
    """Return the history of the run or checkpoint in `folder`, or None where there is neither.

    Unreadable lines and fields are passed over: a torn last line is what a crash leaves. A folder that may
    not be read has no history.
    """
    stamp, owner = _stamp(folder)
    try:
        history = _read_history(folder)
    except OSError:
        return None
    if history is None:
        return None
    # On another host it may or may not live: what its own lock says is believed.
    trains = owner is not None and owner.alive is not False
    return replace(history, state="training" if trains else history.state, owner=owner, stamp=stamp)


def read_news(folder: Path, history: History) -> History | None:
    """Return the history as it is now, or `None` where neither events nor owner have changed since."""
    return None if _stamp(folder)[0] == history.stamp else read_history(folder)


def _stamp(folder: Path) -> tuple[object, Owner | None]:
    owner = read_owner(folder)
    try:
        status = (folder / EVENTS_FILE).stat()
    except OSError:
        return (None, owner), owner
    return (status.st_mtime_ns, status.st_size, owner), owner


def _read_history(folder: Path) -> History | None:
    if (folder / EVENTS_FILE).is_file():
        return _from_record(_record(_events(folder / EVENTS_FILE)))
    trainer_state = _read_json(folder / TRAINER_STATE_FILE)
    if trainer_state is not None:
        return _from_trainer_state(trainer_state)
    newest = _newest_checkpoint(folder)
    if newest is not None:
        done = newest.step is not None and newest.step == newest.total_steps
        return replace(newest, state="finished" if done else "unfinished")
    if (folder / RUN_FILE).is_file():
        return History("configured")
    return None


def _newest_checkpoint(folder: Path) -> History | None:
    """What the checkpoint of the most steps says: a run of another tool has no events."""
    states = (_read_json(path / TRAINER_STATE_FILE) for _, path in reversed(checkpoint_folders(folder)))
    return next((_from_trainer_state(state) for state in states if state is not None), None)


def _record(events: Iterable[Event]) -> RunRecord:
    record = RunRecord()
    for event in events:
        record.add(event)
    return record


def _from_record(record: RunRecord) -> History:
    return History(
        state=ENDINGS.get(record.state, "unfinished"),
        step=record.step,
        total_steps=record.total_steps,
        losses=_losses(record),
        reason=": ".join(filter(None, (record.reason, record.error))),
        saved_step=_integer(record.checkpoints[-1].get("step")) if record.checkpoints else None,
        seconds_left=record.seconds_left(),
        started=record.started,
    )


def _from_trainer_state(trainer_state: dict[str, Any]) -> History:
    entries = trainer_state.get("log_history")
    logged = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return History(
        state="checkpoint",
        step=_integer(trainer_state.get("global_step")),
        total_steps=_integer(trainer_state.get("max_steps")),
        losses=_losses(_record({**entry, "kind": "log"} for entry in logged)),
    )


def _losses(record: RunRecord) -> tuple[tuple[int, float], ...]:
    if "loss" not in record.series:
        return ()
    points = record.series["loss"].points()
    return tuple(zip(points.steps, points.mean, strict=True))


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _events(path: Path) -> Iterator[Event]:
    size = path.stat().st_size
    follower = Follower(path)
    if size > WHOLE_FILE_BYTES:
        yield from follower.read(END_BYTES)
        follower = Follower(path, size - END_BYTES)
    while events := follower.read():
        yield from events


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
