"""The rebuild: the whole way at tiny size, twice the same, and never at the cost of what was there."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lorabench.errors import LorabenchError
from lorabench.training.demo import build
from lorabench.training.demo.build import DemoSettings, rebuild
from lorabench.training.demo.recipes import CHECKPOINTS, FRESH, LEGACY_BIN, RECIPES

TINY = DemoSettings(
    plain_rows=120,
    style_rows=40,
    test_rows=6,
    vocabulary=300,
    hidden_size=64,
    layers=2,
    pretrain_steps=4,
    pretrain_batch_size=4,
    most_steps=2,
)
TINIEST = replace(TINY, recipes=(FRESH,))


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_whole_demo_is_built_and_nothing_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lines: list[str] = []
    rebuild(tmp_path / "demo", settings=TINY, report=lines.append)
    names = {path.name for path in (tmp_path / "demo").iterdir()}
    assert names == {"README.md", "demo-model", "demo-data", *(recipe.name for recipe in RECIPES)}
    assert lines[-1] == f"the demo is in {tmp_path / 'demo'}"
    assert [line for line in lines if line.startswith("pre-training: step 4 of 4, loss ")]
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
    config = json.loads((tmp_path / "demo" / "dora-r16" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "demo/demo-model"


def test_the_same_seed_builds_the_same_files_and_another_seed_others(tmp_path: Path) -> None:
    settings = replace(TINY, recipes=(CHECKPOINTS, LEGACY_BIN))
    for name, seed in (("first", 1), ("second", 1), ("third", 2)):
        rebuild(tmp_path / name / "demo", seed=seed, settings=settings)
    first, second, third = (digests(tmp_path / name) for name in ("first", "second", "third"))
    assert len(first) > 12
    assert first == second
    weights = [name for name in first if name.endswith((".safetensors", ".bin", ".jsonl"))]
    assert weights
    assert not any(first[name] == third[name] for name in weights)


def test_a_rebuild_replaces_an_older_demo_whole(tmp_path: Path) -> None:
    rebuild(tmp_path / "demo", settings=replace(TINY, recipes=(FRESH, LEGACY_BIN)))
    stale = tmp_path / "demo" / "legacy-bin-r8" / "left-over.txt"
    stale.write_text("old")
    rebuild(tmp_path / "demo", settings=replace(TINY, recipes=(FRESH, LEGACY_BIN)))
    assert not stale.exists()
    assert (tmp_path / "demo" / "legacy-bin-r8" / "adapter_model.bin").is_file()


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_rebuild_leaves_the_old_demo_and_nothing_beside_it(
    tmp_path: Path, interruption: type[BaseException]
) -> None:
    rebuild(tmp_path / "demo", settings=TINIEST)
    before = digests(tmp_path / "demo")
    threads, disabled = torch.get_num_threads(), logging.root.manager.disable

    def interrupt(line: str) -> None:
        if "measuring" in line:
            raise interruption

    with pytest.raises(interruption):
        rebuild(tmp_path / "demo", seed=9, settings=TINIEST, report=interrupt)
    assert digests(tmp_path / "demo") == before
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
    assert (torch.get_num_threads(), logging.root.manager.disable) == (threads, disabled)


def test_a_swap_that_fails_half_way_puts_the_old_demo_back(tmp_path: Path) -> None:
    old = tmp_path / "demo"
    old.mkdir()
    (old / "README.md").write_text("old")
    (tmp_path / "workshop").mkdir()
    real = Path.rename

    def fail_for_the_workshop(path: Path, target: Path) -> Path:
        if path.name == "workshop":
            raise OSError("no space left")
        return real(path, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "rename", fail_for_the_workshop)
        with pytest.raises(OSError, match="no space left"):
            build._swap(tmp_path / "workshop", old)
    assert (old / "README.md").read_text() == "old"


def test_a_folder_with_somebodys_own_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(LorabenchError, match=r"thesis\.tex, which is no part of the demo") as refusal:
        rebuild(tmp_path, settings=TINIEST)
    assert "name a new one" in refusal.value.hint
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("a file")
    with pytest.raises(LorabenchError, match="is a file"):
        rebuild(tmp_path / "demo", settings=TINIEST)
    with pytest.raises(LorabenchError, match="Cannot write in"):
        rebuild(tmp_path / "demo" / "below", settings=TINIEST)
