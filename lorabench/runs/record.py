"""What a run's events add up to: the state, the curves and the last of everything, in bounded memory."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import Any, Literal

from lorabench.runs.events import Event
from lorabench.runs.series import Series

Ending = Literal["finished", "stopped", "failed"]
RunState = Literal["starting", "training"] | Ending

ENDINGS: dict[str, Ending] = {"finished": "finished", "stopped": "stopped", "failed": "failed"}
FIRST_STAGE = "preflight"
STAGES_BEFORE_TRAINING = (FIRST_STAGE, "loading", "preparing")
MOST_WARNINGS = 200
MOST_CHECKPOINTS = 1000
MOST_SERIES = 256
MOST_STEPS = 2**62
SPEED_STEPS = 50

_NO_SERIES = ("time", "kind", "step")


class RunRecord:
    """A run as its events tell it; feed it each event once, in order.

    Its memory is bounded for any number of events. A `started` event begins the record anew, or, where it
    resumes, drops what an earlier attempt logged after the step from which it goes on.
    """

    def __init__(self) -> None:
        self.warnings: deque[Event] = deque(maxlen=MOST_WARNINGS)
        self._begin_attempt()
        self._begin_record()

    def _begin_attempt(self) -> None:
        self.state: RunState = "starting"
        self.stage = ""
        self.reason = self.error = self.hint = self.path = ""
        self.findings: list[dict[str, Any]] = []
        self.warnings.clear()
        self.warning_count = 0
        self.device: Event = {}

    def _begin_record(self) -> None:
        self.started: Event = {}
        self.step: int | None = None
        self.total_steps: int | None = None
        self.epoch: float | None = None
        self.series: dict[str, Series] = {}
        self.norms = Series()
        self.spectra: Event | None = None
        self.spectra_before: Event | None = None
        self.update: Event | None = None
        self.checkpoints: deque[Event] = deque(maxlen=MOST_CHECKPOINTS)
        self._times: deque[tuple[int, float]] = deque(maxlen=SPEED_STEPS)

    def add(self, event: Event) -> None:
        """Take an event in; kinds and fields that are unknown or not what they should be are passed over."""
        kind = event.get("kind")
        take = getattr(self, f"_take_{kind}", None) if isinstance(kind, str) else None
        if take is not None:
            take(event)
        elif isinstance(kind, str) and kind in ENDINGS:
            self._end(ENDINGS[kind], event)

    @property
    def loss(self) -> float | None:
        """The last training loss, or None."""
        losses = self.series.get("loss")
        return losses.last if losses is not None else None

    def seconds_left(self) -> float | None:
        """Return how long the rest will take at the pace of the last steps, None where that is unknown."""
        if self.state != "training" or self.step is None or self.total_steps is None or len(self._times) < 2:
            return None
        (first_step, first), (last_step, last) = self._times[0], self._times[-1]
        if last_step <= first_step or last <= first:
            return None
        return (self.total_steps - self.step) * (last - first) / (last_step - first_step)

    def _take_stage(self, event: Event) -> None:
        stage = str(event.get("stage", ""))
        if stage == FIRST_STAGE or (self.state != "starting" and stage in STAGES_BEFORE_TRAINING):
            self._begin_attempt()
        self.stage = stage

    def _take_started(self, event: Event) -> None:
        if self.state != "starting":
            self._begin_attempt()
        resumed = _integer(event.get("resumed_step"))
        if resumed is None:
            self._begin_record()
        else:
            self._drop_after(resumed)
        self.state, self.started = "training", event
        self.step, self.epoch = resumed, None
        self.total_steps = _integer(event.get("total_steps"))

    def _drop_after(self, step: int) -> None:
        for series in [*self.series.values(), self.norms]:
            series.drop_after(step)
        self._times.clear()
        kept = [at for at in self.checkpoints if (_integer(at.get("step")) or 0) <= step]
        self.checkpoints = deque(kept, maxlen=MOST_CHECKPOINTS)
        if self.spectra is not None and (_integer(self.spectra.get("step")) or 0) > step:
            self.spectra = self.spectra_before = None
        if self.update is not None and (_integer(self.update.get("step")) or 0) > step:
            self.update = None

    def _end(self, state: Ending, event: Event) -> None:
        self.state = state
        self.reason, self.error, self.hint, self.path = (
            str(event.get(name) or "") for name in ("reason", "error", "hint", "path")
        )
        findings = event.get("findings")
        self.findings = (
            [item for item in findings if isinstance(item, dict)] if isinstance(findings, list) else []
        )
        self._note_step(event)

    def _take_log(self, event: Event) -> None:
        self._take_step(event)
        self._note_numbers(event)

    def _take_step(self, event: Event) -> None:
        self._note_step(event)
        step, seconds = _integer(event.get("step")), _number(event.get("time"))
        newer = step is not None and (not self._times or step > self._times[-1][0])
        if step is not None and newer and seconds is not None:
            self._times.append((step, seconds))

    def _take_eval(self, event: Event) -> None:
        self._note_step(event)
        self._note_numbers(event)

    def _take_device(self, event: Event) -> None:
        self.device = event
        self._note_numbers(event)

    def _take_checkpoint(self, event: Event) -> None:
        self._note_step(event)
        self.checkpoints.append(event)

    def _take_update(self, event: Event) -> None:
        self.update = event

    def _take_warning(self, event: Event) -> None:
        self.warnings.append(event)
        self.warning_count += 1

    def _take_spectra(self, event: Event) -> None:
        self.spectra, self.spectra_before = event, self.spectra
        step = _integer(event.get("step"))
        modules = event.get("modules")
        if step is not None and isinstance(modules, dict):
            norms = [_number(module.get("norm")) for module in modules.values() if isinstance(module, dict)]
            self.norms.add(step, sum(norm * norm for norm in norms if norm is not None) ** 0.5)

    def _note_step(self, event: Event) -> None:
        step = _integer(event.get("step"))
        self.step = self.step if step is None else step
        epoch = _number(event.get("epoch"))
        self.epoch = self.epoch if epoch is None else epoch

    def _note_numbers(self, event: Event) -> None:
        step = _integer(event.get("step"))
        step = self.step if step is None else step
        if step is None:
            return
        for name, field in event.items():
            number = None if name in _NO_SERIES else _number(field)
            if number is None:
                continue
            series = self.series.get(name)
            if series is None:
                if len(self.series) == MOST_SERIES:
                    continue
                series = self.series[name] = Series()
            series.add(step, number)


def _integer(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < MOST_STEPS:
        return value
    return None


def _number(value: object) -> float | None:
    if type(value) is float:  # nearly all are: a million events wait for this
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # an integer of hundreds of digits
            return float(value)
    return None
