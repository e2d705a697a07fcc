"""Which checkpoints a training can go on from: real files, really cut short."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from lorabench.runs.checkpoints import checkpoints, newest_whole, set_aside

NEEDED = ("adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as the Trainer writes it, after one real step of a small layer."""
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("saved") / "checkpoint-3"
    folder.mkdir()
    layer = torch.nn.Linear(64, 64)
    optimizer = torch.optim.AdamW(layer.parameters())
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer)
    layer(torch.ones(64)).sum().backward()
    optimizer.step()
    scheduler.step()
    save_file(dict(layer.state_dict()), folder / "adapter_model.safetensors")
    torch.save(optimizer.state_dict(), folder / "optimizer.pt")
    torch.save(scheduler.state_dict(), folder / "scheduler.pt")
    torch.save({"cpu": torch.random.get_rng_state()}, folder / "rng_state.pth")
    torch.save({"lr": 1e-4}, folder / "training_args.bin")
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 3, "log_history": []}))
    return folder


@pytest.fixture
def run(saved: Path, tmp_path: Path) -> Path:
    """A run with three whole checkpoints: 3, 20 and 100."""
    for step in (100, 3, 20):
        shutil.copytree(saved, tmp_path / f"checkpoint-{step}")
    return tmp_path


def loads(path: Path) -> bool:
    """Ask the libraries themselves."""
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".safetensors":
            load_file(path)
        else:
            torch.load(path, weights_only=True)
    except Exception:  # noqa: BLE001  each library has its own
        return False
    return True


def test_whole_checkpoints_are_listed_by_step(run: Path) -> None:
    found = checkpoints(run)
    assert [(one.path.name, one.step, one.torn) for one in found] == [
        ("checkpoint-3", 3, None),
        ("checkpoint-20", 20, None),
        ("checkpoint-100", 100, None),
    ]
    assert newest_whole(run) == (found[-1], [])


@pytest.mark.parametrize("name", [*NEEDED, "rng_state.pth"])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.5, 0.95, -1], ids=["empty", "0.3", "half", "0.95", "last byte"])
def test_a_file_that_was_cut_short_is_told_and_the_one_before_is_taken(
    run: Path, name: str, part: float
) -> None:
    file = run / "checkpoint-100" / name
    size = file.stat().st_size
    os.truncate(file, size - 1 if part == -1 else int(part * size))
    assert not loads(file)
    newest, torn = newest_whole(run)
    assert newest is not None
    assert newest.step == 20
    assert [(one.step, (one.torn or "").split()[0]) for one in torn] == [(100, name)]
    assert "is damaged" in (torn[0].torn or "")


@pytest.mark.parametrize(
    "name", ["adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"]
)
def test_a_file_that_is_missing_is_told(run: Path, name: str) -> None:
    (run / "checkpoint-100" / name).unlink()
    newest, torn = newest_whole(run)
    assert newest is not None
    assert newest.step == 20
    said = torn[0].torn or ""
    assert said.startswith("no weights" if name.startswith("adapter") else f"no {name}")


def test_what_the_trainer_does_not_need_may_be_damaged_or_missing(run: Path) -> None:
    os.truncate(run / "checkpoint-100" / "training_args.bin", 5)
    (run / "checkpoint-100" / "rng_state.pth").unlink()
    assert checkpoints(run)[-1].torn is None


@pytest.mark.parametrize("state", ["[]", "{}", '{"global_step": "x"}', "[" * 100_000])
def test_a_state_without_its_step_is_damaged(run: Path, state: str) -> None:
    (run / "checkpoint-100" / "trainer_state.json").write_text(state)
    assert checkpoints(run)[-1].torn == "trainer_state.json is damaged"


def test_only_torn_ones_are_no_checkpoint_to_go_on_from(run: Path) -> None:
    for folder in run.iterdir():
        (folder / "optimizer.pt").unlink()
    newest, torn = newest_whole(run)
    assert newest is None
    assert [one.step for one in torn] == [100, 20, 3]


def test_a_checkpoint_of_several_processes_has_its_optimizer_elsewhere(run: Path) -> None:
    for step, name in ((20, "optimizer_0"), (100, "latest")):
        folder = run / f"checkpoint-{step}"
        for file in ("optimizer.pt", "scheduler.pt"):
            (folder / file).unlink()
        (folder / name).write_text("global_step100") if name == "latest" else (folder / name).mkdir()
    assert [one.torn for one in checkpoints(run)] == [None, None, None]


def test_what_has_another_name_is_no_checkpoint(run: Path) -> None:
    for name in ("checkpoint-", "checkpoint-1x", "my-checkpoint-5", "checkpoint-٣"):
        (run / name).mkdir()
    (run / "checkpoint-7").write_text("a file")
    assert [one.step for one in checkpoints(run)] == [3, 20, 100]
    assert checkpoints(run / "gone") == []


def test_the_sample_checkpoints_cannot_be_gone_on_from(samples: Path) -> None:
    found = checkpoints(samples / "style-checkpoints-r8")
    assert [one.step for one in found] == [60, 120, 180, 240]
    assert all((one.torn or "").startswith("no optimizer.pt") for one in found)


def test_a_checkpoint_by_others_can_be_judged(shared_data: Path) -> None:
    found = checkpoints(shared_data / "adapters" / "roberta-portuguese-r8")
    assert [one.step for one in found] == [500, 4500, 8610]
    assert {(one.torn or "")[:16] for one in found} == {"no optimizer.pt:"}


def test_an_earlier_attempt_is_set_aside_whole_and_never_resumed(run: Path) -> None:
    (run / "run.yaml").write_text("r: 8\n")
    (run / "events.jsonl").write_text("{}\n")
    (run / "adapter_config.json").write_text("{}")
    (run / "adapter_model.safetensors").write_bytes(b"first")
    assert set_aside(run) == run / "earlier-1"
    assert {path.name for path in run.iterdir()} == {"run.yaml", "events.jsonl", "earlier-1"}
    assert newest_whole(run) == (None, [])
    assert [one.torn for one in checkpoints(run / "earlier-1")] == [None, None, None]
    assert (run / "earlier-1" / "adapter_model.safetensors").read_bytes() == b"first"
    assert set_aside(run) is None
    (run / "checkpoint-3").mkdir()
    assert set_aside(run) == run / "earlier-2"
