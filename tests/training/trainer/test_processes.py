"""Trainings in processes of their own: killed, told to stop, short of disk, and several at once."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lorabench.errors import LorabenchError
from lorabench.runs.checkpoints import checkpoints, newest_whole
from lorabench.runs.lock import read_owner
from lorabench.runs.requests import request_checkpoint, request_stop, requests_in
from lorabench.training.trainer.launch import launch
from lorabench.training.trainer.train import train
from tests.training.trainer import children
from tests.training.trainer.children import ended, start
from tests.training.trainer.runs import (
    adapter_bytes,
    events_of,
    learnt,
    of_kind,
    run_file,
    warnings_of,
)


def test_a_killed_run_goes_on_as_if_nothing_had_been(undisturbed: Path, tmp_path: Path) -> None:
    path, run = run_file(tmp_path), tmp_path / "run"
    assert ended(start(path, prepare=children.die_at_step, given=(7,))) == -signal.SIGKILL
    assert max(learnt(run)) == 6
    owner = read_owner(run)
    assert owner is not None
    assert owner.alive is False
    assert train(path, resume=True).state == "finished"
    assert learnt(run) == learnt(undisturbed)
    assert adapter_bytes(run) == adapter_bytes(undisturbed)
    assert of_kind(events_of(run), "started")[-1]["resumed_step"] == 4
    assert any(f"taken over from process {owner.pid}" in text for text in warnings_of(run))


def test_a_checkpoint_torn_by_a_kill_is_passed_over(undisturbed: Path, tmp_path: Path) -> None:
    path, run = run_file(tmp_path), tmp_path / "run"
    assert ended(start(path, prepare=children.die_while_saving, given=(8,))) == -signal.SIGKILL
    whole, torn = newest_whole(run)
    assert whole is not None
    assert (whole.step, [checkpoint.step for checkpoint in torn]) == (4, [8])
    assert train(path, resume=True).state == "finished"
    assert learnt(run) == learnt(undisturbed)
    assert adapter_bytes(run) == adapter_bytes(undisturbed)
    assert any("checkpoint-8 is passed over" in text for text in warnings_of(run))


def test_a_signal_saves_and_stops(tmp_path: Path) -> None:
    path, run = run_file(tmp_path), tmp_path / "run"
    assert ended(start(path, prepare=children.signal_self_at_step, given=(3, signal.SIGTERM))) == 0
    (stopped,) = of_kind(events_of(run), "stopped")
    assert (stopped["step"], stopped["reason"]) == (3, "asked to stop at step 3")
    assert newest_whole(run)[0].step == 3  # type: ignore[union-attr]
    assert (run / "adapter_model.safetensors").is_file()


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    path, run = run_file(tmp_path), tmp_path / "run"
    twice = (3, signal.SIGINT, signal.SIGTERM)
    assert ended(start(path, prepare=children.signal_self_at_step, given=twice)) == 130
    assert max(learnt(run)) == 2
    assert events_of(run)[-1]["kind"] not in ("stopped", "finished", "failed")


def test_all_that_is_printed_goes_to_output_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, run = run_file(tmp_path, max_steps=1), tmp_path / "run"
    assert ended(start(path, prepare=children.print_at_step, given=(1,))) == 0
    log = (run / "output.log").read_text()
    for source in ("print", "write 1", "write 2", "C", "a child", "an early handler", "__stderr__"):
        assert f"by {source}\n" in log
    assert log.count("by a logger that nobody handles\n") == 1
    assert "by a warning" in log
    assert "by tqdm: 100%" in log
    assert "by " not in capfd.readouterr().out
    assert "by a warning" in warnings_of(run)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 400 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    if os.geteuid() or shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_ends_the_run_and_says_so(tmp_path: Path, small_disk: Path) -> None:
    path = run_file(tmp_path, output_dir=str(small_disk / "run"), save_steps=1)
    assert ended(start(path)) == 1
    failed = events_of(small_disk / "run")[-1]
    assert (failed["kind"], failed["reason"]) == ("failed", "disk full")
    assert "No space left" in failed["error"]
    whole, torn = newest_whole(small_disk / "run")
    assert whole is not None
    assert torn == []


def test_a_file_that_may_not_grow_is_a_full_disk_too(tmp_path: Path) -> None:
    path = run_file(tmp_path, save_steps=2)
    assert ended(start(path, prepare=children.limit_files, given=(20_000,))) == 1
    failed = events_of(tmp_path / "run")[-1]
    assert (failed["kind"], failed["reason"]) == ("failed", "disk full")


def test_an_own_process_starts_in_a_session_of_its_own_and_ends_with_a_code(tmp_path: Path) -> None:
    process = launch(run_file(tmp_path, max_steps=1))
    assert os.getsid(process.pid) == process.pid
    assert process.wait(60) == 0
    assert of_kind(events_of(tmp_path / "run"), "started")[0]["pid"] == process.pid
    assert f"adapter: {tmp_path / 'run'}" in (tmp_path / "run" / "output.log").read_text()


def command_of(monkeypatch: pytest.MonkeyPatch, path: Path, **options: Any) -> list[str]:
    """Return the command that `launch` would run, without Python."""
    commands: list[list[str]] = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **_: commands.append(command))
    launch(path, **options)
    ((_, _, *words),) = commands
    return words


def launched(monkeypatch: pytest.MonkeyPatch, path: Path, **options: Any) -> list[str]:
    """Return that command without the trainer's own part."""
    words = command_of(monkeypatch, path, **options)
    return words[: words.index("lorabench.training.trainer")]


def test_a_request_that_is_there_at_the_launch_is_none_of_the_new_run_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, run = run_file(tmp_path), tmp_path / "run"
    assert command_of(monkeypatch, path)[-1] == "--ignore="
    request_stop(run)
    request_checkpoint(run)
    assert command_of(monkeypatch, path)[-1] == "--ignore=" + ",".join(requests_in(run))
    monkeypatch.undo()
    assert ended(start(path, "--ignore=")) == 0
    assert events_of(run)[-1]["reason"] == "asked to stop before the first step"


def test_the_file_s_processes_are_started_as_trl_sft_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trl

    accelerate = ["accelerate.commands.launch"]
    zero2 = Path(trl.__file__).parent / "accelerate_configs" / "zero2.yaml"
    assert launched(monkeypatch, run_file(tmp_path)) == []
    assert launched(monkeypatch, run_file(tmp_path, num_processes=1)) == []
    two = run_file(tmp_path, num_processes=2)
    assert launched(monkeypatch, two) == [*accelerate, "--num_processes", "2", "-m"]
    assert launched(monkeypatch, two, processes=3) == [
        *accelerate, "--num_processes", "3", "--multi_gpu", "-m",
    ]  # fmt: skip
    both = run_file(tmp_path, num_processes=2, accelerate_config="zero2")
    words = launched(monkeypatch, both)
    assert words == [*accelerate, "--num_processes", "2", "--config_file", str(zero2), "-m"]
    words = launched(monkeypatch, both, accelerate=tmp_path / "mine.yaml")
    assert words == [*accelerate, "--num_processes", "2", "--config_file", str(tmp_path / "mine.yaml"), "-m"]
    with pytest.raises(LorabenchError, match="zero9 is neither a file nor one of TRL's"):
        launch(run_file(tmp_path, accelerate_config="zero9"))


@pytest.mark.slow
def test_two_processes_of_accelerate_train_as_one_and_the_first_writes(tmp_path: Path) -> None:
    path, run = run_file(tmp_path, max_steps=4, save_steps=2, per_device_train_batch_size=1), tmp_path / "run"
    assert launch(path, processes=2).wait(120) == 0
    events = events_of(run)
    (started,) = of_kind(events, "started")
    assert started["processes"] == 2
    assert [event["step"] for event in of_kind(events, "log")] == [1, 2, 3, 4]
    assert [event["step"] for event in of_kind(events, "checkpoint")] == [2, 4]
    assert len(of_kind(events, "finished")) == 1


def two(path: Path, prepare: Callable[..., None] | None = None, given: Any = ()) -> list[int]:
    """Train in two processes, the second of which is prepared; return their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    first = start(path, prepare=children.be_rank, given=(0, port))
    second = start(path, prepare=children.be_rank, given=(1, port, prepare, given))
    return [ended(first), ended(second)]


def test_a_stop_asked_of_one_process_stops_all_at_one_step(tmp_path: Path) -> None:
    path, run = run_file(tmp_path, num_processes=2), tmp_path / "run"
    assert two(path, children.signal_self_at_step, (3, signal.SIGTERM)) == [0, 0]
    events = events_of(run)
    assert not any("Counted for one process" in text for text in warnings_of(run))
    assert [event["processes"] for event in of_kind(events, "started")] == [2]
    assert [event["step"] for event in of_kind(events, "log")] == [1, 2, 3]
    assert [event["step"] for event in of_kind(events, "stopped")] == [3]
    assert [checkpoint.step for checkpoint in checkpoints(run)] == [3]


def test_a_loss_that_is_nan_in_one_process_ends_all(tmp_path: Path) -> None:
    path, run = run_file(tmp_path), tmp_path / "run"
    assert two(path, children.lose_the_loss_at_step, (2,)) == [1, 1]
    (failed,) = of_kind(events_of(run), "failed")
    assert failed["error"] == "The loss is NaN at step 2."


def test_what_broke_one_process_is_told_and_not_what_that_did_to_the_other(tmp_path: Path) -> None:
    path, run = run_file(tmp_path), tmp_path / "run"
    assert two(path, children.break_at_step, (2,)) == [1, 1]
    (failed,) = of_kind(events_of(run), "failed")
    assert failed["error"] == "RuntimeError: this process broke"
    assert adapter_bytes(run / "adapter-at-step-2")  # the first process's, which holds as much
