"""What happened in a run's folder, in short: its state, its steps and its losses.

Two sources: lorabench's own `events.jsonl`, and the `trainer_state.json` that the Hugging Face Trainer
writes into every checkpoint, so that runs made by any other tool show theirs too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from lorabench.files import is_file
from lorabench.runs.checkpoints import TRAINER_STATE_FILE
from lorabench.runs.events import EVENTS_FILE, Event, Follower, last_of_kind
from lorabench.runs.lock import Owner, read_owner
from lorabench.runs.record import ENDINGS, RunRecord
from lorabench.runs.trainer_state import events_of_checkpoints

State = Literal["configured", "training", "unfinished", "finished", "stopped", "failed", "checkpoint"]

RUN_FILE = "run.yaml"
ADAPTER_FILE = "adapter_model.safetensors"

# Of a longer one only the newest start and the end are read: enough for its state and its last losses.
WHOLE_FILE_BYTES = 300_000
END_BYTES = 120_000
# What is long or many and says nothing of state, step and loss.
PASSED_OVER = ("spectra", "update", "device")


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
    if is_file(folder / EVENTS_FILE):
        return _from_record(_record(_events(folder / EVENTS_FILE)))
    record = _record(events_of_checkpoints(folder))
    if record.started:
        done: State = "finished" if record.state == "finished" and record.step is not None else "unfinished"
        own = is_file(folder / TRAINER_STATE_FILE)
        return replace(_from_record(record), state="checkpoint" if own else done)
    if is_file(folder / RUN_FILE):
        return History("configured")
    return None


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


def _losses(record: RunRecord) -> tuple[tuple[int, float], ...]:
    if "loss" not in record.series:
        return ()
    points = record.series["loss"].points()
    return tuple(zip(points.steps, points.mean, strict=True))


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _events(path: Path) -> Iterator[Event]:
    size = path.stat().st_size
    offset = 0
    if size > WHOLE_FILE_BYTES:
        at, started = last_of_kind(path, "started") or (0, {})
        resumes = started.get("resumed_step") is not None
        yield from Follower(path, 0 if resumes else at, PASSED_OVER).read(END_BYTES)
        if resumes:
            yield started
        logged, _ = last_of_kind(path, "log") or (size, None)  # a spectra event behind it may be very long
        offset = max(min(size - END_BYTES, logged), at)
    follower = Follower(path, offset, PASSED_OVER)
    while events := follower.read():
        yield from events
