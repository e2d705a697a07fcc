"""A run as somebody watches it: its events, its log, and whether anybody trains it."""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from lorabench.runs.events import EVENTS_FILE, Event, Follower
from lorabench.runs.lock import Owner, read_owner
from lorabench.runs.output import OUTPUT_FILE, OutputTail
from lorabench.runs.record import FIRST_STAGE, RunRecord, RunState
from lorabench.runs.requests import stop_requested
from lorabench.runs.trainer_state import events_of_checkpoints
from lorabench.text import shorten, visible
from lorabench.widgets.log_pane import WARNING_MARK

# Small enough that a screen which wants to paint never waits longer than some ten milliseconds.
CHUNK_BYTES = 2**17

Activity = RunState | Literal["waiting", "gone"]


class RunWatch:
    """What is known of a run's folder; `read` brings it up to date, in a thread that is not the screen's.

    Whoever looks at `record` or `tail` holds `busy` meanwhile.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.busy = threading.Lock()
        self.record = RunRecord()
        self.tail = OutputTail(folder / OUTPUT_FILE)
        self.owner: Owner | None = None
        self.stop_asked = False
        self.begun = 0.0  # when this workbench set about to train it, if it still does
        self.caught_up = self.changed = False
        self.events = 0
        self.last_time = 0.0
        self.since: float | None = None
        self._abandoned = self._live = False
        self._follower = Follower(folder / EVENTS_FILE)

    def read(self) -> bool:
        """Take in the next part of what is new; return whether there may be more."""
        # The owner first: who is gone by now has written all his events before.
        owner, stop_asked = read_owner(self.folder), stop_requested(self.folder)
        events = self._follower.read(CHUNK_BYTES)
        with self.busy:
            before = (self.activity, self._live)
            self.owner, self.stop_asked = owner, stop_asked
            warned = self.record.warning_count
            for event in events:
                self.record.add(event)
            self.events += len(events)
            self._note_times(events)
            new_output = self.tail.read()
            if self._live:  # what is older stands in the log, or is too old to stand at its end
                self._repeat_warnings(self.record.warning_count - warned)
            if not (self.events or self.caught_up):
                self._add_what_others_wrote()
            self.caught_up = not events
            self._live = self._live or self.caught_up
            self._abandoned = self.caught_up and not self._owned
            told = (self.activity, self._live) != before
            self.changed = self.changed or bool(events) or new_output or told
        return bool(events)

    def _add_what_others_wrote(self) -> None:
        """Take in a run of another tool, which has no events file."""
        for event in events_of_checkpoints(self.folder):
            self.record.add(event)
            self.events += 1

    def read_spectra(self) -> Iterator[None]:
        """Compute from what a run that has ended has saved those spectra that its events lack; one a step."""
        from lorabench.spectra.moment import spectra_over

        whole = self.record.state in ("finished", "stopped")
        last = self.record.step if whole else None  # else what lies there is an earlier attempt's
        for event in spectra_over(self.folder, self._spectra_step, last):
            with self.busy:
                if self.going:
                    return
                self.record.add(event)
                self.changed = True
            yield

    def _note_times(self, events: list[Event]) -> None:
        """Note when the newest attempt began, and when it was heard of last."""
        for event in events:
            moment = event.get("time")
            if isinstance(moment, float) and math.isfinite(moment):  # an EventWriter's are
                self.last_time = moment
                if self.since is None or event.get("stage") == FIRST_STAGE:
                    self.since = moment

    def _repeat_warnings(self, count: int) -> None:
        """Put new warnings into the log, but those that the log has told already."""
        warnings = list(self.record.warnings)
        for warning in warnings[len(warnings) - min(count, len(warnings)) :]:
            first, *more = str(warning.get("text", "")).splitlines() or [""]
            if not any(first in line for line in self.tail.lines):
                self.tail.add(f"{WARNING_MARK} {first}")
                for line in more:
                    self.tail.add(f"  {line}")

    @property
    def activity(self) -> Activity:
        """What goes on: what the events say last, unless the lock says otherwise."""
        if self._taken_up > self.last_time:
            return "starting"  # whatever an earlier attempt has come to
        if not self.events or not (self._owned or self._live):
            return "waiting"  # a history that is half read tells of a training
        state = self.record.state
        return "gone" if state in ("starting", "training") and self._abandoned else state

    @property
    def _owned(self) -> bool:
        """Whether somebody holds the folder who may live: of another host one cannot know."""
        return self.owner is not None and self.owner.alive is not False

    @property
    def _taken_up(self) -> float:
        """When somebody who may live has taken the folder or, before he could, was told to; 0 if nobody."""
        return max(self.begun, self.owner.since if self._owned and self.owner is not None else 0.0)

    @property
    def going(self) -> bool:
        """Whether somebody trains this run now."""
        return self.activity in ("starting", "training")

    @property
    def only_log(self) -> bool:
        """Whether nothing but the log tells of this run: it has logged no loss, and does not train."""
        return self.record.loss is None and self.activity in ("waiting", "starting", "gone", "failed")

    @property
    def lacks_spectra(self) -> bool:
        """Whether this run has ended and its events do not tell of its spectra at the end."""
        return self.caught_up and not self.going and self._spectra_step < (self.record.step or 0)

    @property
    def _spectra_step(self) -> int:
        step = (self.record.spectra or {}).get("step")
        return step if isinstance(step, int) else -1

    @property
    def elapsed(self) -> float:
        """Seconds since the newest attempt began, up to its last event where it has ended."""
        began = (self._taken_up or self.since) if self.going else self.since
        if began is None:
            return 0.0
        return max(0.0, (time.time() if self.going else self.last_time) - began)

    @property
    def place(self) -> str:
        """Who trains this run: this process, another one of this machine, or one of another machine."""
        owner = self.owner
        if owner is None:
            return ""
        if owner.pid == os.getpid() and owner.alive:
            return "in this workbench"
        here = "" if owner.host == socket.gethostname() else f" on {shorten(visible(owner.host), 40)}"
        return f"by process {owner.pid}{here}"
