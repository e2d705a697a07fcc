"""Screens whose folder is removed or locked while they are open, and disks that are full."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from textual.app import App
from textual.pilot import Pilot

from lorabench.app import LorabenchApp
from lorabench.screens import preflight_client
from lorabench.screens.dialogs import ErrorDialog, SaveDialog
from lorabench.screens.work_screen import WorkScreen
from tests.face.conftest import write_adapter
from tests.face.looking import settled, until
from tests.fuzz.bounds import LONG
from tests.places import bound_by_permissions, fill, small_disk

Trouble = Callable[[Path], None]
CLOSES = {"q", "ctrl+q", "d", "ctrl+c"}
RUN = "model_name_or_path: tiny/base\ndataset_name: rows\nlora_r: 8\nuse_peft: true\noutput_dir: {folder}\n"


NO_ROOM = "cannot be written: No space left on device. Make room on that disk, then try again."
SCREENS: dict[str, tuple[str, ...]] = {
    "bench": ("G",),
    "config": ("G", "up", "2"),
    "train": ("G", "3"),
    "layers": ("enter",),
    "spectra": ("enter", "5"),
    "base": ("enter", "6"),
}


class NoTrainer:
    """What was begun and has ended at once."""

    alive = False

    def stop(self) -> None: ...

    def wait(self) -> bool:
        return True


@pytest.fixture
def folder(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An output folder: an adapter, a run with its adapter, and a run that is only configured."""
    monkeypatch.setattr(preflight_client, "SERVER", "tests.face.preflight_double")
    monkeypatch.setattr("lorabench.screens.file_screen.LOOK_SECONDS", 0.05)
    monkeypatch.setattr("lorabench.screens.bench.NEWS_SECONDS", 0.5)
    monkeypatch.setattr("lorabench.screens.work_screen.working_folder", lambda: tmp_path)
    write_adapter(run, layers=1)
    write_adapter(run.parent / "adapter", layers=1)
    for place in (run, run.parent / "new"):
        place.mkdir(exist_ok=True)
        (place / "run.yaml").write_text(RUN.format(folder=place))
    return run.parent


def gone(folder: Path) -> None:
    shutil.rmtree(folder)


def locked(folder: Path) -> None:
    for place in folder.iterdir():
        place.chmod(0)


def renamed(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


def said_in(app: App[None]) -> str:
    """What the notices say that stand on the screen."""
    return "\n".join(notification.message for notification in app._notifications)


async def press_every_key(pilot: Pilot[None], mode: str) -> set[str]:
    """Press all keys of a screen, coming back to it after each; return what was said of errors."""
    app, said = pilot.app, set()
    keys = [key for key in app.screen.active_bindings if key not in CLOSES]
    for key in [*keys, "enter", "s", "enter"]:
        await pilot.press(key)
        await pilot.pause()
        said.add(said_in(app))
        while not isinstance(app.screen, WorkScreen) and not isinstance(app.screen, SaveDialog):
            if isinstance(app.screen, ErrorDialog):
                said.add(str(app.screen.error))
            await pilot.press("escape")
            await pilot.pause()
        if isinstance(app.screen, WorkScreen) and app.current_mode != mode:
            await app.switch_mode(mode)
    return said


def gone_from_here(folder: Path) -> None:
    os.chdir(folder)
    shutil.rmtree(folder)


TROUBLES: tuple[Trouble, ...] = (gone, locked, renamed, gone_from_here)
SOME = [("bench", gone), ("config", locked), ("train", renamed), ("train", locked)]


@pytest.mark.parametrize(("mode", "trouble"), list(product(SCREENS, TROUBLES)) if LONG else SOME)
async def test_every_key_of_every_screen_ends_in_a_sentence(
    mode: str, trouble: Trouble, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    with bound_by_permissions():
        app = LorabenchApp(folder, start=lambda *_, **__: NoTrainer())
        async with app.run_test(size=(120, 36)) as pilot:
            await settled(pilot)
            for key in SCREENS[mode]:
                await pilot.press(key)
                await pilot.pause()
            await until(pilot, lambda: app.current_mode == mode)
            trouble(folder)
            said = await press_every_key(pilot, mode)
            assert app.is_running
            assert not [text for text in said if "defect" in text]
            if mode != "config":  # its preflight listens for as long as it is open
                await settled(pilot)
    for place in folder.iterdir() if folder.exists() else ():
        place.chmod(0o700)


async def test_a_configuration_that_finds_no_room_stays_whole_and_unsaved_until_there_is_some(
    folder: Path, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        file = disk / "run" / "run.yaml"
        file.parent.mkdir()
        file.write_text(RUN.format(folder=file.parent))
        before = file.read_bytes()
        app = LorabenchApp(disk)
        async with app.run_test(size=(120, 36)) as pilot:
            await settled(pilot)
            app.open_config(file)
            await until(pilot, lambda: app.current_mode == "config")
            assert app.config_file is not None
            app.config_file.set_field("lora_r", "16")
            filler = fill(disk)
            await pilot.press("ctrl+s")
            await until(pilot, lambda: NO_ROOM in said_in(app))
            assert file.read_bytes() == before
            assert app.config_file.changed
            assert [path.name for path in file.parent.iterdir()] == ["run.yaml"]
            filler.unlink()
            await pilot.press("ctrl+s")
            await until(pilot, lambda: "lora_r: 16" in file.read_text())
            assert not app.config_file.changed


async def test_a_table_that_finds_no_room_leaves_the_one_that_was_saved(folder: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        table = disk / "table.csv"
        table.write_text("what was there")
        fill(disk)
        app = LorabenchApp(folder / "adapter")
        async with app.run_test(size=(120, 36)) as pilot:
            await until(pilot, lambda: app.analysis.state == "done")
            await pilot.press("s")
            await until(pilot, lambda: isinstance(app.screen, SaveDialog))
            app.screen.query_one("#path").value = str(table)
            await pilot.press("enter", "enter")
            await until(pilot, lambda: NO_ROOM in said_in(app))
            assert table.read_text() == "what was there"
