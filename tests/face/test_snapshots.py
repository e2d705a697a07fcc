"""What the screens look like, pixel for pixel, on the sample adapters: also the pictures of the README."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from lorabench.app import LorabenchApp
from tests.conftest import REPOSITORY
from tests.face.looking import bench_rows, detail, settled, text_of, until

SIZES = [(80, 24), (120, 36)]
Compare = Callable[..., bool]


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show the same path on every machine."""
    monkeypatch.chdir(REPOSITORY)


def app(theme: str | None = None) -> LorabenchApp:
    made = LorabenchApp(Path("sample_adapters"), theme=theme)
    made.animation_level = "none"
    return made


async def bench(pilot: Pilot[Any]) -> None:
    await settled(pilot)
    await pilot.press("down", "down", "down", "down")
    await until(
        pilot, lambda: "0.404" in detail(pilot.app) and all(row[6] != "·" for row in bench_rows(pilot.app))
    )


async def layers(pilot: Pilot[Any]) -> None:
    await settled(pilot)
    workbench = pilot.app
    assert isinstance(workbench, LorabenchApp)
    workbench.open_adapter(Path("sample_adapters") / "rslora-rank-pattern")
    await until(pilot, lambda: workbench.analysis.state == "done")
    await pilot.press("down", "down")
    await until(pilot, lambda: pilot.app.size.width < 200 or "tail" in text_of(pilot.app))
    await pilot.pause()


async def heat(pilot: Pilot[Any]) -> None:
    await layers(pilot)
    await pilot.press("h")
    await pilot.pause()


async def module(pilot: Pilot[Any]) -> None:
    await layers(pilot)
    await pilot.press("enter")
    await pilot.pause()


async def adapter(pilot: Pilot[Any]) -> None:
    await layers(pilot)
    await pilot.press("5", "a")
    await pilot.pause()


async def layers_help(pilot: Pilot[Any]) -> None:
    await layers(pilot)
    await pilot.press("question_mark")
    await settled(pilot)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize(
    "scene", [bench, layers, heat, module, adapter, layers_help], ids=lambda s: s.__name__
)
def test_looks(scene: Callable[[Pilot[Any]], Any], size: tuple[int, int], snap_compare: Compare) -> None:
    assert snap_compare(app(), terminal_size=size, run_before=scene)


@pytest.mark.parametrize("scene", [bench, layers], ids=lambda s: s.__name__)
def test_looks_where_there_is_room(scene: Callable[[Pilot[Any]], Any], snap_compare: Compare) -> None:
    assert snap_compare(app(), terminal_size=(200, 50), run_before=scene)


@pytest.mark.parametrize("scene", [bench, module], ids=lambda s: s.__name__)
def test_looks_in_a_light_theme(scene: Callable[[Pilot[Any]], Any], snap_compare: Compare) -> None:
    assert snap_compare(app("textual-light"), terminal_size=(120, 36), run_before=scene)
