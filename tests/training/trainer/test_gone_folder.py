"""A run's folder that is removed, renamed or locked while the run trains."""

from __future__ import annotations

from pathlib import Path

from lorabench.runs.checkpoints import newest_whole
from lorabench.runs.record import RunRecord
from tests.training.trainer import children
from tests.training.trainer.children import ended, start
from tests.training.trainer.runs import adapter_bytes, events_of, of_kind, run_file, warnings_of


def test_a_run_whose_folder_is_removed_goes_on_in_a_new_one(undisturbed: Path, tmp_path: Path) -> None:
    file = run_file(tmp_path)
    file = file.rename(tmp_path / "kept.yaml")
    assert ended(start(file, prepare=children.lose_folder_at_step, given=(tmp_path / "run", 6))) == 0
    run = tmp_path / "run"
    events, record = events_of(run), RunRecord()
    for event in events:
        record.add(event)
    assert (record.state, record.step, record.total_steps) == ("finished", 12, 12)
    assert [event["step"] for event in of_kind(events, "log")] == [6, 7, 8, 9, 10, 11, 12]
    assert [text for text in warnings_of(run) if "removed or renamed" in text]
    assert adapter_bytes(run) == adapter_bytes(undisturbed)
    assert (run / "run.yaml").read_text() == file.read_text()
    assert not (run / "run.lock").exists()
    whole, torn = newest_whole(run)
    assert (whole.step if whole else None, torn) == (12, [])


def test_a_run_whose_folder_is_renamed_leaves_there_what_it_had_told(
    undisturbed: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    given = (tmp_path / "run", 6, other)
    assert ended(start(run_file(tmp_path), prepare=children.lose_folder_at_step, given=given)) == 0
    assert [event["step"] for event in of_kind(events_of(other), "log")] == [1, 2, 3, 4, 5]
    assert events_of(tmp_path / "run")[-1]["kind"] == "finished"
    assert adapter_bytes(tmp_path / "run") == adapter_bytes(undisturbed)
