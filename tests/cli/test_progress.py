"""What a follower sees of a run that logs seldom."""

from __future__ import annotations

import pytest

from lorabench.cli.progress import Bar, Lines
from lorabench.runs.record import RunRecord

EVENTS = (
    {"time": 100.0, "kind": "started", "total_steps": 500},
    {"time": 110.0, "kind": "step", "step": 40, "epoch": 0.1},
    {"time": 112.0, "kind": "step", "step": 80, "epoch": 0.2},
)


def test_the_bar_moves_and_tells_the_time_left_between_two_logs() -> None:
    record, bar = RunRecord(), Bar()
    for event in EVENTS:
        record.add(event)
        bar.show(event, record)
    (task,) = bar._progress.tasks
    assert (task.completed, task.total) == (80, 500)
    assert task.fields["step"] == "80/500"
    assert task.fields["numbers"] == "0:21 left"  # 420 steps at 40 in two seconds


def test_in_a_log_they_are_no_lines(capsys: pytest.CaptureFixture[str]) -> None:
    record, lines = RunRecord(), Lines()
    for event in EVENTS:
        record.add(event)
        lines.show(event, record)
    assert len(capsys.readouterr().out.splitlines()) == 1
