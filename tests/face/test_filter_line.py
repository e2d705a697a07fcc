"""The line in which one types a filter, where it stands before all else that takes keys."""

from __future__ import annotations

from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.widgets import Input

from lorabench.widgets.filter_line import FilterLine


class Filtered(App[None]):
    BINDINGS: ClassVar[list[BindingType]] = [("q", "quit", "quit")]

    def compose(self) -> ComposeResult:
        yield FilterLine("part of a name")


async def test_a_closed_line_takes_no_key_of_a_new_screen():
    app = Filtered()
    async with app.run_test() as pilot:
        assert app.focused is None
        await pilot.press("q")
        await pilot.pause()
        assert not app.is_running


async def test_an_open_line_takes_all():
    app = Filtered()
    async with app.run_test() as pilot:
        app.query_one(FilterLine).ask()
        await pilot.press("q")
        assert app.query_one(Input).value == "q"
        assert app.is_running
