"""Screen 4 as a person uses it."""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from textual.pilot import Pilot
from textual.widgets import Input, Static

from lorabench.adapters.model import Adapter
from lorabench.app import LorabenchApp
from lorabench.screens.analysis import PAUSE_SECONDS
from lorabench.screens.dialogs import ChoiceDialog, SaveDialog
from lorabench.screens.spectra import SpectraScreen
from lorabench.spectra import analysis
from lorabench.spectra.columns import LAYER_COLUMNS
from lorabench.spectra.model import LayerSpectrum
from lorabench.widgets.heat_grid import HeatGrid
from lorabench.widgets.layer_table import LayerTable
from tests.face.conftest import write_adapter
from tests.face.looking import cells, settled, text_of, until

Make = Callable[..., LorabenchApp]


@asynccontextmanager
async def layers_of(app: LorabenchApp, adapter: Path, size: tuple[int, int]) -> AsyncIterator[Pilot[None]]:
    """Open an adapter's layers and wait until all are computed."""
    async with app.run_test(size=size, notifications=True) as pilot:
        await settled(pilot)
        app.open_adapter(adapter)
        await until(pilot, lambda: app.analysis.state == "done")
        yield pilot


def table(app: LorabenchApp) -> LayerTable:
    return app.screen.query_one(LayerTable)


def column(app: LorabenchApp, title: str) -> list[str]:
    place = [shown.title for shown in table(app).columns_shown].index(title)
    return [row[place] for row in cells(table(app))]


def foot(app: LorabenchApp) -> str:
    return str(app.screen.query_one("#counts", Static).content)


async def test_one_row_a_module_with_shape_norms_alpha_and_verdict(workbench: Make, outputs: Path) -> None:
    app = workbench()
    async with layers_of(app, outputs / "style-r16", (140, 36)):
        assert [shown.name for shown in table(app).columns_shown] == [c.name for c in LAYER_COLUMNS]
        assert len(cells(table(app))) == 16
        assert column(app, "module")[:4] == [
            "attn.q_proj",
            "attn.v_proj",
            "attn.w_proj",
            "mlp.up_proj",
        ]
        assert column(app, "layer")[::4] == ["0", "1", "2", "3"]
        assert column(app, "shape")[3] == "128×64"
        assert column(app, "verdict")[0] == "▲ heavy-tailed"
        assert column(app, "verdict")[3] == "○ dead"
        assert column(app, "‖ΔW‖")[3] == "0"
        assert "4 dead" in foot(app)


@pytest.fixture
def go(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """What the analysis waits for before its first layer."""
    go = threading.Event()
    real = analysis.spectra_of

    def slow(adapter: Adapter) -> Iterator[LayerSpectrum]:
        go.wait(20)
        return real(adapter)

    monkeypatch.setattr(analysis, "spectra_of", slow)
    return go


async def test_rows_are_there_before_their_spectra(
    workbench: Make, outputs: Path, go: threading.Event
) -> None:
    app = workbench(outputs / "new")
    async with app.run_test(size=(140, 36)) as pilot:
        app.open_adapter(outputs / "style-r16")
        await until(pilot, lambda: app.analysis.state == "analysing" and table(app).row_count == 16)
        assert column(app, "shape")[0] == "64×64"
        assert set(column(app, "verdict")) == {"…"}
        assert "computing 0/16" in foot(app)
        go.set()
        await until(pilot, lambda: app.analysis.state == "done")
        assert "…" not in column(app, "verdict")


@pytest.mark.parametrize(("keys", "pauses"), [((), 0), (("j",), 16)])
async def test_the_analysis_gives_way_to_who_types(
    workbench: Make,
    outputs: Path,
    go: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    keys: tuple[str, ...],
    pauses: int,
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("lorabench.screens.analysis.pause", slept.append)
    monkeypatch.setattr("lorabench.screens.analysis.TYPING_SECONDS", 1000)
    app = workbench(outputs / "new")
    async with app.run_test(size=(140, 36)) as pilot:
        app.open_adapter(outputs / "style-r16")
        await until(pilot, lambda: app.analysis.state == "analysing")
        await pilot.press(*keys)
        go.set()
        await until(pilot, lambda: app.analysis.state == "done")
        assert slept == [PAUSE_SECONDS] * pauses
        assert len(app.analysis.spectra["ΔW"]) == 16


async def test_text_filters_by_name_and_expressions_by_numbers(workbench: Make, outputs: Path) -> None:
    app = workbench()
    async with layers_of(app, outputs / "style-r16", (140, 36)) as pilot:
        await pilot.press("slash", *"v_proj")
        await until(pilot, lambda: set(column(app, "module")) == {"attn.v_proj"})
        app.screen.query_one(Input).value = "alpha<1.9 and layer>=2"
        await until(pilot, lambda: table(app).row_count == 2)
        assert column(app, "module") == ["attn.q_proj"] * 2
        assert "2 of 16 rows   1 heavy-tailed · 1 undecided" in foot(app)
        app.screen.query_one(Input).value = "alpha<"
        await until(pilot, lambda: "at character 7" in text_of(app))
        await pilot.press("escape")
        await until(pilot, lambda: table(app).row_count == 16)


async def test_ordering_by_a_column_and_again_reverses_and_keeps_the_cursor(
    workbench: Make, outputs: Path
) -> None:
    app = workbench()
    async with layers_of(app, outputs / "style-r16", (140, 36)) as pilot:
        table(app).move_cursor(row=5)
        name = table(app).current.layer.name  # type: ignore[union-attr]

        async def order_by(title: str) -> None:
            await pilot.press("o")
            await until(pilot, lambda: isinstance(app.screen, ChoiceDialog))
            place = [shown.title for shown in LAYER_COLUMNS].index(title)
            await pilot.press(*["down"] * place, "enter")
            await until(pilot, lambda: not isinstance(app.screen, ChoiceDialog))

        await order_by("‖ΔW‖")
        norms = [float(value) for value in column(app, "‖ΔW‖")]
        assert norms == sorted(norms, reverse=True)
        assert "by norm ↓" in foot(app)
        assert table(app).current.layer.name == name  # type: ignore[union-attr]
        await order_by("‖ΔW‖")
        norms = [float(value) for value in column(app, "‖ΔW‖")]
        assert norms == sorted(norms)


async def test_f_shows_the_factors_and_f_again_the_update(workbench: Make, outputs: Path) -> None:
    app = workbench()
    async with layers_of(app, outputs / "style-r16", (140, 36)) as pilot:
        await pilot.press("f")
        await until(pilot, lambda: table(app).row_count == 32)
        assert column(app, "part")[:2] == ["A", "B"]
        assert column(app, "shape")[:2] == ["16×64", "64×16"]
        await pilot.press("f")
        await until(pilot, lambda: table(app).row_count == 16)


async def test_w_shows_weightwatchers_columns(workbench: Make, outputs: Path) -> None:
    app = workbench()
    async with layers_of(app, outputs / "style-r16", (140, 36)) as pilot:
        await pilot.press("w")
        await until(pilot, lambda: "num_pl_spikes" in [shown.name for shown in table(app).columns_shown])
        assert column(app, "num_evals")[0] == "16"
        assert column(app, "warning")[0] == "over-trained"


async def test_h_shows_a_grid_of_layer_and_module_and_o_chooses_its_number(
    workbench: Make, outputs: Path
) -> None:
    app = workbench()
    async with layers_of(app, outputs / "style-r16", (140, 36)) as pilot:
        await pilot.press("h")
        grid = app.screen.query_one(HeatGrid)
        await until(pilot, lambda: grid.display and grid.row_count == 4)
        assert grid.types_shown == ["q_proj", "v_proj", "w_proj", "up_proj"]
        assert cells(grid)[0][3] == "—"
        assert 1 < float(cells(grid)[0][0]) < 2
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, ChoiceDialog))
        assert isinstance(app.screen, ChoiceDialog)
        place = next(i for i, choice in enumerate(app.screen.choices) if choice.startswith("r "))
        await pilot.press(*["down"] * place, "enter")
        await until(pilot, lambda: cells(grid)[0] == ["16"] * 4)
        await pilot.press("right", "enter")
        await until(pilot, lambda: isinstance(app.screen, SpectraScreen))
        assert app.analysis.chosen == ("default", "model.layers.0.attn.v_proj")


async def test_the_reason_of_the_verdict_stands_below(workbench: Make, outputs: Path) -> None:
    app = workbench()
    async with layers_of(app, outputs / "style-r16", (140, 36)) as pilot:
        await pilot.press("down", "down", "down")
        await until(pilot, lambda: "mlp.up_proj" in str(app.screen.query_one("#why", Static).content))
        assert "has not been trained" in str(app.screen.query_one("#why", Static).content)


async def test_s_saves_the_table_as_shown_as_csv_all_numbers_as_json_and_a_picture(
    workbench: Make, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    app = workbench()
    async with layers_of(app, outputs / "style-r16", (140, 36)) as pilot:

        async def save(name: str) -> None:
            await pilot.press("s")
            await until(pilot, lambda: isinstance(app.screen, SaveDialog))
            field = app.screen.query_one(Input)
            assert field.value.endswith("style-r16-layers.csv")
            field.value = str(tmp_path / name)
            await pilot.press("enter")
            await until(pilot, lambda: not isinstance(app.screen, SaveDialog))

        await save("t.csv")
        await save("t.json")
        await save("t.svg")
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert len(rows) == 16
    assert 1.2 < float(rows[0]["alpha"]) < 1.6
    layers = json.loads((tmp_path / "t.json").read_text())["layers"]
    assert len(layers[0]["singular_values"]) == 16
    assert "<svg" in (tmp_path / "t.svg").read_text()


async def test_saving_says_what_is_wrong_and_asks_before_it_overwrites(
    workbench: Make, outputs: Path, tmp_path: Path
) -> None:
    there = tmp_path / "there.csv"
    there.write_text("mine")
    app = workbench()
    async with layers_of(app, outputs / "style-r16", (140, 36)) as pilot:
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, SaveDialog))
        field = app.screen.query_one(Input)
        for value, complaint in (
            (tmp_path / "x.txt", "must end in"),
            (tmp_path / "none" / "x.csv", "no folder"),
            (there, "enter again overwrites"),
        ):
            field.value = str(value)
            await pilot.press("enter")
            await until(pilot, lambda complaint=complaint: complaint in text_of(app))
        assert there.read_text() == "mine"
        await pilot.press("enter")
        await until(pilot, lambda: there.read_text() != "mine")


async def test_y_copies_the_layer_as_json(workbench: Make, outputs: Path) -> None:
    app = workbench()
    async with layers_of(app, outputs / "style-r16", (140, 36)) as pilot:
        await pilot.press("y")
        assert json.loads(app.clipboard)["layers"][0]["module"] == "model.layers.0.attn.q_proj"


async def test_another_adapter_takes_the_place_of_the_first_with_no_filter_left(
    workbench: Make, outputs: Path
) -> None:
    app = workbench()
    async with layers_of(app, outputs / "style-r16", (140, 36)) as pilot:
        await pilot.press("f", "slash", *"q_proj", "enter")
        app.open_adapter(outputs / "run[1]")
        await until(pilot, lambda: app.analysis.state == "done" and table(app).row_count == 8)
        assert column(app, "verdict")[3] == "○ dead"


async def test_narrow_terminals_show_alpha_and_verdict_first(workbench: Make, outputs: Path) -> None:
    app = workbench()
    async with layers_of(app, outputs / "style-r16", (80, 24)):
        assert [shown.name for shown in table(app).columns_shown][:5] == [
            "layer",
            "module",
            "r",
            "alpha",
            "verdict",
        ]
        assert "heavy-tailed" in text_of(app)


async def test_thousands_of_layers_show_the_first_and_say_how_many_more(
    workbench: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorabench.widgets.layer_table.MOST_ROWS", 50)
    write_adapter(tmp_path / "many", layers=20, r=2, size=8)
    app = workbench(tmp_path)
    async with layers_of(app, tmp_path / "many", (140, 36)):
        assert table(app).row_count == 50
        assert "30 more: filter to see them" in foot(app)


async def test_without_an_adapter_the_screen_says_what_to_do(workbench: Make) -> None:
    app = workbench()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("4")
        await until(pilot, lambda: "press 1 and choose one" in text_of(app))
        await pilot.press("h", "f", "w", "o", "escape", "y", "enter")
        assert "press 1 and choose one" in text_of(app)


async def test_names_that_would_command_a_terminal_are_shown_in_table_and_grid(
    workbench: Make, tmp_path: Path
) -> None:
    evil = "q\x1b]0;PWNED\x07[/x]\u202e"
    a, b = np.ones((4, 8), np.float32), np.ones((8, 4), np.float32)
    tensors = {
        f"base_model.model.model.layers.{layer}.{evil}.{part}.weight": value
        for layer in range(2)
        for part, value in (("lora_A", a), ("lora_B", b))
    }
    (tmp_path / "evil").mkdir()
    save_file(tensors, tmp_path / "evil" / "adapter_model.safetensors")
    app = workbench(tmp_path)
    async with layers_of(app, tmp_path / "evil", (140, 36)) as pilot:
        assert column(app, "module") == ["q␛]0;PWNED␇[/x]\\u{202e}"] * 2
        await pilot.press("h", "o", "escape")
        grid = app.screen.query_one(HeatGrid)
        await until(pilot, lambda: grid.row_count == 2)
        assert all(text.isprintable() for text in (*grid.types_shown, *grid.rows_shown))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, SpectraScreen))
        assert "\x1b" not in text_of(app)


async def test_several_adapters_of_one_file_are_kept_apart(workbench: Make, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = {}
    for adapter, size in (("one", 1.0), ("two", 10.0)):
        for module in ("q_proj", "v_proj"):
            prefix = f"base_model.model.model.layers.0.attn.{module}"
            tensors[f"{prefix}.lora_A.{adapter}.weight"] = rng.standard_normal((4, 8)).astype(np.float32)
            tensors[f"{prefix}.lora_B.{adapter}.weight"] = size * rng.standard_normal((8, 4)).astype(
                np.float32
            )
    (tmp_path / "both").mkdir()
    save_file(tensors, tmp_path / "both" / "adapter_model.safetensors")
    app = workbench(tmp_path)
    async with layers_of(app, tmp_path / "both", (140, 36)) as pilot:
        assert sorted(column(app, "adapter")) == ["one", "one", "two", "two"]
        last = table(app).spectra[3]
        await pilot.press("h")
        grid = app.screen.query_one(HeatGrid)
        await until(pilot, lambda: sorted(grid.rows_shown) == ["one 0", "two 0"])
        await pilot.press("h", "G", "enter")
        await until(pilot, lambda: isinstance(app.screen, SpectraScreen))
        assert app.analysis.spectra["ΔW"][app.analysis.position] is last
        await pilot.press("left", "left", "left", "left")
        await until(pilot, lambda: app.analysis.spectra["ΔW"][app.analysis.position] is last)


async def test_saving_with_a_broken_filter_offers_the_picture(workbench: Make, outputs: Path) -> None:
    app = workbench()
    async with layers_of(app, outputs / "style-r16", (140, 36)) as pilot:
        await pilot.press("slash", *"r<", "enter", "s")
        await until(pilot, lambda: isinstance(app.screen, SaveDialog))
        assert list(app.screen.endings) == [".svg"]  # type: ignore[attr-defined]


async def test_the_saved_table_has_the_ends_of_the_interval(
    workbench: Make, outputs: Path, tmp_path: Path
) -> None:
    app = workbench()
    async with layers_of(app, outputs / "style-r16", (140, 36)):
        app.screen.writers()[".csv"][1](tmp_path / "t.csv")  # type: ignore[attr-defined]
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert all(float(r["alpha_low"]) < float(r["alpha"]) < float(r["alpha_high"]) for r in rows if r["alpha"])


async def test_the_arrows_scroll_whole_columns(workbench: Make, outputs: Path) -> None:
    app = workbench()
    async with layers_of(app, outputs / "style-r16", (80, 24)) as pilot:
        widths = [shown.get_render_width(table(app)) for shown in table(app).ordered_columns[2:]]
        await pilot.press("right")
        assert table(app).scroll_x == widths[0]
        await pilot.press("right")
        assert table(app).scroll_x == widths[0] + widths[1]
        await pilot.press("left", "left", "left")
        assert table(app).scroll_x == 0


async def test_the_grid_shows_norms_where_no_layer_has_an_alpha(workbench: Make, samples: Path) -> None:
    app = workbench()
    async with layers_of(app, samples / "fresh-r8", (140, 36)) as pilot:
        await pilot.press("h")
        await until(pilot, lambda: "grid of ‖ΔW‖" in foot(app))


async def test_a_unets_blocks_are_told_apart(workbench: Make, shared_data: Path) -> None:
    app = workbench()
    async with layers_of(app, shared_data / "adapters" / "sd-unet-r4-dead-layers", (120, 36)) as pilot:
        names = column(app, "module")
        assert len(set(names)) == len(names) == 128
        await pilot.press("h")
        grid = app.screen.query_one(HeatGrid)
        await until(pilot, lambda: grid.row_count == 16)
        assert all(len(row) == 8 and "" not in row for row in cells(grid))
