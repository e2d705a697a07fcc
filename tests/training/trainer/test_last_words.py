"""Runs that fail while something else is wrong too: they say why, and save what they have learnt."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lorabench.runs.reserve import RESERVE, Reserve
from lorabench.training.config.run_config import RunConfig
from lorabench.training.trainer import failures, saving
from lorabench.training.trainer.failures import failure_of
from lorabench.training.trainer.train import train
from lorabench.training.trainer.watched import WatchedTrainer
from tests.training.trainer.runs import SAMPLES, adapter_bytes, at_step, events_of, run_file


def broken() -> None:
    raise RuntimeError("it broke")


def test_a_torch_that_cannot_be_imported_ends_the_run_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise OSError('libcudart.so.12: cannot open')")
    program = (
        "import sys; from pathlib import Path; from lorabench.training.trainer.train import train;"
        "print(train(Path(sys.argv[1]), place='thread').error)"
    )
    path = run_file(tmp_path)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "OSError: libcudart.so.12: cannot open\n"
    failed = events_of(tmp_path / "run")[-1]
    assert (failed["kind"], failed["error"]) == ("failed", "OSError: libcudart.so.12: cannot open")


def test_a_failure_in_the_step_that_loses_the_folder_is_told_in_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lose_and_break() -> None:
        shutil.rmtree(tmp_path / "run")
        broken()

    at_step(monkeypatch, 3, lose_and_break)
    outcome = train(run_file(tmp_path))
    failed = events_of(tmp_path / "run")[-1]
    assert (failed["kind"], failed["step"], failed["path"]) == ("failed", 2, str(outcome.path))
    assert failed["error"].startswith("RuntimeError: it broke")
    assert adapter_bytes(tmp_path / "run" / "adapter-at-step-2")
    assert "in broken" in capsys.readouterr().err


def test_room_that_cannot_be_made_costs_neither_the_adapter_nor_the_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def stays(folder: Path, _: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(folder))

    at_step(monkeypatch, 3, full)
    monkeypatch.setattr(failures, "make_room", stays)
    train(run_file(tmp_path))
    failed = events_of(tmp_path / "run")[-1]
    assert (failed["kind"], failed["reason"]) == ("failed", "disk full")
    assert failed["path"] == str(tmp_path / "run" / "adapter-at-step-2")


def test_memory_that_is_out_is_told_where_it_cannot_be_estimated(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(SAMPLES / "demo-model", model)
    config = json.loads((model / "config.json").read_text()) | {"num_hidden_layers": "x"}
    (model / "config.json").write_text(json.dumps(config))
    failure = failure_of(MemoryError(), RunConfig.load(run_file(tmp_path, model_name_or_path=str(model))))
    assert failure.reason == "out of memory"
    assert failure.hint == "Lower per_device_train_batch_size or max_length."


def test_a_second_failure_at_a_step_keeps_what_the_first_one_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step(monkeypatch, 2, broken)
    paths = [train(run_file(tmp_path, learning_rate=rate)).path for rate in (1e-3, 2e-3)]
    assert paths == [tmp_path / "run" / name for name in ("adapter-at-step-1", "adapter-at-step-1-2")]
    first, second = (adapter_bytes(path) for path in paths if path)
    assert first != second


def test_where_nothing_can_be_saved_no_folder_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(saving, "RESERVE", 2**62)
    at_step(monkeypatch, 2, broken)
    assert train(run_file(tmp_path)).path is None
    assert list((tmp_path / "temporary").iterdir()) == []
    assert list((tmp_path / "run").glob("*adapter-at*")) == []


def test_weights_that_the_libraries_leave_in_shards_are_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WatchedTrainer, "_save", lambda *_, **__: None)
    outcome = train(run_file(tmp_path, max_steps=1, save_strategy="no", save_steps=None))
    assert outcome.reason == "configuration"
    assert outcome.error.startswith("No adapter was saved at the end: FSDP with SHARDED_STATE_DICT")
    assert "FULL_STATE_DICT" in outcome.hint
    assert adapter_bytes(tmp_path / "run" / "adapter-at-step-1")


def test_the_room_that_is_kept_is_filled_with_what_no_file_system_packs(tmp_path: Path) -> None:
    import zlib

    Reserve(tmp_path)
    kept = (tmp_path / ".reserve").read_bytes()
    assert len(kept) == RESERVE
    assert len(zlib.compress(kept)) > 0.99 * RESERVE
