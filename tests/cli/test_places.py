"""Commands on folders that are locked, links in circles, names that no disk takes, and full disks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorabench.__main__ import main
from tests.places import bound_by_permissions, fill, small_disk

COMMANDS = ("describe", "analyze", "base", "check", "train", "watch", "stop", "new")


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody may enter."""
    folder = tmp_path / "locked"
    folder.mkdir(mode=0)
    with bound_by_permissions():
        yield folder
    folder.chmod(0o700)


def told(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Run a command that cannot do what it is asked; return what it says."""
    assert main([str(word) for word in words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    assert said.err.endswith(".\n")
    assert "\n\n" not in said.err.removeprefix("Usage")
    return said.err


@pytest.mark.parametrize("command", COMMANDS)
def test_what_lies_in_a_locked_folder_is_told_as_that(
    command: str, locked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = told(capsys, command, locked / "run")
    assert "Permission denied" in said or "No training has been recorded" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_a_name_that_no_disk_takes(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = told(capsys, command, tmp_path / ("x" * 300))
    assert "File name too long" in said or "No training has been recorded" in said


def test_the_workbench_says_so_too(locked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{locked / 'run'} cannot be reached: Permission denied." in told(capsys, locked / "run")


def test_a_link_to_itself_is_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = tmp_path / "self"
    link.symlink_to(link)
    assert "Too many levels of symbolic links" in told(capsys, "describe", link)
    assert "Too many levels of symbolic links" in told(capsys, "check", link / "run.yaml")


def test_somebody_unknown_has_no_home(capsys: pytest.CaptureFixture[str]) -> None:
    assert "There is nothing at ~nosuchuser/x." in told(capsys, "describe", "~nosuchuser/x")


def test_a_full_disk_leaves_what_was_there_and_says_what_to_do(
    tmp_path: Path, samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "disk", "256k") as disk:
        shutil.copy(samples / "style-clean-r16" / "adapter_config.json", disk / "report.csv")
        before = (disk / "report.csv").read_bytes()
        filler = fill(disk)
        said = told(capsys, "analyze", samples / "style-clean-r16", "--csv", "-o", disk / "report.csv")
        assert "No space left on device.\nMake room" in said
        assert "No space left on device.\nMake room" in told(capsys, "new", disk / "run")
        assert (disk / "report.csv").read_bytes() == before
        assert sorted(path.name for path in disk.rglob("*")) == ["filler", "report.csv", "run"]
        filler.unlink()
        assert main(["new", str(disk / "run")]) == 0
        fill(disk)
        capsys.readouterr()
        assert "No space left on device.\nMake room" in told(capsys, "train", disk / "run")
        assert [path.name for path in (disk / "run").iterdir()] == ["run.yaml"]
