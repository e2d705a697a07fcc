"""Screen 1 as a person uses it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from textual.strip import Strip
from textual.widgets import Input

from lorabench.app import LorabenchApp
from lorabench.errors import LorabenchError
from lorabench.screens.bench import BenchScreen
from lorabench.screens.dialogs import HelpDialog
from lorabench.screens.layers import LayersScreen
from lorabench.screens.run_table import RunTable
from tests.base.made import write_adapter
from tests.face.looking import bench_rows, detail, settled, text_of, until

Make = Callable[..., LorabenchApp]


async def test_the_folder_is_listed_as_a_tree_with_states_steps_and_mean_alphas(workbench: Make) -> None:
    app = workbench()
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        rows = bench_rows(app)
    assert [row[:3] for row in rows] == [
        ["damaged", "✘ unreadable", "16"],
        ["new", "○ configured", "8"],
        ["run[1]", "✔ finished", "16"],
        ["checkpoint-500", "· checkpoint", "16"],
        ["style-r16", "adapter", "16"],
    ]
    assert rows[2][4:6] == ["1000", "0.500"]
    assert rows[3][4:6] == ["500", "1.000"]
    assert rows[0][6:] == ["—", "—"]
    # Of the four modules three have an alpha: 1.4, 3.0 and a random one.
    assert 1.5 < float(rows[4][7]) < 5
    assert float(rows[4][6]) > 100


async def test_the_panel_tells_base_files_losses_and_verdicts_of_the_row(workbench: Make) -> None:
    app = workbench()
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("down", "down", "down")
        await pilot.pause()
        shown = detail(app)
    assert "tiny/base" in shown
    assert "adapter_model.safetensors" in shown
    assert "2.600 → 1.000" in shown
    assert "2 dead" in shown


async def test_the_panel_marks_an_adapter_whose_scaling_is_not_known(workbench: Make, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for name in ("a", "b"):
        write_adapter(folder / name, {"model.layers.0.self_attn.q_proj": (48, 32)}, "org/base", r=0)
    app = workbench(folder)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        shown = detail(app)
    assert "▲" in shown
    assert "r is 0, which is no use." in shown


async def test_a_run_without_an_adapter_yet_tells_what_its_configuration_says(
    workbench: Make, outputs: Path
) -> None:
    told = {
        "a": 'model_name_or_path: tiny/x\nlora_r: 4\nlora_alpha: 8\nlora_target_modules: [q_proj, "\\e[m"]\n',
        "b": "lora_target_modules: all-linear\nlora_r: four\n",
        "c": "lora_r: [\n",
        "d": "- a list\n",
    }
    for name, text in told.items():
        (outputs / name).mkdir()
        (outputs / name / "run.yaml").write_text(text)
    app = workbench()
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        assert {row[0]: row[2:4] for row in bench_rows(app) if row[0] in told} == {
            "a": ["4", "q ␛[m"],
            "b": ["—", "all-linear"],
            "c": ["—", "—"],
            "d": ["—", "—"],
        }
        shown = detail(app)
    assert "tiny/x" in shown
    assert "4   lora_alpha 8" in shown


async def test_enter_opens_an_adapter_and_its_layers_come(workbench: Make) -> None:
    app = workbench()
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("G", "enter")
        await until(pilot, lambda: app.analysis.state == "done")
        assert isinstance(app.screen, LayersScreen)
        assert app.analysis.progress == (16, 16)


async def test_a_run_without_an_adapter_and_a_configuration_shows_how_it_trained(
    workbench: Make, outputs: Path
) -> None:
    (outputs / "aaa").mkdir()
    (outputs / "aaa" / "events.jsonl").write_text('{"kind": "started"}\n')
    app = workbench()
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "train")
        assert app.run_folder == outputs / "aaa"


async def test_a_pickle_waits_for_enter_and_then_has_its_numbers(workbench: Make, samples: Path) -> None:
    app = workbench(samples)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        names = [row[0] for row in bench_rows(app)]
        at = names.index("legacy-bin-r8")
        assert bench_rows(app)[at][7] == "↵"
        await pilot.press(*["down"] * at, "enter")
        await until(pilot, lambda: app.analysis.state == "done")
        await pilot.press("1")
        await until(pilot, lambda: bench_rows(app)[at][7] not in ("↵", "·", "—"))


async def test_the_palette_finds_the_screens_own_commands(workbench: Make) -> None:
    app = workbench()
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        titles = [command.title for command in app.get_system_commands(app.screen)]
        assert {"filter (/)", "reload (f5)", "save (s)", "copy path (y)"} <= set(titles)
        filtering = next(c for c in app.get_system_commands(app.screen) if c.title == "filter (/)")
        await filtering.callback()  # type: ignore[misc]
        assert isinstance(app.focused, Input)


async def test_the_filter_shows_matching_names_and_esc_shows_all(workbench: Make) -> None:
    app = workbench()
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("slash", *"STYLE")
        await until(pilot, lambda: [row[0] for row in bench_rows(app)] == ["style-r16"])
        await pilot.press("enter")
        assert app.focused is not None
        assert app.focused.id == "runs"
        await pilot.press("escape")
        await until(pilot, lambda: len(bench_rows(app)) == 5)


async def test_y_copies_the_quoted_path(workbench: Make, outputs: Path) -> None:
    app = workbench()
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("j", "j", "y")
        assert app.clipboard == f"'{outputs}/run[1]'"


async def test_an_empty_folder_offers_the_samples(workbench: Make, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    app = workbench(empty)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert "Press o to look at the sample adapters" in detail(app)
        await pilot.press("o")
        await until(pilot, lambda: len(bench_rows(app)) > 0)
        assert app.folder.name == "sample_adapters"


async def test_a_new_adapter_is_seen_after_reload(workbench: Make, outputs: Path) -> None:
    from tests.face.conftest import write_adapter

    app = workbench()
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        write_adapter(outputs / "zz-later", layers=1)
        await pilot.press("r")
        await until(pilot, lambda: len(bench_rows(app)) == 6)


async def test_a_file_given_on_the_command_line_opens_at_once(workbench: Make, outputs: Path) -> None:
    file = outputs / "style-r16" / "adapter_model.safetensors"
    app = workbench(file.parent, file)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: app.analysis.state == "done")
        assert isinstance(app.screen, LayersScreen)


async def test_help_tells_how_to_read_the_screen_and_its_keys(workbench: Make) -> None:
    app = workbench()
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, HelpDialog))
        await until(pilot, lambda: "Keys" in text_of(app))
        await pilot.press("escape")
        assert isinstance(app.screen, BenchScreen)


async def test_the_top_line_tells_folder_and_device(workbench: Make, outputs: Path) -> None:
    app = workbench()
    async with app.run_test(size=(160, 36)) as pilot:
        await settled(pilot)
        top = text_of(app).splitlines()[0]
    assert "CPU, 2 cores 3.1/25.3 GB" in top
    assert "outputs" in top


async def test_names_with_markup_and_control_characters_are_shown_and_not_obeyed(
    workbench: Make, tmp_path: Path
) -> None:
    from tests.face.conftest import write_adapter

    write_adapter(tmp_path / "odd" / "[red]x[/foo]\x1b[31m", layers=1)
    write_adapter(tmp_path / "odd" / "ünïcode name", layers=1)
    app = workbench(tmp_path / "odd")
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        names = [row[0] for row in bench_rows(app)]
        assert names == ["[red]x[/foo]␛[31m", "ünïcode name"]
        await pilot.press("enter")
        await until(pilot, lambda: app.analysis.state == "done")


async def test_a_folder_that_is_one_adapter_opens_at_once(workbench: Make, outputs: Path) -> None:
    app = workbench(outputs / "style-r16")
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: app.analysis.state == "done")
        assert isinstance(app.screen, LayersScreen)
        await pilot.press("1", "r")
        await settled(pilot)
        assert isinstance(app.screen, BenchScreen)
        assert [row[0] for row in bench_rows(app)] == ["style-r16"]


async def test_the_rows_are_painted_before_any_is_analysed(
    workbench: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    render_line = RunTable.render_line

    def painted(table: RunTable, y: int) -> Strip:
        order.append(f"{table.row_count} rows")
        return render_line(table, y)

    def analysed(_path: Path) -> LorabenchError:
        order.append("analysed")
        return LorabenchError("Not analysed.", "")

    monkeypatch.setattr(RunTable, "render_line", painted)
    monkeypatch.setattr("lorabench.screens.bench.preview", analysed)
    app = workbench()
    async with app.run_test() as pilot:
        await settled(pilot)
    assert "5 rows" in order[: order.index("analysed")]
