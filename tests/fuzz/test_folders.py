"""Folders made to harm: pipes and devices instead of files, links in circles, 10,000 runs, gone ones."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from lorabench.adapters.locate import find_adapters
from lorabench.runs.checkpoints import checkpoints
from lorabench.runs.history import read_history
from lorabench.runs.lock import take_lock
from lorabench.screens.listing import list_folder
from lorabench.screens.train_watch import RunWatch
from lorabench.training.config.run_config import RunConfig
from tests.fuzz.bounds import bounds, sentence_or
from tests.fuzz.test_adapter_files import described, sound, written

NAMES = (
    *("events.jsonl", "run.yaml", "run.lock", "output.log", "adapter_config.json", "trainer_state.json"),
    *("adapter_model.safetensors", "adapter_model.bin", "x_lora.pt"),
)


def looked_at(folder: Path) -> str:
    """Do what the bench and the Train screen do with a folder, and what the commands do."""
    said = [str([(row.name, row.state, row.targets) for row in list_folder(folder)])]
    watch = RunWatch(folder)
    watch.read()
    said += [watch.activity, str(read_history(folder)), str(checkpoints(folder))]
    return "".join(said) + described(folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_pipe_in_place_of_a_file_keeps_nobody_waiting(name: str, tmp_path: Path) -> None:
    header, size = sound()
    written(tmp_path / "adapter_model.safetensors", header, bytes(size))
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    sentence_or(lambda: looked_at(tmp_path))


@pytest.mark.parametrize("name", NAMES)
def test_a_link_to_a_device_without_end_is_not_read(name: str, tmp_path: Path) -> None:
    header, size = sound()
    written(tmp_path / "adapter_model.safetensors", header, bytes(size))
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).symlink_to("/dev/zero")
    sentence_or(lambda: looked_at(tmp_path))


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_configuration_and_a_lock_that_are_no_files(kind: str, tmp_path: Path) -> None:
    for name in ("run.yaml", "run.lock"):
        if kind == "pipe":
            os.mkfifo(tmp_path / name)
        else:
            (tmp_path / name).symlink_to("/dev/zero")
    assert "Not a plain file" in sentence_or(lambda: RunConfig.load(tmp_path / "run.yaml").text)
    if kind == "pipe":
        with bounds(), pytest.raises(OSError), take_lock(tmp_path):  # noqa: PT011
            pass


def test_links_in_circles_end(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "up").symlink_to(tmp_path)
        (tmp_path / name / "self").symlink_to(tmp_path / name / "self")
    (tmp_path / "a" / "adapter_model.safetensors").symlink_to("adapter_model.safetensors")
    sentence_or(lambda: looked_at(tmp_path))


def test_ten_thousand_runs_in_one_folder(tmp_path: Path) -> None:
    for number in range(10_000):
        run = tmp_path / f"run-{number}"
        run.mkdir()
        (run / "events.jsonl").write_text('{"kind": "started", "total_steps": 9}\n')
    with bounds(most_seconds=8.0):  # 0.8 ms a run; others make a processor slow, too
        rows = list_folder(tmp_path)
    assert len(rows) == 10_000


def test_a_folder_that_vanishes_while_it_is_open(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    header, size = sound()
    written(run / "adapter_model.safetensors", header, bytes(size))
    (run / "events.jsonl").write_text('{"kind": "started", "total_steps": 9}\n')
    watch = RunWatch(run)
    watch.read()
    shutil.rmtree(run)
    with bounds():
        assert not watch.read()
        assert read_history(run) is None
        assert list_folder(run) == [] or find_adapters(run)[0].findings
    assert "There is nothing at" in sentence_or(lambda: described(run))
