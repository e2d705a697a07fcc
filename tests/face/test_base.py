"""Screen 6 as a person uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import ContentSwitcher, Input

from lorabench.app import LorabenchApp
from lorabench.screens.base import BaseScreen
from lorabench.screens.dialogs import ErrorDialog
from lorabench.screens.spectra import SpectraScreen
from lorabench.spectra import base_analysis
from lorabench.widgets.plot import Plot
from lorabench.widgets.row_table import RowTable
from tests.base.made import weight, write_adapter, write_base
from tests.face.looking import cells, text_of, until

Make = Callable[..., LorabenchApp]
MODULES = {f"model.layers.{n}.self_attn.{name}": (48, 32) for n in range(3) for name in ("q_proj", "v_proj")}
WIDE, SMALL = (120, 36), (80, 24)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What was computed is kept here."""
    monkeypatch.setenv("LORABENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base model with five of the six modules that the adapter updates."""
    weights = {f"{module}.weight": weight(48, 32, n) for n, module in enumerate(list(MODULES)[:5])}
    return write_base(tmp_path / "base", weights)


@pytest.fixture
def adapter(tmp_path: Path, base: Path) -> Path:
    return write_adapter(tmp_path / "style", MODULES, base)


@asynccontextmanager
async def base_of(
    app: LorabenchApp, adapter: Path, size: tuple[int, int] = WIDE, until_state: str = "done"
) -> AsyncIterator[Pilot[Any]]:
    """Open an adapter, go to screen 6, and wait until the comparison has come so far."""
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.current_mode != app.DEFAULT_MODE)
        app.open_adapter(adapter)
        await until(pilot, lambda: app.analysis.state == "done")
        await pilot.press("6")
        await until(
            pilot, lambda: isinstance(app.screen, BaseScreen) and screen(app).work.state == until_state
        )
        yield pilot


def screen(app: LorabenchApp) -> BaseScreen:
    assert isinstance(app.screen, BaseScreen)
    return app.screen


def pictures(app: LorabenchApp) -> list[Plot]:
    return [plot for plot in app.screen.query(Plot) if plot.display]


async def test_six_shows_three_pictures_and_what_was_not_compared(
    workbench: Make, adapter: Path, tmp_path: Path
) -> None:
    app = workbench(tmp_path)
    async with base_of(app, adapter) as pilot:
        await until(pilot, lambda: "intruders of 10 by depth: 5 layers" in text_of(app))
        shown = text_of(app)
        assert len(pictures(app)) == 3
        assert "style against" in shown
        assert "5 of 6 layers" in shown
        assert "‖ΔW‖/‖W‖ by depth: 5 layers" in shown
        assert "not compared: model.layers.2.self_attn.v_proj: The base model has no" in shown
        assert "line at 6" in shown


async def test_t_shows_the_table_with_every_layer_and_why_one_is_empty(
    workbench: Make, adapter: Path, tmp_path: Path
) -> None:
    app = workbench(tmp_path)
    async with base_of(app, adapter) as pilot:
        await pilot.press("t")
        table = app.screen.query_one(RowTable)
        await until(pilot, lambda: table.row_count == 6)
        rows = cells(table)
        assert [row[1] for row in rows[:2]] == ["self_attn.q_proj", "self_attn.v_proj"]
        assert rows[5][3] == "—"
        await pilot.press("G")
        await until(pilot, lambda: "The base model has no model.layers.2.self_attn.v_proj." in text_of(app))
        await pilot.press("g")
        await until(pilot, lambda: "model.layers.0.self_attn.q_proj.weight" in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, SpectraScreen))


async def test_a_small_terminal_shows_one_picture_and_p_the_next(
    workbench: Make, adapter: Path, tmp_path: Path
) -> None:
    app = workbench(tmp_path)
    async with base_of(app, adapter, SMALL) as pilot:
        await until(pilot, lambda: len(pictures(app)) == 1)
        await pilot.press("p")
        await until(pilot, lambda: "‖ΔW‖/‖W‖ by depth" in text_of(app))
        await pilot.press("p", "p")
        await until(pilot, lambda: "line at 6" in text_of(app))
        await pilot.resize_terminal(*WIDE)
        await until(pilot, lambda: len(pictures(app)) == 3)


async def test_a_long_computation_waits_for_c_and_stops_with_c_keeping_what_is_done(
    workbench: Make, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorabench.screens.base.SOON", 0)
    monkeypatch.setattr("lorabench.screens.base_work.BATCH_SECONDS", 0)
    measured, go_on = base_analysis.measure_merged, Event()
    begun: list[int] = []

    def slow(*arguments: Any) -> Any:
        begun.append(1)
        if len(begun) > 2:
            assert go_on.wait(20)
        return measured(*arguments)

    monkeypatch.setattr(base_analysis, "measure_merged", slow)
    app = workbench(tmp_path)
    async with base_of(app, adapter, until_state="stopped") as pilot:
        await until(pilot, lambda: "0 of 6 layers   c computes the others" in text_of(app))
        await pilot.press("c")
        await until(pilot, lambda: "2 of 6 layers  0:0" in text_of(app))
        assert "━" in text_of(app)
        assert "left" in text_of(app)
        await pilot.press("c")
        await until(pilot, lambda: screen(app).work.state == "stopped")
        go_on.set()
        await pilot.press("c")
        await until(pilot, lambda: screen(app).work.state == "done")
        assert "5 of 6 layers" in text_of(app)


async def test_what_is_kept_needs_no_asking(
    workbench: Make, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with base_of(workbench(tmp_path), adapter):
        pass
    monkeypatch.setattr("lorabench.screens.base.SOON", 0)
    monkeypatch.delattr(base_analysis, "gram")
    app = workbench(tmp_path)
    async with base_of(app, adapter) as pilot:
        await until(pilot, lambda: "5 of 6 layers" in text_of(app))


async def test_a_base_that_is_not_there_is_asked_for_and_named_with_b(
    workbench: Make, base: Path, tmp_path: Path
) -> None:
    adapter = write_adapter(tmp_path / "style", MODULES, "/no/such/base")
    app = workbench(tmp_path)
    async with base_of(app, adapter, until_state="failed") as pilot:
        await until(pilot, lambda: "The base model /no/such/base is not there." in text_of(app))
        assert "b on the Base screen" in text_of(app)
        await pilot.press("b")
        await until(pilot, lambda: app.screen.query_one("#base-name", Input).has_focus)
        app.screen.query_one("#base-name", Input).value = str(base)
        await pilot.press("enter")
        await until(pilot, lambda: screen(app).work.state == "done")
        await until(pilot, lambda: "5 of 6 layers" in text_of(app))
        await pilot.press("t")
        assert app.screen.query_one(ContentSwitcher).current == "base-table"


async def test_a_base_on_the_hub_is_not_fetched_by_itself(
    workbench: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked: list[object] = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *call, **_: asked.append(call))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    app = workbench(tmp_path)
    async with base_of(
        app, write_adapter(tmp_path / "style", MODULES, "org/base"), until_state="failed"
    ) as pilot:
        await until(
            pilot, lambda: "org/base is not on this machine. `lorabench base` fetches" in text_of(app)
        )
    assert asked == []


async def test_another_adapter_takes_its_place(
    workbench: Make, adapter: Path, base: Path, tmp_path: Path
) -> None:
    other = write_adapter(tmp_path / "other", dict(list(MODULES.items())[:2]), base, rank=4)
    app = workbench(tmp_path)
    async with base_of(app, adapter) as pilot:
        app.open_adapter(other)
        await until(pilot, lambda: app.analysis.state == "done")
        await pilot.press("6")
        await until(pilot, lambda: isinstance(app.screen, BaseScreen) and "2 of 2 layers" in text_of(app))
        assert "other against" in text_of(app)


async def test_without_an_adapter_every_key_is_harmless(workbench: Make, tmp_path: Path) -> None:
    app = workbench(tmp_path)
    async with app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: app.current_mode != app.DEFAULT_MODE)
        await pilot.press("6")
        await until(pilot, lambda: "No adapter is open: press 1 and choose one." in text_of(app))
        await pilot.press("c", "t", "p", "b", "y", "t", "escape")
        await until(pilot, lambda: app.current_mode == "layers")


async def test_a_scaling_that_is_not_known_is_told_in_the_heading(
    workbench: Make, base: Path, tmp_path: Path
) -> None:
    adapter = write_adapter(tmp_path / "style", MODULES, base, r=0)
    app = workbench(tmp_path)
    async with base_of(app, adapter) as pilot:
        told = "▲ r is 0, which is no use. The scaling is unknown and counts as 1."
        await until(pilot, lambda: told in text_of(app))
        assert "not compared: model.layers.2.self_attn.v_proj" in text_of(app)


async def test_an_adapter_that_could_not_be_opened_is_named_and_not_called_absent(
    workbench: Make, tmp_path: Path
) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    app = workbench(tmp_path)
    async with app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: app.current_mode != app.DEFAULT_MODE)
        app.open_adapter(tmp_path / "broken.safetensors")
        await until(pilot, lambda: app.analysis.state == "failed")
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog))
        await pilot.press("escape")
        for key in "456":
            await pilot.press(key)
            await until(pilot, lambda: "broken.safetensors could not be opened: " in text_of(app))
            assert "No adapter is open" not in text_of(app)


async def test_a_defect_in_the_work_is_shown_and_not_swallowed(
    workbench: Make, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(base_analysis, "gram", broken)
    app = workbench(tmp_path)
    async with base_of(app, adapter, until_state="failed") as pilot:
        await until(pilot, lambda: "ZeroDivisionError: of ours" in text_of(app))


async def test_the_numbers_are_saved_and_copied(
    workbench: Make, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = workbench(tmp_path)
    copied: list[str] = []
    monkeypatch.setattr(app, "copy_to_clipboard", copied.append)
    async with base_of(app, adapter) as pilot:
        await pilot.press("y")
        assert '"intruders"' in copied[0]
        writers = screen(app).writers()
        assert list(writers) == [".csv", ".json", ".svg"]
        for ending, (_, write) in writers.items():
            write(tmp_path / f"saved{ending}")
        assert (tmp_path / "saved.csv").read_text().count("\n") == 7
        assert (tmp_path / "saved.json").read_text() == copied[0]
