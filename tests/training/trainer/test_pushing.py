"""What goes to the hub: a faked one, which is told what the real one would get."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.utils import filter_repo_objects

from lorabench.training.trainer.train import train
from lorabench.training.trainer.watched import WatchedTrainer
from tests.training.trainer.runs import SAMPLES, adapter_bytes, events_of, run_file, warnings_of

Uploads = dict[str, dict[str, bytes]]
ADAPTER = {
    "adapter_config.json",
    "adapter_model.safetensors",
    "chat_template.jinja",
    "tokenizer.json",
    "tokenizer_config.json",
}


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> Uploads:
    """What was uploaded, by commit message: each file's content by its path in the repository."""
    uploads: Uploads = {}

    def upload_folder(
        _: HfApi, *, folder_path: str, commit_message: str, run_as_future: bool = False, **options: Any
    ) -> Any:
        root, place = Path(folder_path), options.get("path_in_repo") or ""
        every = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
        chosen: Iterator[str] = filter_repo_objects(
            every,
            allow_patterns=options.get("allow_patterns"),
            ignore_patterns=options.get("ignore_patterns"),
        )
        uploads[commit_message] = {str(Path(place, name)): (root / name).read_bytes() for name in chosen}
        done: Future[None] = Future()
        done.set_result(None)
        return done if run_as_future else None

    monkeypatch.setattr(HfApi, "create_repo", lambda *_, **__: SimpleNamespace(repo_id="somebody/adapter"))
    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    return uploads


def pushing(folder: Path, **changes: Any) -> Path:
    fields = {"push_to_hub": True, "hub_model_id": "somebody/adapter", "max_steps": 2, "save_steps": 1}
    return run_file(folder, **(fields | {"env": {"SECRET_KEY": "hunter2"}} | changes))


def test_what_was_saved_goes_to_the_hub_and_nothing_else_of_the_run_s_folder(
    tmp_path: Path, uploads: Uploads
) -> None:
    assert train(pushing(tmp_path)).state == "finished"
    assert list(uploads) == [
        "Training in progress, step 1",
        "Training in progress, step 2",
        "End of training",
    ]
    *under_way, final = map(set, uploads.values())
    assert final == ADAPTER | {"README.md", "training_args.bin"}
    assert under_way == [final - {"README.md"}] * 2
    for files in uploads.values():
        assert not any(b"hunter2" in content for content in files.values())
    weights = [files["adapter_model.safetensors"] for files in uploads.values()]
    assert weights[0] != weights[1]
    assert weights[1] == weights[2] == adapter_bytes(tmp_path / "run")
    card = uploads["End of training"]["README.md"].decode()
    assert "trained using [TRL]" in card
    assert str(SAMPLES) not in card


def test_a_token_stays_here_and_a_whole_checkpoint_goes_where_that_is_asked_for(
    tmp_path: Path, uploads: Uploads
) -> None:
    path = pushing(tmp_path, hub_token="hf_hunter3", hub_strategy="checkpoint", max_steps=1)
    assert train(path).state == "finished"
    assert set(uploads["End of training"]) == ADAPTER | {"README.md"}
    last = set(uploads["Training in progress, step 1, checkpoint"])
    assert {"last-checkpoint/optimizer.pt", "last-checkpoint/adapter_model.safetensors"} < last
    assert not any(b"hunter3" in content for files in uploads.values() for content in files.values())


def test_a_push_leaves_the_adapter_that_is_saved_alone(
    tmp_path: Path, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves: list[str] = []
    save = WatchedTrainer._save

    def full_after_one(self: WatchedTrainer, folder: str, **more: Any) -> None:
        saves.append(folder)
        if len(saves) > 1:
            Path(folder, "adapter_model.safetensors").write_bytes(bytes(1000))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(self, folder, **more)

    monkeypatch.setattr(WatchedTrainer, "_save", full_after_one)
    assert train(pushing(tmp_path, save_strategy="no", save_steps=None)).state == "finished"
    assert saves == [str(tmp_path / "run" / ".saving")]
    assert uploads["End of training"]["adapter_model.safetensors"] == adapter_bytes(tmp_path / "run")


def test_a_hub_that_does_not_answer_costs_a_warning(
    tmp_path: Path, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: Any, **__: Any) -> None:
        raise ConnectionError("no hub")

    monkeypatch.setattr(HfApi, "upload_folder", gone)
    assert train(pushing(tmp_path, save_strategy="no", save_steps=None)).state == "finished"
    assert "The adapter is saved, but ConnectionError: no hub" in warnings_of(tmp_path / "run")
    assert events_of(tmp_path / "run")[-1]["kind"] == "finished"
