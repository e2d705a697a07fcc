"""What screen 6 looks like, on a sample adapter and its base model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from lorabench.app import LorabenchApp
from lorabench.screens.base import BaseScreen
from tests.conftest import REPOSITORY
from tests.face.looking import settled, until

SIZES = [(80, 24), (120, 36)]
Compare = Callable[..., bool]


@pytest.fixture(autouse=True)
def in_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Show the same path on every machine, and keep nothing."""
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("LORABENCH_CACHE", str(tmp_path))


def app() -> LorabenchApp:
    made = LorabenchApp(Path("sample_adapters"))
    made.animation_level = "none"
    return made


async def pictures(pilot: Pilot[Any]) -> None:
    await settled(pilot)
    workbench = pilot.app
    assert isinstance(workbench, LorabenchApp)
    workbench.open_adapter(Path("sample_adapters") / "style-clean-r16")
    await until(pilot, lambda: workbench.analysis.state == "done")
    await pilot.press("6")

    def compared() -> bool:
        screen = workbench.screen
        return isinstance(screen, BaseScreen) and screen.work.state == "done"

    await until(pilot, compared)
    await pilot.pause()


async def table(pilot: Pilot[Any]) -> None:
    await pictures(pilot)
    await pilot.press("t", "down", "down")
    await pilot.pause()


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("scene", [pictures, table], ids=lambda s: s.__name__)
def test_looks(scene: Callable[[Pilot[Any]], Any], size: tuple[int, int], snap_compare: Compare) -> None:
    assert snap_compare(app(), terminal_size=size, run_before=scene)


def test_looks_where_there_is_room(snap_compare: Compare) -> None:
    assert snap_compare(app(), terminal_size=(200, 50), run_before=pictures)
