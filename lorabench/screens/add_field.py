"""A field to add to the form, found by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from lorabench.text import visible

MOST_MATCHES = 60


class AddFieldDialog(ModalScreen[str | None]):
    """Find one of many names as one types. Answers the name, None when it was closed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "close", id="add.close"),
        Binding("down", "step('down')", "down", show=False, id="add.down"),
        Binding("up", "step('up')", "up", show=False, id="add.up"),
        Binding("tab", "complete", "complete", id="add.complete"),
    ]

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__()
        self.fields = fields
        self.name_width = max(map(len, fields), default=0)
        self.matches: list[str] = []

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide") as dialog:
            dialog.border_title = "add a field"
            dialog.border_subtitle = "type a part of its name · enter adds · tab completes · esc closes"
            yield Input(placeholder="max_grad_norm", compact=True, select_on_focus=False)
            yield OptionList()

    def on_mount(self) -> None:
        self.query_one(Input).focus()
        self.show_matches("")

    @on(Input.Changed)
    def look_up(self, event: Input.Changed) -> None:
        """Show the fields whose name contains what is typed."""
        self.show_matches(event.value)

    def show_matches(self, part: str) -> None:
        """List the fields that match, those that begin so first."""
        wanted = part.strip().lower()
        found = [name for name in self.fields if wanted in name]
        self.matches = sorted(found, key=lambda name: not name.startswith(wanted))[:MOST_MATCHES]
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options([two_columns(name, self.fields[name], self.name_width) for name in self.matches])
        options.highlighted = 0 if self.matches else None

    def action_step(self, way: str) -> None:
        """Go down or up while the name is typed."""
        options = self.query_one(OptionList)
        options.action_cursor_down() if way == "down" else options.action_cursor_up()

    def action_complete(self) -> None:
        """Write the name under the cursor in full."""
        at = self.query_one(OptionList).highlighted
        if at is not None:
            line = self.query_one(Input)
            line.value = self.matches[at]
            line.cursor_position = len(line.value)

    @on(Input.Submitted)
    @on(OptionList.OptionSelected)
    def answer(self) -> None:
        """Give the name under the cursor back."""
        at = self.query_one(OptionList).highlighted
        if at is not None:
            self.dismiss(self.matches[at])


def two_columns(name: str, what: str, name_width: int) -> Option:
    line = Table.grid(padding=(0, 2), expand=True)
    line.add_column(width=name_width, no_wrap=True)
    line.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    line.add_row(Text(visible(name)), Text(visible(what), style="dim"))
    return Option(line)
