"""What a run's events add up to."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import pytest

from lorabench.runs.record import MOST_SERIES, RunRecord
from lorabench.runs.series import MOST_BUCKETS


def record(*events: dict[str, Any]) -> RunRecord:
    made = RunRecord()
    for at, event in enumerate(events):
        made.add({"time": 100.0 + at, **event})
    return made


def log(step: int, loss: float = 1.0, **more: Any) -> dict[str, Any]:
    return {"kind": "log", "step": step, "loss": loss, **more}


def stage(name: str) -> dict[str, Any]:
    return {"kind": "stage", "stage": name}


def losses(of: RunRecord) -> dict[int, float]:
    points = of.series["loss"].points()
    return dict(zip(points.steps, points.mean, strict=True))


START = {"kind": "started", "total_steps": 10}


def test_a_run_goes_from_its_stages_through_training_to_its_end() -> None:
    made = RunRecord()
    assert (made.state, made.stage, made.step, made.loss) == ("starting", "", None, None)
    made.add(stage("loading"))
    assert (made.state, made.stage) == ("starting", "loading")
    made.add({**START, "model": "demo"})
    made.add(stage("training"))
    assert (made.state, made.stage, made.total_steps, made.started["model"]) == (
        "training",
        "training",
        10,
        "demo",
    )
    made.add(log(4, 2.5, epoch=0.4))
    assert (made.step, made.epoch, made.loss) == (4, 0.4, 2.5)
    made.add(stage("saving"))
    made.add({"kind": "finished", "step": 10, "path": "out"})
    assert (made.state, made.step, made.path) == ("finished", 10, "out")


def test_every_number_of_log_eval_and_device_is_a_curve() -> None:
    made = record(
        START,
        log(1, grad_norm=0.5, note="text", flag=True),
        {"kind": "device", "gpu_utilisation": 80.0, "memory_used": 5},
        {"kind": "eval", "step": 2, "eval_loss": 3},
    )
    assert set(made.series) == {"loss", "grad_norm", "gpu_utilisation", "memory_used", "eval_loss"}
    assert made.series["gpu_utilisation"].points().steps == (1,)
    assert made.series["eval_loss"].points() == ((2,), (3.0,), (3.0,), (3.0,))
    assert made.device["memory_used"] == 5


def test_the_device_s_state_before_the_start_is_kept_and_an_earlier_attempt_s_is_not() -> None:
    made = record(stage("preflight"), {"kind": "device", "memory_used": 5}, START)
    assert made.device["memory_used"] == 5
    made.add(stage("preflight"))
    assert made.device == {}


def test_between_two_logs_the_steps_tell_how_far_the_run_is_and_how_long_it_takes() -> None:
    step = {"kind": "step", "epoch": 0.1}
    made = record({**START, "total_steps": 100}, {**step, "step": 10}, {**step, "step": 20})
    assert (made.step, made.epoch, made.series) == (20, 0.1, {})
    assert made.seconds_left() == 8.0  # ten steps in a second
    made.add({"kind": "log", "step": 20, "loss": 1.0, "time": 103.0})
    assert made.seconds_left() == 8.0


def test_a_resumed_run_drops_what_was_logged_after_its_checkpoint() -> None:
    before = [log(step, 10.0 - step, epoch=step / 4) for step in range(1, 9)]
    made = record(
        START,
        *before,
        {"kind": "checkpoint", "step": 3},
        {"kind": "checkpoint", "step": 6},
        {"kind": "spectra", "step": 6, "modules": {"a": {"norm": 2.0}}},
        stage("preflight"),
        {**START, "resumed_step": 5},
    )
    assert (made.step, made.epoch, made.state) == (5, None, "training")
    assert losses(made) == {1: 9.0, 2: 8.0, 3: 7.0, 4: 6.0, 5: 5.0}
    assert [event["step"] for event in made.checkpoints] == [3]
    assert (made.spectra, len(made.norms)) == (None, 0)
    made.add(log(6, 0.5))
    assert losses(made)[6] == 0.5


def test_a_run_started_anew_is_a_new_record() -> None:
    made = record(START, log(5), {"kind": "failed", "reason": "oom", "error": "no room", "hint": "lower it"})
    assert (made.state, made.reason, made.error, made.hint) == ("failed", "oom", "no room", "lower it")
    for event in (stage("preflight"), {"kind": "warning", "text": "of the preflight"}, START, log(1)):
        made.add(event)
    assert (made.state, made.reason, made.error, made.hint) == ("training", "", "", "")
    assert losses(made) == {1: 1.0}
    assert [warning["text"] for warning in made.warnings] == ["of the preflight"]


def test_an_attempt_that_was_killed_is_followed_by_one_that_starts() -> None:
    made = record(START, log(5), {"kind": "warning", "text": "old"}, stage("preflight"))
    assert (made.state, made.stage, made.warning_count) == ("starting", "preflight", 0)
    # Until the new one says whether it resumes, what was seen stays to be looked at.
    assert losses(made) == {5: 1.0}


def test_a_preflight_that_fails_tells_its_findings() -> None:
    finding = {"check": "memory", "level": "error", "message": "too much"}
    made = record(
        stage("preflight"), {"kind": "failed", "reason": "preflight", "findings": [finding, "odd", None]}
    )
    assert (made.state, made.findings) == ("failed", [finding])


def test_the_total_norm_of_the_update_is_the_root_of_the_squares() -> None:
    one = {"kind": "spectra", "step": 1, "modules": {"a": {"norm": 3.0}, "b": {"norm": 4.0}, "c": {}, "d": 7}}
    two = {"kind": "spectra", "step": 2, "modules": {"a": {"norm": 6.0}, "b": {"norm": 8.0}}}
    made = record(START, one, two)
    assert made.norms.points().mean == (5.0, 10.0)
    assert (made.spectra or {})["step"] == 2
    assert (made.spectra_before or {})["step"] == 1


def test_the_time_left_is_by_the_pace_of_the_last_steps() -> None:
    made = RunRecord()
    made.add({"kind": "started", "total_steps": 1000, "time": 0.0})
    assert made.seconds_left() is None
    for step in range(1, 101):  # the first fifty took 10 s each, the last 2 s
        made.add(log(step, time=10.0 * min(step, 50) + 2.0 * max(0, step - 50)))
    assert made.seconds_left() == pytest.approx(900 * 2.0)
    made.add({"kind": "finished"})
    assert made.seconds_left() is None


def test_a_summary_at_the_last_step_does_not_change_the_pace() -> None:
    made = record({**START, "total_steps": 12}, log(9), log(10), log(10))
    assert made.seconds_left() == pytest.approx(2.0)


def test_a_loss_that_is_no_number_is_known_and_no_point() -> None:
    made = record(START, log(1, 2.0), log(2, math.nan))
    assert made.loss is not None
    assert math.isnan(made.loss)
    assert losses(made) == {1: 2.0}


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"kind": 7},
        {"kind": ["log"]},
        {"kind": "log"},
        {"kind": "log", "step": "x", "loss": None},
        {"kind": "log", "step": 10**400, "loss": 10**400},
        {"kind": "log", "step": True, "loss": 1.0},
        {"kind": "started", "total_steps": "many", "resumed_step": [1]},
        {"kind": "spectra", "step": 1, "modules": 7},
        {"kind": "spectra", "step": 1, "modules": {"a": {"norm": "x"}}},
        {"kind": "failed", "findings": 7, "error": None},
        {"kind": "stage"},
        {"kind": "checkpoint"},
        {"kind": "tomorrow", "step": 3},
    ],
)
def test_events_that_are_not_what_they_should_be_break_nothing(event: dict[str, Any]) -> None:
    made = record(event, START, log(1, 2.0), event, {**START, "resumed_step": 1}, log(2, 1.0))
    assert losses(made)[2] == 1.0


def test_memory_is_bounded_for_any_number_of_events() -> None:
    made = RunRecord()
    made.add(START)
    tracemalloc.start()
    try:
        for step in range(3 * MOST_BUCKETS):
            made.add({"kind": "log", "time": float(step), "step": step, "loss": 1.0, f"odd {step}": 1.0})
            made.add({"kind": "warning", "time": float(step), "text": f"warning {step}"})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(made.series) == MOST_SERIES
    assert (made.warning_count, len(made.warnings)) == (3 * MOST_BUCKETS, 200)
    assert made.warnings[-1]["text"] == f"warning {3 * MOST_BUCKETS - 1}"
    assert peak < 2_000_000
