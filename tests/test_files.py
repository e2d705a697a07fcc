"""Whole text files in folders, under names and with rights of all kinds."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from lorabench.files import replace_text
from tests.places import bound_by_permissions


def test_a_private_file_is_private_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "run.yaml"
    target.write_text("token: secret\n")
    target.chmod(0o600)
    modes = []
    fsync = os.fsync

    def look(fd: int) -> None:
        modes.extend(stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir())
        fsync(fd)

    monkeypatch.setattr("lorabench.files.os.fsync", look)
    replace_text(target, "token: another\n")
    assert set(modes) == {0o600}
    assert len(modes) > 2
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]
    assert target.read_text() == "token: another\n"


@pytest.mark.parametrize("mode", [0o644, 0o664, 0o600])
def test_a_file_keeps_its_permissions(mode: int, tmp_path: Path) -> None:
    target = tmp_path / "run.yaml"
    target.touch()
    target.chmod(mode)
    replace_text(target, "lora_r: 8\n")
    assert stat.S_IMODE(target.stat().st_mode) == mode


def test_a_new_file_has_the_permissions_that_the_user_gives_to_new_files(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        replace_text(tmp_path / "new", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


def test_the_folder_need_not_be_readable(tmp_path: Path) -> None:
    folder = tmp_path / "blind"
    folder.mkdir(mode=0o300)
    with bound_by_permissions():
        replace_text(folder / "run.yaml", "lora_r: 8\n")
        assert (folder / "run.yaml").read_text() == "lora_r: 8\n"
    folder.chmod(0o700)


def test_a_name_may_be_as_long_as_the_disk_lets_it_be(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 255)
    replace_text(target, "lora_r: 8\n")
    replace_text(target, "lora_r: 16\n")
    assert target.read_text() == "lora_r: 16\n"


def test_a_file_that_one_may_write_is_saved_in_a_folder_that_one_may_not(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    (folder / "run.yaml").write_text("lora_r: 8 # long, and longer\n")
    folder.chmod(0o500)
    with bound_by_permissions():
        replace_text(folder / "run.yaml", "lora_r: 16\n")
        assert (folder / "run.yaml").read_text() == "lora_r: 16\n"
        with pytest.raises(PermissionError):
            replace_text(folder / "other.yaml", "lora_r: 16\n")
        (folder / "run.yaml").chmod(0o400)
        with pytest.raises(PermissionError):
            replace_text(folder / "run.yaml", "")
    assert (folder / "run.yaml").read_text() == "lora_r: 16\n"
    folder.chmod(0o700)
