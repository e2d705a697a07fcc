"""Terminals of any size, and that change it while something is shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lorabench.app import LorabenchApp
from tests.face.looking import settled, text_of, until
from tests.face.watching import app_on, sees, watch

Make = Callable[..., LorabenchApp]
SIZES = [(1, 1), (3, 200), (500, 1), (17, 61)]


async def test_another_size_of_the_terminal_is_filled_at_once(run: Path) -> None:
    app = app_on(run.parent)
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await watch(pilot, run)
        await sees(pilot, "eval 0.773", "growing fastest")
        await until(pilot, lambda: not screen.reading)
        await pilot.resize_terminal(80, 24)
        await sees(pilot, "eval 0.773", "dead 0  last update", "step time")
        await until(pilot, lambda: max(map(len, legend_and_axis(app))) > 70)
        await pilot.resize_terminal(120, 36)
        await sees(pilot, "growing fastest")


def legend_and_axis(app: LorabenchApp) -> list[str]:
    return [line.rstrip() for line in text_of(app).splitlines()[4:13]]


async def test_no_size_breaks_the_screen_of_a_run(run: Path) -> None:
    app = app_on(run.parent)
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await watch(pilot, run)
        for size in SIZES:
            await pilot.resize_terminal(*size)
            for _ in range(4):  # each panel alone, and all
                await pilot.press("p")
                screen.draw()
                await pilot.pause()
        await pilot.resize_terminal(120, 36)
        await sees(pilot, "growing fastest")


@pytest.mark.parametrize("key", ["1", "2", "4", "5", "6"])
async def test_no_size_breaks_a_screen(workbench: Make, outputs: Path, key: str) -> None:
    app = workbench(open_path=outputs / "style-r16")
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press(key)
        await settled(pilot)
        before = text_of(app).splitlines()[0]
        for size in SIZES:
            await pilot.resize_terminal(*size)
            await pilot.press("j")
            await settled(pilot)
        await pilot.resize_terminal(120, 36)
        await until(pilot, lambda: text_of(app).splitlines()[0] == before)
