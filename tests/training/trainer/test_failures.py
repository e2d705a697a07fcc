"""What is said of an exception that ended a run; each is raised by whoever raises it in earnest."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from lorabench.training.config.run_config import RunConfig
from lorabench.training.trainer.build import build
from lorabench.training.trainer.failures import Failure, NotFinite, failure_of, make_room
from tests.training.trainer.runs import run_file

FULL = Path("/dev/full")  # a device that answers every write with "No space left on device"


def fails(what: Callable[[], object], config: RunConfig) -> Failure:
    with pytest.raises(Exception) as caught:  # noqa: PT011  what it is, is the question
        what()
    return failure_of(caught.value, config)


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return RunConfig.load(run_file(tmp_path, per_device_train_batch_size=16))


def too_much() -> torch.Tensor:
    return torch.empty(2**50)


def out_of_cuda() -> None:
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def out_of_python() -> bytes:
    return bytes(2**62)


@pytest.mark.parametrize("what", [too_much, out_of_cuda, out_of_python])
def test_memory_that_is_out_is_told_with_numbers(what: Callable[[], object], config: RunConfig) -> None:
    failure = fails(what, config)
    assert failure.reason == "out of memory"
    assert "batch 8 × 2 would save" in failure.hint


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    "write",
    [lambda: FULL.write_text("x"), lambda: torch.save(torch.zeros(2**16), FULL)],
    ids=["Python", "PyTorch"],
)
def test_a_full_disk_is_told_whoever_writes(write: Callable[[], object], config: RunConfig) -> None:
    failure = fails(write, config)
    assert failure.reason == "disk full"
    assert str(config.folder) in failure.error
    assert "save_total_limit" in failure.hint


def test_another_error_of_the_disk_is_told_as_it_is(config: RunConfig) -> None:
    failure = failure_of(OSError(errno.EIO, os.strerror(errno.EIO)), config)
    assert (failure.reason, failure.error) == ("error", "OSError: [Errno 5] Input/output error")


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed here")
def test_a_package_that_is_missing_is_named(tmp_path: Path) -> None:
    config = RunConfig.load(run_file(tmp_path, load_in_4bit=True))
    failure = fails(lambda: build(config), config)
    assert failure.reason == "missing package"
    assert "bitsandbytes" in failure.error
    assert failure.hint == "pip install 'lorabench[qlora]'"


def test_a_nan_sends_to_an_earlier_checkpoint_only_where_there_is_a_whole_one(
    undisturbed: Path, tmp_path: Path, config: RunConfig
) -> None:
    lost = failure_of(NotFinite(3, float("nan")), config)
    assert lost.hint.startswith("Start anew with a lower learning_rate; look for rows")
    shutil.copytree(undisturbed / "checkpoint-4", config.folder / "checkpoint-4")
    kept = failure_of(NotFinite(5, float("nan")), config)
    assert kept.hint.startswith("Go on from checkpoint 4, or start anew with a lower learning_rate; look")


def test_room_is_made_of_the_checkpoint_that_was_not_saved_to_its_end_alone(
    undisturbed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    (folder / "checkpoint-12" / "trainer_state.json").unlink()
    make_room(folder, 8)
    make_room(folder, 12)
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-8"]
