"""What a newcomer sees: whole columns, pictures in their size, themes and none, keys that do something."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.text import Text
from textual.app import App, ComposeResult

from lorabench.app import LorabenchApp
from lorabench.errors import LorabenchError
from lorabench.widgets.layer_pictures import LayerPictures
from lorabench.widgets.loss_chart import LossCurve
from lorabench.widgets.plot import Plot
from lorabench.widgets.row_table import RowTable
from tests.face.looking import bench_rows, settled, text_of, until
from tests.face.test_layers import layers_of

Make = Callable[..., LorabenchApp]


def keys_shown(app: App[None]) -> str:
    return text_of(app).splitlines()[-1]


class Columns(App[None]):
    """Columns a to e of ten cells each, a fixed."""

    def compose(self) -> ComposeResult:
        table = RowTable(cursor_type="row", fixed_columns=1, cell_padding=0, show_header=False)
        for letter in "abcde":
            table.add_column(letter, width=10)
        table.add_row(*(Text(10 * letter) for letter in "abcde"))
        yield table


@pytest.mark.parametrize(("width", "at_first", "at_last"), [(37, "abc", "ade"), (30, "abc", "ade")])
async def test_a_table_shows_whole_columns_only(width: int, at_first: str, at_last: str) -> None:
    app = Columns()
    async with app.run_test(size=(width, 4)) as pilot:

        def letters() -> str:
            line = text_of(app).splitlines()[0]
            return "".join(letter for letter in "abcde" if 10 * letter in line)

        await pilot.pause()
        assert letters() == at_first
        assert set(text_of(app).splitlines()[0].strip()) <= {*at_first, " "}
        await pilot.press(*["right"] * 6)
        await until(pilot, lambda: letters() == at_last)
        assert set(text_of(app).splitlines()[0].strip()) <= {*at_last, " "}


async def test_a_roomy_terminal_shows_the_layer_under_the_cursor_and_whole_pictures(
    workbench: Make, outputs: Path
) -> None:
    app = workbench()

    def tails() -> list[str]:
        return re.findall(r"tail: α [0-9.]+", text_of(app))

    async with layers_of(app, outputs / "run[1]", (200, 50)) as pilot:
        await until(pilot, lambda: "singular values of ΔW" in text_of(app) and bool(tails()))
        before = tails()
        await pilot.press("down")
        await until(pilot, lambda: bool(tails()) and tails() != before)
        await pilot.press("5", "a")
        await until(pilot, lambda: "untrained" in text_of(app))
        first = app.screen.query(Plot).first()
        assert first.size.width == 200
        # plotext would draw for 80 columns, and leave gaps in all that is drawn column by column.
        assert first.plt.plot_size() == tuple(first.size)
        await pilot.resize_terminal(120, 36)
        await pilot.press("4")
        await until(pilot, lambda: not app.screen.query_one(LayerPictures).display)


async def test_a_roomy_terminal_shows_the_losses_of_a_run_as_a_curve(workbench: Make) -> None:
    app = workbench()
    async with app.run_test(size=(200, 50)) as pilot:
        await settled(pilot)
        names = [row[0] for row in bench_rows(app)]
        await pilot.press(*["down"] * names.index("checkpoint-500"))
        await until(pilot, lambda: "━ loss 1" in text_of(app))  # 3 - 500 / 250
        await pilot.press(*["down"] * (len(names) - names.index("checkpoint-500") - 1))
        await until(pilot, lambda: not app.screen.query_one(LossCurve).display)
        await pilot.press("slash")
        await until(pilot, lambda: "esc no filter" in keys_shown(app))
        assert "⏎ done" in keys_shown(app)
        assert not re.search(r"[/?] ", keys_shown(app))  # one types them


async def test_without_colour_a_picture_has_one_style_and_p_is_a_key_where_it_turns_it(
    workbench: Make, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = workbench()
    async with layers_of(app, outputs / "run[1]", (120, 36)) as pilot:
        await pilot.press("5", "a")
        await until(pilot, lambda: "untrained" in text_of(app))
        drawn = app.screen.query(Plot).first().render()
        assert isinstance(drawn, Text)
        assert "mean" in drawn.plain
        assert drawn.spans == []
        assert "picture" not in keys_shown(app)
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: "p picture" in keys_shown(app))


async def test_without_an_adapter_only_keys_with_an_effect_are_shown(workbench: Make, tmp_path: Path) -> None:
    app = workbench(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        for key in "456":
            await pilot.press(key)
            await until(pilot, lambda: "No adapter is open" in text_of(app))
            shown = re.sub(" +", " ", keys_shown(app)).strip()
            assert shown.removeprefix("⏎ open ").removeprefix("s save ") == "? help q quit"


async def test_a_theme_is_chosen_at_the_start_or_later_and_then_it_is_said_how_to_keep_it(
    tmp_path: Path,
) -> None:
    app = LorabenchApp(tmp_path, theme="textual-light")
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await settled(pilot)
        assert not app.current_theme.dark
        assert not app._notifications
        assert "Theme" in [command.title for command in app.get_system_commands(app.screen)]
        app.theme = "solarized-light"
        await until(pilot, lambda: bool(app._notifications))
        (note,) = app._notifications
        assert "TEXTUAL_THEME=solarized-light" in note.message


def test_a_theme_that_there_is_not_is_a_sentence_that_lists_the_others(outputs: Path) -> None:
    with pytest.raises(LorabenchError, match=r"no theme daylight[.]") as raised:
        LorabenchApp(outputs, theme="daylight")
    assert "textual-light" in raised.value.hint
