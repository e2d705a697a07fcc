"""What describe and its like say of a run that has saved no adapter."""

from __future__ import annotations

import json

import pytest

from lorabench.runs.events import EventWriter
from lorabench.runs.lock import take_lock


@pytest.mark.parametrize("command", ["describe", "analyze"])
def test_a_run_that_trains_has_no_adapter_yet(lorabench, tmp_path, command):
    run = tmp_path / "run"
    run.mkdir()
    with take_lock(run), EventWriter(run) as writer:
        writer.write("started", total_steps=100)
        writer.write("log", step=12, loss=1.5)
        done = lorabench(command, "run", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "lorabench: run is training, at step 12: it has saved no adapter yet.",
        "Watch it: lorabench watch run",
    ]


def test_a_run_that_was_not_trained_or_has_failed_says_so(lorabench, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.yaml").write_text("lora_r: 8\n")
    assert (
        "run has not been trained yet.\nTrain it: lorabench train run\n"
        in lorabench("describe", "run", cwd=tmp_path).stderr
    )
    (run / "events.jsonl").write_text(json.dumps({"time": 1.0, "kind": "failed", "reason": "nan"}) + "\n")
    assert (
        "run is a run that has saved no adapter (failed).\nSee why: lorabench run\n"
        in lorabench("describe", "run", cwd=tmp_path).stderr
    )
