"""Whatever is read of an adapter, its base model, a run, a checkpoint: no pipe, no device, no gigabytes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from lorabench.adapters.base_model import open_base
from lorabench.adapters.open import open_adapter
from lorabench.runs.checkpoints import checkpoints, why_torn
from lorabench.runs.events import EVENTS_FILE, EventWriter, Follower, last_of_kind
from lorabench.runs.history import RUN_FILE
from lorabench.runs.output import OUTPUT_FILE
from lorabench.screens.train_dialogs import configuration_of
from lorabench.training.config.run_config import RunConfig
from lorabench.training.trainer.launch import launch
from tests.fuzz.bounds import LONG, bounds, sentence_or
from tests.fuzz.test_adapter_files import sound, written
from tests.fuzz.test_folders import looked_at

HUGE = 30 * 10**9


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(HUGE)


KINDS = {"a pipe": pipe, "a device": device, "gigabytes": sparse}
PLACES = (
    *("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin", "other.safetensors"),
    *("adapter_model.safetensors.index.json", "adapter_model-00001-of-00001.safetensors", "x_lora.pt"),
    *(EVENTS_FILE, RUN_FILE, "run.lock", OUTPUT_FILE, "trainer_state.json", "stop", "README.md"),
    *("base/config.json", "base/model.safetensors", "base/model.safetensors.index.json"),
    *("base/pytorch_model.bin.index.json", "base/other.safetensors"),
    *("checkpoint-3/adapter_model.safetensors", "checkpoint-3/adapter_config.json", "checkpoint-3/latest"),
    *("checkpoint-3/trainer_state.json", "checkpoint-3/optimizer.pt", "checkpoint-3/scheduler.pt"),
    *("checkpoint-3/rng_state.pth", "checkpoint-3/training_args.bin", "checkpoint-3/optimizer_0"),
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that holds an adapter and a checkpoint, with its base model beneath it."""
    header, size = sound()
    checkpoint, base = tmp_path / "run" / "checkpoint-3", tmp_path / "run" / "base"
    checkpoint.mkdir(parents=True)
    base.mkdir()
    config = json.dumps({"peft_type": "LORA", "r": 2, "base_model_name_or_path": str(base)})
    for folder in (checkpoint, checkpoint.parent):
        written(folder / "adapter_model.safetensors", header, bytes(size))
        (folder / "adapter_config.json").write_text(config)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        (checkpoint / name).write_bytes(b"PK\x05\x06" + bytes(18))  # the smallest zip
    (checkpoint / "trainer_state.json").write_text('{"global_step": 3}')
    weight = {"layers.0.q_proj.weight": {"dtype": "F32", "shape": [3, 3], "data_offsets": [0, 36]}}
    written(base / "model.safetensors", weight, bytes(36))
    return tmp_path / "run"


def read_everywhere(run: Path) -> str:
    """Do what the bench, the screens and the commands do with what lies in the folder."""

    def base() -> str:
        found, name = open_base(open_adapter(run)), "layers.0.q_proj.weight"
        return f"{name in found} {found.identity(name) if name in found else ''}"

    said = [sentence_or(partial(looked_at, place)) for place in (run, run / "checkpoint-3")]
    said += [sentence_or(base), sentence_or(lambda: str(why_torn(run / "checkpoint-3")))]
    said += [sentence_or(lambda: repr(configuration_of(run))), sentence_or(lambda: str(checkpoints(run)))]
    return "\n".join(said)


def test_the_folder_itself_is_sound(run: Path) -> None:
    assert why_torn(run / "checkpoint-3") is None
    assert read_everywhere(run).count("layers.0.q_proj") > 3


@pytest.mark.parametrize("kind", KINDS if LONG else ["a pipe", "gigabytes"])
@pytest.mark.parametrize("place", PLACES)
def test_nobody_waits_for_it_nor_reads_it_whole(run: Path, place: str, kind: str) -> None:
    (run / place).unlink(missing_ok=True)
    if "pytorch_model" in place or "other" in place or "index" in place:
        (run / "base" / "model.safetensors").unlink(missing_ok=True)
    KINDS[kind](run / place)
    read_everywhere(run)


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("name", ["trainer_state.json", "optimizer.pt", "adapter_model.safetensors"])
def test_no_training_goes_on_from_such_a_file(run: Path, name: str, make: Callable[[Path], None]) -> None:
    (run / "checkpoint-3" / name).unlink()
    make(run / "checkpoint-3" / name)
    with bounds():
        assert why_torn(run / "checkpoint-3")


def test_a_long_history_of_gigabytes_is_known_by_its_ends(run: Path) -> None:
    state = run / "checkpoint-3" / "trainer_state.json"
    with state.open("wb") as file:
        file.write(b'{\n  "epoch": 1.0,\n  "global_step": 3,\n  "log_history": [')
        file.seek(HUGE)
        file.write(b"]\n}\n")
    with bounds():
        assert why_torn(run / "checkpoint-3") is None
    with state.open("r+b") as file:
        file.truncate(HUGE)
    with bounds():
        assert why_torn(run / "checkpoint-3") == "trainer_state.json is damaged"


@pytest.mark.parametrize("make", [pipe, device])
def test_no_trainer_writes_into_a_pipe_or_a_device(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / EVENTS_FILE)
    with bounds(), pytest.raises(OSError, match="Not a plain file"):
        EventWriter(tmp_path)
    make(tmp_path / OUTPUT_FILE)
    RunConfig.of({"output_dir": str(tmp_path)}).save(tmp_path / RUN_FILE)
    with bounds(), pytest.raises(OSError, match="Not a plain file"):
        launch(tmp_path)


def filled(path: Path, piece: bytes, size: int) -> None:
    """Write a file of one piece over and over, by its own copies: faster than any loop."""
    block = piece * (2**20 // len(piece))
    with path.open("wb") as file:
        for _ in range(size // len(block)):
            file.write(block)


NOTHING = (
    b"\n",
    b"x\n",
    b"{}\n",
    b"[" * 63 + b"\n",
    bytes(1024),
    b'"kind": "started"',
    b'x"kind": "started"\n',
)


@pytest.mark.parametrize("piece", NOTHING)
def test_an_events_file_of_nothing_keeps_a_reader_for_a_moment(tmp_path: Path, piece: bytes) -> None:
    path = tmp_path / EVENTS_FILE
    filled(path, piece, 2**24)
    follower = Follower(path)
    with bounds():
        assert all(not event.get("kind") for event in follower.read())
    with bounds():
        last_of_kind(path, "started")


def test_events_behind_gigabytes_of_nothing_are_come_to(tmp_path: Path) -> None:
    path = tmp_path / EVENTS_FILE
    sparse(path)
    with path.open("ab") as file:
        file.write(b'\n{"kind": "started", "total_steps": 9}\n')
    with bounds():
        assert last_of_kind(path, "started") == (HUGE + 1, {"kind": "started", "total_steps": 9})
    with bounds():
        assert last_of_kind(path, "log") is None
    follower = Follower(path, HUGE + 1)
    assert follower.read() == [{"kind": "started", "total_steps": 9}]
    shutil.copyfile("/dev/null", path)
    assert follower.read() == []
