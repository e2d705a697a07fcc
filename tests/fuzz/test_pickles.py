"""Pickles that run code on loading: no command runs it, no training that goes on from them, and no screen."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import yaml

from lorabench.__main__ import main
from lorabench.adapters.pickles import read_pickle
from lorabench.errors import Malformed
from lorabench.screens.listing import list_folder
from lorabench.training import unpickle
from tests.fuzz.bounds import LONG, bounds, harmless
from tests.fuzz.hostile_pickles import TRUSTING, WAYS, Calls
from tests.training.trainer.runs import SAMPLES, run_file

SOME = ("a directory that names another piece",)
CONFIG = '{"peft_type": "LORA", "r": 2, "lora_alpha": 2, "base_model_name_or_path": "%s"}'


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "ran"


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("way", WAYS)
def test_the_files_are_hostile_and_what_reads_them_here_runs_nothing(
    way: str, tmp_path: Path, mark: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "adapter_model.bin"
    path.write_bytes(WAYS[way](mark))
    unpickle.main(str(path), str(tmp_path / "target"))
    assert not mark.exists()
    assert harmless(capsys.readouterr().out)
    subprocess.run([sys.executable, "-c", TRUSTING, path], check=True, capture_output=True)
    assert mark.exists()


@pytest.mark.parametrize("way", WAYS if LONG else SOME)
def test_no_command_and_no_listing_runs_it(
    way: str, tmp_path: Path, mark: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, base = tmp_path / "adapter", tmp_path / "base"
    for place, name in ((folder, "adapter_model.bin"), (base, "pytorch_model.bin")):
        place.mkdir()
        (place / name).write_bytes(WAYS[way](mark))
    (folder / "adapter_config.json").write_text(CONFIG % base)
    assert [row.path for row in list_folder(folder)] == [folder]
    for command in ("describe", "analyze", "base", "serve-check") if LONG else ("describe",):
        assert main([command, str(folder)]) in (0, 1, 2)
    said = capsys.readouterr()
    assert not mark.exists()
    assert "Traceback" not in said.err
    assert harmless(said.out + said.err)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run.yaml of a run with a checkpoint to go on from."""
    from lorabench.training.trainer.train import train

    file = run_file(tmp_path_factory.mktemp("stopped"), max_steps=4)
    assert train(file).state == "finished"
    return file


READ = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "adapter_model.bin")


@pytest.mark.skipif(not LONG, reason="seconds each")
@pytest.mark.parametrize("name", READ)
def test_no_training_that_goes_on_from_it_runs_it(
    name: str, stopped: Path, tmp_path: Path, mark: Path
) -> None:
    from lorabench.training.trainer.train import train

    folder = tmp_path / "run"
    shutil.copytree(stopped.parent / "run", folder)
    checkpoint = folder / "checkpoint-4"
    fields = yaml.safe_load(stopped.read_text()) | {"output_dir": str(folder), "max_steps": 6}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(fields))
    if name == "adapter_model.bin":
        (checkpoint / "adapter_model.safetensors").unlink()
    for way in WAYS:
        (checkpoint / name).write_bytes(WAYS[way](mark))
        assert main(["check", str(tmp_path / "run.yaml")]) in (0, 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcome = train(tmp_path / "run.yaml", resume=True, override=True)
        assert not mark.exists(), way
        assert outcome.state in ("finished", "failed"), way
        shutil.rmtree(folder)
        shutil.copytree(stopped.parent / "run", folder)
        if name == "adapter_model.bin":
            (checkpoint / "adapter_model.safetensors").unlink()


@pytest.mark.skipif(not LONG, reason="seconds each")
@pytest.mark.parametrize("command", ["check", "audit", "train"])
def test_no_base_model_that_is_trained_runs_it(command: str, tmp_path: Path, mark: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(SAMPLES / "demo-model", base)
    (base / "model.safetensors").unlink()
    file = run_file(tmp_path, model_name_or_path=str(base), max_steps=1)
    for way in WAYS:
        (base / "pytorch_model.bin").write_bytes(WAYS[way](mark))
        assert main([command, str(file)]) in (0, 1, 2)
        assert not mark.exists(), way


def bombs() -> dict[str, object]:
    """What a file of a kilobyte can unfold into."""
    dicts: dict[str, object] = {"x": torch.ones(1)}
    for _ in range(40):
        dicts = {"a": dicts, "b": dicts}
    circle: dict[str, object] = {}
    circle["x"] = circle
    return {"a tensor": {"x": torch.ones(1).expand(10**6, 10**6)}, "dicts": dicts, "a circle": circle}


@pytest.mark.parametrize("bomb", bombs())
def test_a_small_file_that_unfolds_into_gigabytes_is_not_unfolded(bomb: str, tmp_path: Path) -> None:
    torch.save(bombs()[bomb], tmp_path / "lora.bin")
    with bounds():
        assert unpickle.main(str(tmp_path / "lora.bin"), str(tmp_path / "target")) == unpickle.UNREADABLE
    assert not (tmp_path / "target").exists()


@pytest.mark.skipif(not LONG, reason="a child that imports torch")
def test_memory_that_a_pickle_asks_for_is_bounded(tmp_path: Path) -> None:
    torch.save({"x": Calls(bytearray, 10**10)}, tmp_path / "lora.bin")
    with pytest.raises(Malformed, match=r"is not a readable torch file \(MemoryError\)"):
        read_pickle(tmp_path / "lora.bin")
