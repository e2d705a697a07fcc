"""Runs of other tools, by the checkpoints that the Trainer writes."""

from __future__ import annotations

import json
from pathlib import Path

from lorabench.runs.record import RunRecord
from lorabench.runs.trainer_state import events_of_checkpoints


def record_of(folder: Path) -> RunRecord:
    record = RunRecord()
    for event in events_of_checkpoints(folder):
        record.add(event)
    return record


def test_a_run_of_trl_sft_shows_its_losses_and_evaluations(samples: Path) -> None:
    run = samples / "style-checkpoints-r8"
    written = json.loads((run / "checkpoint-240" / "trainer_state.json").read_text())["log_history"]
    losses = {entry["step"]: entry["loss"] for entry in written if "loss" in entry}
    evaluations = [entry["eval_loss"] for entry in written if "eval_loss" in entry]
    record = record_of(run)
    assert (record.state, record.step, record.total_steps) == ("finished", 240, 240)
    assert dict(zip(*record.series["loss"].points()[::3], strict=True)) == losses
    assert list(record.series["eval_loss"].points().mean) == evaluations
    assert len(losses) == 24


def test_the_newest_readable_checkpoint_tells(tmp_path: Path) -> None:
    for step in (9, 10, 11):
        (tmp_path / f"checkpoint-{step}").mkdir()
        state = {"global_step": step, "max_steps": 20, "log_history": [{"step": step, "loss": float(step)}]}
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(json.dumps(state))
    (tmp_path / "checkpoint-11" / "trainer_state.json").write_text("{torn")
    record = record_of(tmp_path)
    assert (record.state, record.step, record.loss) == ("stopped", 10, 10.0)


def test_a_folder_without_checkpoints_tells_nothing(tmp_path: Path) -> None:
    assert list(events_of_checkpoints(tmp_path)) == []
