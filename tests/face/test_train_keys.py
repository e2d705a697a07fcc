"""The keys of the Train screen: which of them the line at the bottom names, and where `2` leads."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from textual.widgets import Footer

from lorabench.runs.lock import take_lock
from lorabench.screens.config import ConfigScreen
from tests.conftest import REPOSITORY
from tests.face.looking import text_of, until
from tests.face.watching import app_on, begin, sees, watch

GOING = "x stop  k checkpoint  space freeze  / search  p panel  d detach  o other loss  l log axis  a audit"


@pytest.mark.parametrize(("width", "last"), [(80, "p panel"), (100, "o other loss"), (120, "a audit")])
async def test_the_line_of_keys_has_as_many_as_fit_and_cuts_none(new: Path, width: int, last: str) -> None:
    app = app_on(new.parent)
    async with app.run_test(size=(140, 30)) as pilot:
        with take_lock(new), begin(new, steps=5):
            screen = await watch(pilot, new)
            await sees(pilot, "● training")
            await pilot.resize_terminal(width, 30)
            line = f" {GOING[: GOING.index(last)]}{last}  ? help  q quit"
            await until(pilot, lambda: text_of(app).splitlines()[-1].startswith(line))
            assert screen.query_one(Footer).max_scroll_x == 0


async def test_the_line_of_keys_names_what_one_can_do_with_a_run_in_its_state(run: Path, new: Path) -> None:
    def keys() -> str:
        return text_of(app).splitlines()[-1]

    (run / "adapter_model.safetensors").touch()
    app = app_on(run.parent)
    async with app.run_test(size=(100, 30)) as pilot:
        await watch(pilot, run)
        await sees(pilot, "✔ finished", " t train  ⏎ layers  / search  p panel  w warnings  o other loss ")
        await pilot.press("1")
        with take_lock(new), begin(new) as writer:
            await watch(pilot, new)
            await until(pilot, lambda: " x stop  k checkpoint " in keys() and "train" not in keys())
            found = {"check": "targets", "level": "error", "message": "q_projj", "detail": "in 28 modules"}
            writer.write("failed", reason="preflight", error="No.", findings=[found])
        await sees(pilot, "in 28 modules", " T train anyway  t train  / search ")
        assert "stop" not in keys()


async def test_2_opens_the_configuration_of_the_run_that_is_watched_whatever_was_open(
    run: Path, new: Path
) -> None:
    sample = REPOSITORY / "sample_adapters" / "style-checkpoints-r8" / "run.yaml"
    for folder in (run, new):
        shutil.copy(sample, folder / "run.yaml")
    app = app_on(run.parent)
    async with app.run_test(size=(80, 24)) as pilot:
        for folder in (run, new):
            await watch(pilot, folder)
            await pilot.press("2")
            await until(pilot, lambda: isinstance(app.screen, ConfigScreen) and app.screen.file is not None)
            assert app.config_file is not None
            assert app.config_file.path == folder / "run.yaml"
