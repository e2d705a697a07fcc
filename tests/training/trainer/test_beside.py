"""What goes on beside the steps of a training: its pictures, meters and pace, and the thread it may have."""

from __future__ import annotations

import shutil
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest

from lorabench.runs.device import Meters
from lorabench.runs.lock import read_owner
from lorabench.training.trainer import callback as callback_module
from lorabench.training.trainer import meters
from lorabench.training.trainer import train as train_module
from lorabench.training.trainer.pace import Pace
from lorabench.training.trainer.thread import TrainingThread
from lorabench.training.trainer.train import train
from lorabench.training.trainer.watched import WatchedTrainer
from tests.face.trainings import kinds
from tests.training.trainer.runs import (
    at_step,
    events_of,
    of_kind,
    run_file,
    warnings_of,
)


def test_gradients_that_are_zero_from_the_start_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = WatchedTrainer.compute_loss

    def without_gradient(self: WatchedTrainer, *arguments: Any, **options: Any) -> Any:
        return original(self, *arguments, **options) * 0

    monkeypatch.setattr(WatchedTrainer, "compute_loss", without_gradient)
    assert train(run_file(tmp_path)).reason == "zero gradients"
    run = tmp_path / "run"
    (failed,) = of_kind(events_of(run), "failed")
    assert failed["error"] == "All gradients are zero at step 3: nothing is learnt."
    assert "All gradients are zero at step 1: nothing is learnt." in warnings_of(run)


def test_an_evaluation_is_an_event(tmp_path: Path) -> None:
    path = run_file(tmp_path, max_steps=2, eval_strategy="steps", eval_steps=2, per_device_eval_batch_size=64)
    assert train(path).state == "finished"
    (evaluation,) = of_kind(events_of(tmp_path / "run"), "eval")
    assert evaluation["step"] == 2
    assert evaluation["eval_loss"] > 0


def test_a_thread_trains_and_stops_like_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    thread = TrainingThread(run_file(tmp_path, dataloader_num_workers=2))
    at_step(monkeypatch, 3, thread.stop)
    assert not thread.alive
    thread.start()
    assert thread.done.wait(60)
    assert not thread.alive
    assert thread.outcome is not None
    assert (thread.outcome.state, thread.outcome.step) == ("stopped", 3)
    (started,) = of_kind(events_of(tmp_path / "run"), "started")
    assert started["place"] == "thread"
    assert any(
        text.startswith("dataloader_num_workers is 0 here, not 2 as in the file")
        for text in warnings_of(tmp_path / "run")
    )


def test_others_see_a_training_in_a_thread_before_it_has_imported_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []

    def stop_here() -> None:
        owner = read_owner(tmp_path / "run")
        seen.extend([owner is not None and owner.alive, *kinds(tmp_path / "run")])
        raise ImportError("No module named 'trl'")

    monkeypatch.setattr(train_module, "import_libraries", stop_here)
    thread = TrainingThread(run_file(tmp_path))
    thread.start()
    assert thread.done.wait(60)
    assert seen == [True, "stage preflight"]
    assert thread.outcome is not None
    assert (thread.outcome.state, thread.outcome.reason) == ("failed", "missing package")


def test_a_training_in_a_thread_leaves_nothing_for_the_next_to_carry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainers: list[weakref.ref[WatchedTrainer]] = []
    begin = WatchedTrainer.train

    def train(self: WatchedTrainer, **options: Any) -> Any:
        assert [trainer() for trainer in trainers] == [None] * len(trainers)
        trainers.append(weakref.ref(self))
        return begin(self, **options)

    monkeypatch.setattr(WatchedTrainer, "train", train)
    train_module.import_libraries.cache_clear()  # the first in a process leaves what there is uncollected
    path = run_file(tmp_path, max_steps=1)
    for _ in range(2):
        thread = TrainingThread(path, resume=False)
        thread.start()
        assert thread.done.wait(60)
        assert thread.outcome is not None
        assert thread.outcome.state == "finished", thread.outcome
    assert [trainer() for trainer in trainers] == [None, None]


def test_a_picture_of_the_run_that_fails_does_not_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("no picture")

    monkeypatch.setattr(callback_module.LiveSpectra, "measure", fail)
    assert train(run_file(tmp_path, max_steps=2)).state == "finished"
    told = [text for text in warnings_of(tmp_path / "run") if "no picture" in text]
    assert told == ["The spectra are looked at no more: ZeroDivisionError: no picture"]


def test_a_model_of_which_no_picture_can_be_made_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("no layers")

    monkeypatch.setattr(callback_module, "LiveSpectra", fail)
    assert train(run_file(tmp_path, max_steps=1)).state == "finished"
    assert "The spectra are looked at no more: KeyError: 'no layers'" in warnings_of(tmp_path / "run")


def test_between_two_logs_a_run_tells_its_steps_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callback_module, "STEP_SECONDS", 0.0)
    assert train(run_file(tmp_path, max_steps=5, logging_steps=3)).state == "finished"
    events = of_kind(events_of(tmp_path / "run"), "step")
    assert [event["step"] for event in events] == [1, 2, 4, 5]
    assert events[1]["epoch"] == pytest.approx(2 * events[0]["epoch"])
    monkeypatch.undo()
    assert train(run_file(tmp_path, max_steps=5, logging_steps=3), resume=False).state == "finished"
    assert len(of_kind(events_of(tmp_path / "run"), "step")) - 4 < 4  # quicker than one in two seconds


def test_the_first_step_s_pace_is_without_what_a_resumed_run_skips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = run_file(tmp_path, max_steps=2, save_steps=1)
    assert train(path).state == "finished"
    shutil.rmtree(tmp_path / "run" / "checkpoint-2")
    now = [0.0]
    monkeypatch.setattr(Pace.__init__, "__defaults__", (lambda: now[0],))
    skip = WatchedTrainer.get_batch_samples

    def slow(self: WatchedTrainer, *arguments: Any, **options: Any) -> Any:
        now[0] += 100.0
        return skip(self, *arguments, **options)

    monkeypatch.setattr(WatchedTrainer, "get_batch_samples", slow)
    at_step(monkeypatch, 2, lambda: now.__setitem__(0, now[0] + 3.0))
    assert train(path, resume=True).state == "finished"
    assert of_kind(events_of(tmp_path / "run"), "log")[-1]["step_seconds"] == 3.0


def test_a_device_that_does_not_answer_delays_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    released = threading.Event()

    def hang(gpus: list[str]) -> Meters:
        asked.append(gpus)
        released.wait()
        return Meters("at last")

    monkeypatch.setattr(meters, "read_meters", hang)
    assert train(run_file(tmp_path, max_steps=2)).state == "finished"
    assert asked == [[]]  # it trains on the CPU, whatever GPU there may be
    released.set()
    assert of_kind(events_of(tmp_path / "run"), "device") == []
