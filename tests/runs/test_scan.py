"""Which folders are runs."""

from __future__ import annotations

from pathlib import Path

from lorabench.runs import scan
from lorabench.runs.scan import find_runs, folders_below


def make_run(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.yaml").write_text("")
    return folder


def test_runs_are_found_at_any_depth_and_the_folder_itself_counts(tmp_path: Path) -> None:
    runs = [make_run(tmp_path), make_run(tmp_path / "a"), make_run(tmp_path / "b" / "run[1]")]
    assert find_runs(tmp_path) == runs


def test_hidden_folders_and_links_back_are_passed_over(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    make_run(tmp_path / ".cache" / "b")
    (run / "loop").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(run)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    assert find_runs(tmp_path) == [run]


def test_a_run_elsewhere_to_which_a_link_leads_is_found_and_nothing_beneath_it(tmp_path: Path) -> None:
    scratch = make_run(tmp_path / "scratch" / "big")
    make_run(scratch / "inner")
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    (outputs / "linked").symlink_to(scratch)
    (outputs / "root").symlink_to("/")
    assert find_runs(outputs) == [outputs / "linked"]
    assert folders_below(outputs) == [outputs, outputs / "linked", outputs / "root"]


def test_a_folder_that_is_not_there_has_no_runs(tmp_path: Path) -> None:
    assert find_runs(tmp_path / "gone") == []


def test_the_walk_is_bounded_in_depth_and_number(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    make_run(tmp_path.joinpath(*"abcdefgh"))
    assert find_runs(tmp_path) == []
    for i in range(20):
        make_run(tmp_path / f"run-{i:02}")
    monkeypatch.setattr(scan, "MOST_FOLDERS", 11)
    assert len(find_runs(tmp_path)) == 9
