"""Real trainings of the demo model in this process: what they leave in their folder, and how they end."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lorabench.adapters.open import open_adapter
from lorabench.runs.checkpoints import checkpoints
from lorabench.runs.lock import read_owner
from lorabench.runs.record import RunRecord
from lorabench.runs.requests import request_checkpoint, request_stop, requests_in, stop_requested
from lorabench.training.trainer.train import train
from tests.training.trainer.runs import (
    SAMPLES,
    STEPS,
    adapter_bytes,
    at_step,
    events_of,
    learnt,
    of_kind,
    rows_file,
    run_file,
    warnings_of,
)


def test_a_run_tells_its_stages_its_start_each_step_and_its_end(undisturbed: Path) -> None:
    events = events_of(undisturbed)
    stages = [event["stage"] for event in of_kind(events, "stage")]
    assert stages == ["preflight", "loading", "preparing", "training", "saving"]
    assert [event["step"] for event in of_kind(events, "log")] == list(range(1, STEPS + 1))
    assert [event["step"] for event in of_kind(events, "checkpoint")] == [4, 8, 12]
    (finished,) = of_kind(events, "finished")
    assert finished["step"] == STEPS
    assert finished["path"] == str(undisturbed)
    assert finished["train_loss"] == pytest.approx(
        sum(loss for loss, _ in learnt(undisturbed).values()) / STEPS
    )
    assert events[-1] is finished


def test_started_says_all_that_is_needed_to_make_the_run_again(undisturbed: Path) -> None:
    (started,) = of_kind(events_of(undisturbed), "started")
    text = (undisturbed.parent / "run.yaml").read_bytes()
    # 6 layers, q_proj 128→128 and v_proj 128→64, r = 4: see config.json of the demo model.
    config = json.loads((SAMPLES / "demo-model" / "config.json").read_text())
    head = config["hidden_size"] // config["num_attention_heads"]
    queries, values = config["hidden_size"], config["num_key_value_heads"] * head
    trainable = config["num_hidden_layers"] * 4 * (2 * config["hidden_size"] + queries + values)
    base = sum(tensor.numel() for tensor in load_file(SAMPLES / "demo-model" / "model.safetensors").values())
    assert started["config"] == hashlib.sha256(text).hexdigest()
    assert started["trainable"] == trainable
    assert started["total"] == base + trainable
    assert started["seed"] == 7
    assert started["total_steps"] == STEPS
    assert started["device"] == {"name": "CPU", "kind": "cpu", "dtype": "fp32"}
    assert started["versions"]["torch"] == torch.__version__
    assert (started["processes"], started["place"], started["pid"]) == (1, "process", os.getpid())
    assert len(started["data"]) == 64


def test_a_log_tells_the_pace_and_the_tokens_of_the_run(undisturbed: Path) -> None:
    logs = of_kind(events_of(undisturbed), "log")
    tokens = [log["tokens"] for log in logs]
    assert tokens == sorted(tokens)
    assert 0 < tokens[0] <= 2 * 64
    for log, before in zip(logs[1:], logs, strict=False):
        seen = log["tokens"] - before["tokens"]
        assert log["tokens_per_second"] * log["step_seconds"] == pytest.approx(seen)
        assert log["samples_per_second"] * log["step_seconds"] == pytest.approx(2)


def test_the_adapter_opens_and_the_folder_has_the_run_yaml_and_no_lock(undisturbed: Path) -> None:
    assert len(open_adapter(undisturbed).layers) == 12
    assert (undisturbed / "run.yaml").read_bytes() == (undisturbed.parent / "run.yaml").read_bytes()
    assert read_owner(undisturbed) is None
    assert [checkpoint.torn for checkpoint in checkpoints(undisturbed)] == [None, None, None]


def test_the_device_s_meters_and_the_spectra_are_among_the_events(undisturbed: Path) -> None:
    events = events_of(undisturbed)
    assert of_kind(events, "device")[0]["memory_total"] > 0
    spectra = of_kind(events, "spectra")
    assert spectra == [] or len(spectra[-1]["modules"]) == 12


def test_two_runs_of_one_configuration_give_the_same_adapter(undisturbed: Path, tmp_path: Path) -> None:
    assert train(run_file(tmp_path)).state == "finished"
    assert adapter_bytes(tmp_path / "run") == adapter_bytes(undisturbed)
    assert learnt(tmp_path / "run") == learnt(undisturbed)
    (one,), (other,) = (of_kind(events_of(run), "started") for run in (tmp_path / "run", undisturbed))
    assert one["data"] == other["data"]


def test_another_row_is_another_fingerprint(undisturbed: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (SAMPLES / "demo-data" / "train.jsonl").read_text().splitlines()]
    rows[-1]["messages"][1]["content"] += "!"
    path = run_file(tmp_path, dataset_name=str(rows_file(tmp_path / "rows", rows)), max_steps=1)
    assert train(path).state == "finished"
    (one,), (other,) = (of_kind(events_of(run), "started") for run in (tmp_path / "run", undisturbed))
    assert one["data"] != other["data"]


def test_a_stop_saves_at_that_step_and_going_on_equals_the_undisturbed_run(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = run_file(tmp_path)
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        at_step(patch, 6, lambda: request_stop(run))
        outcome = train(path)
    assert (outcome.state, outcome.step) == ("stopped", 6)
    assert [event["step"] for event in of_kind(events_of(run), "checkpoint")] == [4, 6]
    assert (run / "adapter_model.safetensors").is_file()
    assert not stop_requested(run)
    assert train(path, resume=True).state == "finished"
    started = of_kind(events_of(run), "started")[-1]
    assert (started["resumed_step"], started["resumed_from"]) == (6, str(run / "checkpoint-6"))
    assert learnt(run) == learnt(undisturbed)
    assert adapter_bytes(run) == adapter_bytes(undisturbed)
    tokens = {event["step"]: event["tokens"] for event in of_kind(events_of(run), "log")}
    assert tokens == {event["step"]: event["tokens"] for event in of_kind(events_of(undisturbed), "log")}
    assert started["config"] == of_kind(events_of(run), "started")[0]["config"]


def test_the_record_of_a_resumed_run_has_each_step_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = run_file(tmp_path, save_steps=2, max_steps=5)
    with monkeypatch.context() as patch:
        at_step(patch, 4, lambda: (_ for _ in ()).throw(RuntimeError("the machine broke")))
        assert train(path).error.startswith("RuntimeError: the machine broke")
    assert train(path, resume=True).state == "finished"
    record = RunRecord()
    for event in events_of(tmp_path / "run"):
        record.add(event)
    assert record.state == "finished"
    assert list(record.series["loss"].points()[0]) == [1, 2, 3, 4, 5]


def test_a_stopped_run_can_go_on_where_checkpoints_hold_the_model_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = run_file(tmp_path, max_steps=3, save_only_model=True)
    with monkeypatch.context() as patch:
        at_step(patch, 2, lambda: request_stop(tmp_path / "run"))
        assert train(path).state == "stopped"
    assert train(path, resume=True).step == 3
    assert of_kind(events_of(tmp_path / "run"), "started")[-1]["resumed_step"] == 2


def test_a_stop_that_was_asked_for_since_the_launch_counts_and_an_older_one_does_not(tmp_path: Path) -> None:
    path, run = run_file(tmp_path, max_steps=1), tmp_path / "run"
    run.mkdir()
    request_stop(run)
    os.utime(run / "stop", (1, 1))  # as a file server's clock would have it
    assert train(path, ignore=[]).reason == "asked to stop before the first step"
    request_stop(run)
    os.utime(run / "stop", (2**33, 2**33))
    assert train(path, ignore=requests_in(run)).state == "finished"
    request_stop(run)
    assert train(path).state == "finished"


def test_a_checkpoint_is_made_where_one_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run_file(tmp_path, max_steps=4, save_strategy="no")
    at_step(monkeypatch, 2, lambda: request_checkpoint(tmp_path / "run"))
    assert train(path).state == "finished"
    assert [(c.step, c.torn) for c in checkpoints(tmp_path / "run")] == [(2, None)]


def test_a_stop_before_the_first_step_trains_nothing(tmp_path: Path) -> None:
    stopping = threading.Event()
    stopping.set()
    assert train(run_file(tmp_path), stopping=stopping).state == "stopped"
    assert [event["kind"] for event in events_of(tmp_path / "run")] == ["stopped"]


def test_going_on_from_the_last_step_only_saves_the_adapter(undisturbed: Path, tmp_path: Path) -> None:
    path = run_file(tmp_path)
    assert train(path).state == "finished"
    (tmp_path / "run" / "adapter_model.safetensors").unlink()
    outcome = train(path, resume=True)
    assert (outcome.state, outcome.step) == ("finished", STEPS)
    assert adapter_bytes(tmp_path / "run") == adapter_bytes(undisturbed)
    assert sorted(learnt(tmp_path / "run")) == list(range(1, STEPS + 1))


def test_starting_anew_keeps_the_earlier_attempt_and_notes_it_in_the_log_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = run_file(tmp_path, max_steps=2, save_steps=1)
    run = tmp_path / "run"
    train(path)
    before, warned = adapter_bytes(run), warnings_of(run)
    path = run_file(tmp_path, max_steps=2, save_steps=2, seed=8, resume_from_checkpoint=True)
    assert train(path, resume=False).state == "finished"
    assert adapter_bytes(run / "earlier-1") == before != adapter_bytes(run)
    assert [checkpoint.step for checkpoint in checkpoints(run / "earlier-1")] == [1, 2]
    assert [checkpoint.step for checkpoint in checkpoints(run)] == [2]
    assert "seed: 7" in (run / "earlier-1" / "run-1.yaml").read_text()
    assert "seed: 8" in (run / "run.yaml").read_text()
    assert "checkpoints and adapter were moved to earlier-1" in capfd.readouterr().err
    assert set(warnings_of(run)) == set(warned)


def test_tensorboard_is_written_where_the_file_asks_for_it(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    path = run_file(tmp_path, max_steps=3, report_to="tensorboard")
    assert train(path).state == "finished"
    (file,) = (tmp_path / "run").rglob("events.out.tfevents.*")
    written = EventAccumulator(str(file))
    written.Reload()
    theirs = {event.step: event.value for event in written.Scalars("train/loss")}
    ours = {step: loss for step, (loss, _) in learnt(tmp_path / "run").items()}
    assert theirs == pytest.approx(ours)


TEXT = [{"text": f"Once upon a time there was a cat, and {n} dogs."} for n in range(8)]
PROMPTS = [
    {"prompt": f"There was a cat, and {n} dogs.", "completion": " They were friends."} for n in range(8)
]


@pytest.mark.parametrize("rows", [TEXT, PROMPTS], ids=["text", "prompt and completion"])
def test_a_model_by_others_learns_from_text_and_from_prompts(
    shared_data: Path, rows: list[dict[str, str]], tmp_path: Path
) -> None:
    path = run_file(
        tmp_path,
        model_name_or_path=str(shared_data / "models" / "stories260K"),
        dataset_name=str(rows_file(tmp_path / "rows", rows)),
        assistant_only_loss=None,
        learning_rate=2e-2,
        per_device_train_batch_size=8,
    )
    assert train(path).state == "finished"
    losses = learnt(tmp_path / "run")
    assert losses[STEPS][0] < 0.9 * losses[1][0]
