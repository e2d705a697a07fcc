"""What a key that brings another screen must not cost: a training shares the interpreter with the screens."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from textual.css.stylesheet import Stylesheet
from textual.widgets import Footer, Static

from lorabench.app import LorabenchApp
from lorabench.screens.dialogs import HelpDialog
from lorabench.screens.modes import PREFETCHED
from tests.face.looking import settled, until
from tests.face.watching import app_on, sees, watch


async def test_a_screen_that_comes_back_keeps_the_widgets_of_its_keys(run: Path) -> None:
    app = app_on(run.parent)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        screen = await watch(pilot, run)
        await sees(pilot, "✔ finished", " p panel")
        keys = list(screen.query_one(Footer).children)
        await pilot.press("1")
        await sees(pilot, "runs and adapters")
        await pilot.press("3")
        await sees(pilot, "✔ finished", " p panel")
        assert list(screen.query_one(Footer).children) == keys
        await pilot.press("slash")  # another widget has other keys
        await until(pilot, lambda: list(screen.query_one(Footer).children) != keys)


async def test_no_style_sheet_is_read_again_for_a_new_screen(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = app_on(run.parent)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        read: list[Stylesheet] = []
        monkeypatch.setattr(Stylesheet, "reparse", read.append)
        await watch(pilot, run)
        await sees(pilot, "✔ finished")
        assert read == []


async def test_help_is_one_widget_in_the_colours_of_the_theme(run: Path) -> None:
    app = app_on(run.parent)
    async with app.run_test(size=(120, 60)) as pilot:
        await watch(pilot, run)
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, HelpDialog))
        await sees(pilot, "Keys", "o      another run's loss behind", "q      quit")
        assert [type(widget) for widget in app.screen.query("Static")] == [Static]
        line = next(line for line in app.screen._compositor.render_strips() if "events.jsonl" in line.text)
        code = next(segment for segment in line if "events.jsonl" in segment.text)
        assert str(code.style).startswith(f"bold {app.theme_variables['text-warning'].lower()} on ")


async def test_what_the_first_keys_want_is_imported_while_nobody_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[bool] = []
    monkeypatch.setattr("lorabench.app.prefetch", lambda: called.append(True))
    monkeypatch.setattr("lorabench.app.PREFETCH_SECONDS", 0.01)
    app = app_on(tmp_path)
    async with app.run_test() as pilot:
        await until(pilot, lambda: called == [True])


def test_what_is_imported_beforehand_is_there_and_brings_no_library_that_trains() -> None:
    code = (
        "import sys, lorabench.screens.modes as modes; modes.prefetch(); "
        "print(*sorted({'torch', 'transformers', *modes.PREFETCHED} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == sorted(PREFETCHED)


@pytest.mark.parametrize(("key", "shown"), [("4", "42 rows"), ("5", "singular values"), ("6", "42 layers")])
async def test_a_screen_of_an_adapter_shows_that_of_the_watched_run_where_none_is_open(
    run: Path, samples: Path, key: str, shown: str
) -> None:
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        shutil.copy(samples / "style-clean-r16" / name, run)
    app = app_on(run.parent)
    async with app.run_test(size=(120, 36)) as pilot:
        await watch(pilot, run)
        await pilot.press(key)
        await sees(pilot, shown)
        assert app.analysis.path == run


async def test_the_training_of_the_adapter_that_is_open_is_shown_where_none_is_watched(
    run: Path, samples: Path
) -> None:
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        shutil.copy(samples / "style-clean-r16" / name, run)
    app = LorabenchApp(run.parent, run)
    async with app.run_test(size=(120, 36)) as pilot:
        await sees(pilot, "42 rows")
        await pilot.press("3")
        await sees(pilot, "✔ finished")
