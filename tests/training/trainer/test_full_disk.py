"""Disks that fill up while a run trains: it goes on while it can, and its adapter is saved where it fits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from lorabench.runs.checkpoints import newest_whole
from tests.places import small_disk
from tests.training.trainer import children
from tests.training.trainer.children import ended, start
from tests.training.trainer.runs import events_of, of_kind, run_file, warnings_of


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB."""
    with small_disk(tmp_path / "disk", "3m") as disk:
        yield disk


def test_events_and_a_log_that_find_no_room_for_some_steps_cost_themselves_and_not_the_run(
    tmp_path: Path, disk: Path
) -> None:
    path = run_file(tmp_path, output_dir=str(disk / "run"), save_strategy="no", save_steps=None)
    assert ended(start(path, prepare=children.fill_at_step, given=(disk, 3, 7))) == 0
    events = events_of(disk / "run")
    assert [event["step"] for event in of_kind(events, "log")] == [1, 2, 8, 9, 10, 11, 12]
    assert any("events could not be written here" in text for text in warnings_of(disk / "run"))
    assert events[-1]["kind"] == "finished"
    assert load_file(disk / "run" / "adapter_model.safetensors")
    assert sorted(path.name for path in (disk / "run").glob(".*")) == []


@pytest.mark.parametrize(("full", "saves", "step"), [(6, "steps", 8), (11, "no", 12)])
def test_where_neither_a_checkpoint_nor_the_end_finds_room_the_adapter_goes_elsewhere_and_that_is_said(
    full: int, saves: str, step: int, undisturbed: Path, tmp_path: Path, disk: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    path = run_file(tmp_path, output_dir=str(disk / "run"), save_strategy=saves)
    given = (disk, full, None, tmp_path / "elsewhere")
    assert ended(start(path, prepare=children.fill_at_step, given=given)) == 1
    failed = events_of(disk / "run")[-1]
    assert (failed["kind"], failed["reason"], failed["step"]) == ("failed", "disk full", step)
    assert Path(failed["path"]).parents[1] == tmp_path / "elsewhere"
    assert f"The adapter as of step {step} is in {failed['path']}" in failed["error"]
    ours = load_file(Path(failed["path"]) / "adapter_model.safetensors")
    theirs = load_file(undisturbed / f"checkpoint-{step}" / "adapter_model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    assert json.loads((Path(failed["path"]) / "adapter_config.json").read_text())["r"] == 4
    whole, torn = newest_whole(disk / "run")
    assert (whole.step if whole else None, torn) == (4 if saves == "steps" else None, [])


def test_a_final_adapter_that_cannot_be_written_leaves_the_one_before_it_whole(
    undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    shutil.rmtree(run / "checkpoint-12")
    before = (run / "adapter_model.safetensors").read_bytes()
    path = run_file(tmp_path, save_strategy="no", save_steps=None)
    assert ended(start(path, "--resume", prepare=children.fail_to_write_in, given=(".saving",))) == 1
    assert (run / "adapter_model.safetensors").read_bytes() == before
    assert not (run / ".saving").exists()
    failed = events_of(run)[-1]
    assert failed["path"] == str(run / "adapter-at-step-12")
    assert (run / "adapter-at-step-12" / "adapter_model.safetensors").read_bytes() == before
