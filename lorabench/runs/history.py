"""What happened in a run's folder: its state, its steps and its losses.

Two sources: lorabench's own `events.jsonl`, and the `trainer_state.json` that the Hugging Face Trainer
writes into every checkpoint, so that runs made by any other tool show theirs too.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

State = Literal["configured", "unfinished", "finished", "stopped", "failed", "checkpoint"]

RUN_FILE = "run.yaml"
EVENTS_FILE = "events.jsonl"
TRAINER_STATE_FILE = "trainer_state.json"
ENDINGS: dict[str, State] = {"finished": "finished", "stopped": "stopped", "failed": "failed"}

# A longer events file is read at both ends only: enough for its start, its end and its last losses.
WHOLE_FILE_BYTES = 300_000
END_BYTES = 100_000


@dataclass(frozen=True, slots=True)
class History:
    """A run as its folder tells it; `losses` are (step, training loss), steps ascending."""

    state: State
    step: int | None = None
    total_steps: int | None = None
    losses: tuple[tuple[int, float], ...] = ()
    reason: str = ""

    @property
    def loss(self) -> float | None:
        """The last training loss, or None."""
        return self.losses[-1][1] if self.losses else None


def read_history(folder: Path) -> History | None:
    """Return the history of the run or checkpoint in `folder`, or None where there is neither.

    Unreadable lines and fields are passed over: a torn last line is what a crash leaves. A folder that may
    not be read has no history.
    """
    try:
        return _read_history(folder)
    except OSError:
        return None


def _read_history(folder: Path) -> History | None:
    if (folder / EVENTS_FILE).is_file():
        return _from_events(_lines(folder / EVENTS_FILE))
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
    states = [_read_json(path / TRAINER_STATE_FILE) for path in folder.iterdir() if _is_checkpoint(path)]
    histories = [_from_trainer_state(state) for state in states if state is not None]
    return max(histories, key=lambda history: history.step or 0, default=None)


def _is_checkpoint(path: Path) -> bool:
    return path.name.startswith("checkpoint-") and path.is_dir()


def _from_events(lines: Iterable[bytes]) -> History:
    state: State = "unfinished"
    reason = ""
    step: int | None = None
    total: int | None = None
    losses: dict[int, float] = {}
    for event in _objects(lines):
        kind = event.get("kind")
        if kind == "started":
            state, reason, total = "unfinished", "", _integer(event.get("total_steps"))
        elif isinstance(kind, str) and kind in ENDINGS:
            state, reason = ENDINGS[kind], str(event.get("reason") or event.get("error") or "")
        elif kind == "log":
            step = _note_loss(event, losses, step)
    # A resumed run repeats the steps since its checkpoint: the newer line has replaced the older one.
    return History(state, step, total, tuple(sorted(losses.items())), reason)


def _from_trainer_state(trainer_state: dict[str, Any]) -> History:
    losses: dict[int, float] = {}
    entries = trainer_state.get("log_history")
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict):
            _note_loss(entry, losses, None)
    return History(
        state="checkpoint",
        step=_integer(trainer_state.get("global_step")),
        total_steps=_integer(trainer_state.get("max_steps")),
        losses=tuple(sorted(losses.items())),
    )


def _note_loss(entry: dict[str, Any], losses: dict[int, float], last: int | None) -> int | None:
    """Put the entry's loss into `losses` and return its step, or `last` where it has none."""
    step = _integer(entry.get("step"))
    loss = entry.get("loss")
    if step is None:
        return last
    if isinstance(loss, int | float) and abs(loss) < math.inf:
        with contextlib.suppress(OverflowError):  # an integer of hundreds of digits
            losses[step] = float(loss)
    return step


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        size = path.stat().st_size
        if size <= WHOLE_FILE_BYTES:
            yield from file
            return
        yield from file.read(END_BYTES).splitlines()
        file.seek(size - END_BYTES)
        yield from file.read(END_BYTES).splitlines()[1:]


def _objects(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
