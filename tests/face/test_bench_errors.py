"""Screen 1 where something is damaged, locked, or goes wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lorabench.app import LorabenchApp
from lorabench.screens.bench import BenchScreen
from lorabench.screens.dialogs import ErrorDialog
from tests.face.looking import bench_rows, detail, settled, text_of, until

Make = Callable[..., LorabenchApp]


async def test_a_damaged_file_is_a_sentence_and_nothing_is_lost(workbench: Make) -> None:
    app = workbench()
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog))
        assert "adapter_model.safetensors" in text_of(app)
        await pilot.press("y", "escape")
        assert "adapter_model.safetensors" in app.clipboard
        assert isinstance(app.screen, BenchScreen)
        assert len(bench_rows(app)) == 5


async def test_a_place_that_may_not_be_read_hides_nothing_else(
    workbench: Make, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = outputs / "locked"
    locked.mkdir()
    real = os.scandir

    def scandir(path: str | Path) -> Iterator[os.DirEntry[str]]:
        if Path(path) == locked:
            raise PermissionError(13, "Permission denied")
        return real(path)  # type: ignore[return-value]

    monkeypatch.setattr(os, "scandir", scandir)
    app = workbench()
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        rows = bench_rows(app)
        assert [row[0] for row in rows] == [
            "damaged",
            "locked",
            "new",
            "run[1]",
            "checkpoint-500",
            "style-r16",
        ]
        assert rows[1][1] == "✘ unreadable"
        await pilot.press("down")
        await until(pilot, lambda: "Permission denied" in detail(app))


async def test_an_unforeseen_error_while_reading_is_shown_and_not_swallowed(
    workbench: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path) -> list[object]:
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr("lorabench.screens.listing.list_folder", fail)
    app = workbench()
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog))
        assert "RuntimeError in folder: the disk is on fire" in text_of(app)


async def test_an_unforeseen_error_in_the_analysis_ends_it_with_a_sentence(
    workbench: Make, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(adapter: object) -> object:
        raise RuntimeError("no such number")

    app = workbench()
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        monkeypatch.setattr("lorabench.spectra.analysis.spectra_of", fail)
        app.open_adapter(outputs / "style-r16")
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog))
        assert app.analysis.state == "failed"
        assert "no such number" in text_of(app)


async def test_one_adapter_that_cannot_be_coped_with_does_not_end_the_others(
    workbench: Make, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lorabench.adapters import open as opening

    real = opening.open_adapter

    def open_adapter(path: Path) -> object:
        if path.name == "run[1]":
            raise ZeroDivisionError("division by zero")
        return real(path)

    monkeypatch.setattr(opening, "open_adapter", open_adapter)
    app = workbench()
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        alphas = {row[0]: row[7] for row in bench_rows(app)}
        assert alphas["run[1]"] == "—"
        assert float(alphas["style-r16"]) > 1


@pytest.mark.parametrize(
    "value",
    ["!!int", "!!bool maybe", "[", "1:" * 200 + "0.5"],
    ids=range(4),
)
async def test_a_run_whose_file_cannot_be_read_is_listed(workbench: Make, outputs: Path, value: str) -> None:
    odd = outputs / "odd"
    odd.mkdir()
    (odd / "run.yaml").write_text(f"lora_r: {value}\n")
    app = workbench()
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        assert [row[1] for row in bench_rows(app) if row[0] == "odd"] == ["✘ unreadable"]
        await pilot.press("down", "down")
        await until(pilot, lambda: "run.yaml cannot be read: 2 says where." in detail(app))
