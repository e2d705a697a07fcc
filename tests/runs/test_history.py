"""What a run's folder tells of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorabench.runs import history
from lorabench.runs.events import EventWriter
from lorabench.runs.history import read_history, read_news
from lorabench.runs.lock import take_lock


def write_events(folder: Path, *events: dict[str, object], tail: str = "") -> None:
    lines = [json.dumps({"time": 1.0 + i, **event}) for i, event in enumerate(events)]
    (folder / "events.jsonl").write_text("\n".join(lines) + "\n" + tail)


def log(step: int, loss: float) -> dict[str, object]:
    return {"kind": "log", "step": step, "loss": loss}


def test_a_folder_without_a_run_has_no_history(tmp_path: Path) -> None:
    assert read_history(tmp_path) is None


def test_a_configuration_alone_is_configured(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("r: 8\n")
    assert read_history(tmp_path) == history.History("configured")


@pytest.mark.parametrize("ending", ["finished", "stopped", "failed"])
def test_the_last_event_is_the_state(tmp_path: Path, ending: str) -> None:
    write_events(
        tmp_path, {"kind": "started", "total_steps": 9}, log(3, 2.5), {"kind": ending, "reason": "so"}
    )
    found = read_history(tmp_path)
    assert found is not None
    assert (found.state, found.step, found.total_steps) == (ending, 3, 9)
    assert (found.losses, found.reason, found.started["total_steps"]) == (((3, 2.5),), "so", 9)


def test_a_run_without_an_end_is_unfinished_and_its_torn_last_line_is_passed_over(tmp_path: Path) -> None:
    write_events(tmp_path, {"kind": "started", "total_steps": 9}, log(1, 3.0), tail='{"kind": "finis')
    found = read_history(tmp_path)
    assert found is not None
    assert (found.state, found.loss) == ("unfinished", 3.0)


def test_a_resumed_run_shows_the_newer_of_repeated_steps(tmp_path: Path) -> None:
    write_events(
        tmp_path,
        log(1, 3.0),
        log(2, 2.0),
        {"kind": "stopped"},
        {"kind": "started", "resumed_step": 1},
        log(2, 1.5),
    )
    found = read_history(tmp_path)
    assert found is not None
    assert found.losses == ((1, 3.0), (2, 1.5))
    assert found.state == "unfinished"


@pytest.mark.parametrize(
    "line", ["[]", "null", "{", "\x00\xff", '{"kind": 7}', '{"kind": ["log"]}', "[" * 100_000]
)
def test_lines_that_are_no_events_are_passed_over(tmp_path: Path, line: str) -> None:
    write_events(tmp_path, log(1, 3.0), tail=line + "\n")
    found = read_history(tmp_path)
    assert found is not None
    assert found.loss == 3.0


def test_news_are_told_once_and_only_where_there_are_any(tmp_path: Path) -> None:
    write_events(tmp_path, {"kind": "started", "total_steps": 9}, log(1, 3.0))
    first = read_history(tmp_path)
    assert first is not None
    assert read_news(tmp_path, first) is None
    with take_lock(tmp_path):
        second = read_news(tmp_path, first)
        assert second is not None
        assert (second.state, second.step) == ("training", 1)
        with EventWriter(tmp_path) as events:
            events.write("checkpoint", step=4)
        third = read_news(tmp_path, second)
        assert third is not None
        assert (third.step, third.saved_step) == (4, 4)
        assert read_news(tmp_path, third) is None
    last = read_news(tmp_path, third)
    assert last is not None
    assert last.state == "unfinished"


def test_a_run_on_another_machine_is_believed_to_train(tmp_path: Path) -> None:
    write_events(tmp_path, {"kind": "started", "total_steps": 9}, log(1, 3.0))
    take_lock(tmp_path)
    told = json.loads((tmp_path / "run.lock").read_text())
    (tmp_path / "run.lock").write_text(json.dumps({**told, "host": "node-17"}))
    found = read_history(tmp_path)
    assert found is not None
    assert found.owner is not None
    assert (found.state, found.owner.host, found.owner.alive) == ("training", "node-17", None)


def test_losses_that_are_not_finite_numbers_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text(
        '{"kind":"log","step":1,"loss":NaN}\n{"kind":"log","step":2,"loss":"x"}\n{"kind":"log","step":3,"loss":1}\n'
        '{"kind":"log","step":4,"loss":1' + "0" * 400 + "}\n"
    )
    found = read_history(tmp_path)
    assert found is not None
    assert (found.step, found.losses) == (4, ((3, 1.0),))


def test_a_long_events_file_is_read_at_both_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "WHOLE_FILE_BYTES", 10_000)
    monkeypatch.setattr(history, "END_BYTES", 2_000)
    events = [
        {"kind": "started", "total_steps": 5000},
        *(log(i, 1 / i) for i in range(1, 5001)),
        {"kind": "finished"},
    ]
    write_events(tmp_path, *events)
    found = read_history(tmp_path)
    assert found is not None
    assert (found.state, found.step, found.total_steps) == ("finished", 5000, 5000)
    assert found.losses[0] == (1, 1.0)
    assert len(found.losses) < 200


@pytest.mark.parametrize(
    ("again", "first"), [({"total_steps": 900}, 1), ({"total_steps": 900, "resumed_step": 400}, 1)]
)
def test_a_long_events_file_is_read_from_its_newest_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: dict[str, int], first: int
) -> None:
    monkeypatch.setattr(history, "WHOLE_FILE_BYTES", 10_000)
    monkeypatch.setattr(history, "END_BYTES", 2_000)
    resumed = again.get("resumed_step", 0)
    events = [
        {"kind": "started", "total_steps": 400},
        *(log(i, 2.0) for i in range(1, 401)),
        {"kind": "started", **again},
        *(log(i, 1.0) for i in range(resumed + 1, 852)),
    ]
    write_events(tmp_path, *events)
    found = read_history(tmp_path)
    assert found is not None
    assert (found.step, found.total_steps) == (851, 900)
    assert found.losses[0] == (1, 2.0 if resumed else 1.0)
    assert found.losses[-1] == (851, 1.0)


def test_the_last_step_is_read_though_a_very_long_event_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "WHOLE_FILE_BYTES", 10_000)
    monkeypatch.setattr(history, "END_BYTES", 2_000)
    spectra = {"kind": "spectra", "step": 500, "modules": {f"layers.{n}.q_proj": {} for n in range(200)}}
    write_events(tmp_path, {"kind": "started"}, *(log(i, 1 / i) for i in range(1, 501)), spectra)
    found = read_history(tmp_path)
    assert found is not None
    assert (found.step, found.loss) == (500, 1 / 500)


@pytest.mark.parametrize(("total", "state"), [(90, "finished"), (120, "unfinished")])
def test_a_run_of_another_tool_is_told_by_its_newest_checkpoint(
    tmp_path: Path, total: int, state: str
) -> None:
    for step in (30, 90, 60):
        checkpoint = tmp_path / f"checkpoint-{step}"
        checkpoint.mkdir()
        losses = [{"step": at, "loss": 1 / at} for at in range(30, step + 1, 30)]
        told = {"global_step": step, "max_steps": total, "log_history": losses}
        (checkpoint / "trainer_state.json").write_text(json.dumps(told))
    (tmp_path / "checkpoint-torn").mkdir()
    found = read_history(tmp_path)
    assert found is not None
    assert (found.state, found.step, len(found.losses)) == (state, 90, 3)


def test_a_checkpoint_of_the_real_trainer_tells_step_and_losses(shared_data: Path) -> None:
    found = read_history(shared_data / "adapters" / "roberta-agnews-r4" / "checkpoint-1000")
    assert found is not None
    assert (found.state, found.step) == ("checkpoint", 1000)
    assert len(found.losses) >= 2
    assert found.losses[-1][0] <= 1000


def test_a_place_that_may_not_be_read_has_no_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refuse)
    assert read_history(tmp_path) is None
