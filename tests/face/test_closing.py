"""The screens are closed while one of them is still being made, or is about to show something."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lorabench.app import LorabenchApp
from lorabench.screens.bench import BenchScreen
from lorabench.screens.preflight_client import ended
from tests.face.looking import settled
from tests.face.trainings import make_run


@pytest.mark.parametrize("turns", [0, 1, 2, 5])
@pytest.mark.parametrize("mode", ["config", "train", "layers", "spectra", "base"])
async def test_a_screen_that_is_being_made(tmp_path: Path, mode: str, turns: int):
    app = LorabenchApp(tmp_path)
    app.run_folder = make_run(tmp_path / "mine")
    async with app.run_test() as pilot:
        await settled(pilot)
        app.action_show(mode)
        for _ in range(turns):  # so many other tasks go on in between
            await asyncio.sleep(0)
        app.exit()
    assert app.return_code == 0


async def test_what_a_thread_has_found_is_not_shown_any_more(tmp_path: Path):
    app = LorabenchApp(tmp_path)
    shown: list[str] = []
    async with app.run_test() as pilot:
        await settled(pilot)
        bench = app.screen
        assert isinstance(bench, BenchScreen)
        bench.tell(shown.append, "before")
        await pilot.pause()
        app.exit()
        bench.tell(shown.append, "after")
        app.analysis.changed.publish("done")
    assert shown == ["before"]


async def test_work_that_is_cancelled_already_is_left_to_clean_up(tmp_path: Path):
    app = LorabenchApp(tmp_path)
    begun, cleaned = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            for _ in range(5):  # as a child that was killed takes its time to end
                await asyncio.sleep(0)
            cleaned.set()

    async with app.run_test():
        worker = app.run_worker(work())
        await begun.wait()
        app.workers.cancel_all()  # as Textual does before it takes down the screens
        await asyncio.sleep(0)
        await ended(worker)
        assert cleaned.is_set()
