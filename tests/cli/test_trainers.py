"""How the workbench begins a training that is not in its own thread."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lorabench.cli.trainers import start
from lorabench.runs.lock import take_lock
from lorabench.runs.requests import stop_requested
from lorabench.training.trainer import launch as launch_module

WAITS = [sys.executable, "-c", "input()"]


def test_a_process_is_stopped_in_its_output_folder_wherever_its_file_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    path = tmp_path / "run.yaml"
    path.write_text(f"output_dir: {tmp_path / 'out'}\n")
    with subprocess.Popen(WAITS, stdin=subprocess.PIPE) as process:
        monkeypatch.setattr(launch_module, "launch", lambda *_, **__: process)
        trainer = start(path, resume=None, override=False, own_process=True)
        assert trainer.alive
        trainer.stop()
        assert stop_requested(tmp_path / "out")
        process.communicate(b"\n")
    assert trainer.wait()
    assert not trainer.alive


def test_a_process_that_has_let_go_of_its_folder_trains_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"output_dir: {tmp_path}\n")
    with subprocess.Popen(WAITS, stdin=subprocess.PIPE) as process:
        monkeypatch.setattr(launch_module, "launch", lambda *_, **__: process)
        trainer = start(path, resume=None, override=False, own_process=True)
        assert trainer.alive
        with take_lock(tmp_path):
            assert trainer.alive
        assert not trainer.alive
        assert process.poll() is None
        process.communicate(b"\n")
