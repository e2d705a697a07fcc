"""Trainings that may not begin, or that go wrong: what they leave, and what is told."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tqdm.auto import tqdm
from transformers import AutoTokenizer

from lorabench.errors import LorabenchError
from lorabench.runs.checkpoints import checkpoints
from lorabench.runs.lock import take_lock
from lorabench.training.trainer.launch import launch
from lorabench.training.trainer.train import train
from lorabench.training.trainer.watched import WatchedTrainer
from tests.training.trainer.runs import (
    SAMPLES,
    at_step,
    events_of,
    learnt,
    of_kind,
    rows_file,
    run_file,
    warnings_of,
)


def test_a_second_trainer_is_refused_and_the_first_one_s_folder_left_alone(tmp_path: Path) -> None:
    path = run_file(tmp_path)
    (tmp_path / "run").mkdir()
    with take_lock(tmp_path / "run"):
        outcome = train(path)
    assert outcome.state == "refused"
    assert f"process {os.getpid()}" in outcome.error
    assert events_of(tmp_path / "run") == []


def test_a_lock_of_an_earlier_boot_is_taken_over_and_said(tmp_path: Path) -> None:
    path = run_file(tmp_path, max_steps=1)
    (tmp_path / "run").mkdir()
    with take_lock(tmp_path / "run") as lock:
        stale = json.loads(lock.path.read_text()) | {"boot": "another", "pid": 4242}
    (tmp_path / "run" / "run.lock").write_text(json.dumps(stale))
    assert train(path).state == "finished"
    assert any("taken over from process 4242" in text for text in warnings_of(tmp_path / "run"))


def test_a_file_that_is_not_there_and_a_folder_that_cannot_be_made_are_refused(tmp_path: Path) -> None:
    assert train(tmp_path / "none.yaml").state == "refused"
    (tmp_path / "file").write_text("")
    assert train(run_file(tmp_path, output_dir=str(tmp_path / "file" / "run"))).state == "refused"


def test_an_error_of_the_preflight_stops_the_start_and_is_told_with_its_findings(tmp_path: Path) -> None:
    path = run_file(tmp_path, lora_target_modules=["q_proj", "query"], max_steps=1)
    outcome = train(path)
    (failed,) = of_kind(events_of(tmp_path / "run"), "failed")
    assert (outcome.state, outcome.reason) == ("failed", "preflight")
    assert failed["findings"][0]["check"] == "coverage"
    assert failed["error"] == failed["findings"][0]["message"]
    assert of_kind(events_of(tmp_path / "run"), "started") == []
    assert train(path, override=True).state == "finished"
    assert any("coverage" in text and "query" in text for text in warnings_of(tmp_path / "run"))


def poisoned_model(folder: Path, text: str) -> Path:
    """A copy of the demo model that has a NaN in the embedding, not in the head, of a text's last token."""
    shutil.copytree(SAMPLES / "demo-model", folder)
    token = AutoTokenizer.from_pretrained(folder)(text)["input_ids"][-1]
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    weights["model.embed_tokens.weight"][token] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


PLAIN = [{"text": "the child of a pig"}, {"text": "the food of a hen"}] * 2


@pytest.mark.parametrize("stop", [True, False])
def test_a_loss_of_nan_ends_the_run_at_its_step_unless_it_is_told_to_go_on(
    tmp_path: Path, stop: bool
) -> None:
    model = poisoned_model(tmp_path / "model", "zebra")
    rows = rows_file(tmp_path / "rows", [*PLAIN, {"text": "zebra"}, *PLAIN])
    env = {} if stop else {"env": {"LORABENCH": {"stop_on_nan": False}}}
    path = run_file(
        tmp_path,
        model_name_or_path=str(model),
        dataset_name=str(rows),
        assistant_only_loss=None,
        per_device_train_batch_size=1,
        train_sampling_strategy="sequential",
        max_steps=7,
        save_steps=2,
        **env,
    )
    outcome = train(path, override=True)
    assert not tqdm._instances  # an open bar is painted among those of the next run
    run = tmp_path / "run"
    if stop:
        (failed,) = of_kind(events_of(run), "failed")
        assert (outcome.state, failed["reason"]) == ("failed", "nan")
        assert failed["error"] == "The loss is NaN at step 5."
        assert [checkpoint.step for checkpoint in checkpoints(run)] == [2, 4]
        assert not (run / "adapter_model.safetensors").exists()
    else:
        assert outcome.state == "finished"
        assert "The loss is NaN at step 5." in warnings_of(run)
        losses = [loss for loss, _ in learnt(run).values()]
        assert [math.isnan(loss) for loss in losses] == [False] * 4 + [True] * 3


def test_memory_that_runs_out_is_told_with_what_would_save_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has …")

    at_step(monkeypatch, 2, run_out)
    train(run_file(tmp_path, per_device_train_batch_size=4))
    (failed,) = of_kind(events_of(tmp_path / "run"), "failed")
    assert failed["reason"] == "out of memory"
    assert failed["error"].startswith("CUDA out of memory. Tried to allocate 20.00 GiB.")
    assert "batch 2 × 2 would save" in failed["hint"]


def test_env_is_set_for_the_run_and_gone_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}
    at_step(monkeypatch, 1, lambda: seen.update(os.environ))
    train(run_file(tmp_path, max_steps=1, env={"A_VARIABLE": 3, "LORABENCH": {"precision": "auto"}}))
    assert seen["A_VARIABLE"] == "3"
    assert "LORABENCH" not in seen
    assert "A_VARIABLE" not in os.environ


def test_variables_that_no_environment_can_hold_are_an_error_and_with_override_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = run_file(tmp_path, max_steps=1, env={"A=B": 1, "C": "\0", "": 2, "D": 3})
    outcome = train(file)
    assert (outcome.state, outcome.reason) == ("failed", "preflight")
    assert outcome.error == 'env: "" is no name of an environment variable. (and 2 more)'
    seen: dict[str, str] = {}
    at_step(monkeypatch, 1, lambda: seen.update(os.environ))
    assert train(file, override=True).state == "finished"
    assert seen["D"] == "3"
    assert seen.keys().isdisjoint({"A=B", "C", "", "A"})


def test_what_fails_after_the_adapter_is_saved_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: WatchedTrainer) -> None:
        raise ConnectionError("no hub")

    monkeypatch.setattr(WatchedTrainer, "end", fail)
    assert train(run_file(tmp_path, max_steps=1)).state == "finished"
    assert "The adapter is saved, but ConnectionError: no hub" in warnings_of(tmp_path / "run")


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "lora_r: [8\n"])
def test_a_file_that_says_nothing_is_refused_and_trains_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(text)
    outcome = train(tmp_path)
    assert (outcome.state, outcome.path) == ("refused", None)
    assert "run.yaml says nothing to train." in outcome.error
    with pytest.raises(LorabenchError, match="says nothing to train"):
        launch(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]
