"""A table that moves with vim's keys too, scrolls by whole columns, and says what enter does."""

from __future__ import annotations

from itertools import accumulate
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import DataTable


class RowTable(DataTable[Text]):
    """Textual's table with `j`, `k`, `g`, `G`, and `enter` among the shown keys."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "open", id="table.open"),
        Binding("j", "cursor_down", "down", show=False, id="table.down"),
        Binding("k", "cursor_up", "up", show=False, id="table.up"),
        Binding("g", "scroll_top", "first row", show=False, id="table.top"),
        Binding("G", "scroll_bottom", "last row", show=False, id="table.bottom"),
    ]

    def action_cursor_right(self) -> None:
        """Move to the next cell, or scroll one whole column: half a number is a wrong number."""
        if self.cursor_type == "row":
            self._scroll_columns(1)
        else:
            super().action_cursor_right()

    def action_cursor_left(self) -> None:
        """Move to the cell before, or scroll one whole column back."""
        if self.cursor_type == "row":
            self._scroll_columns(-1)
        else:
            super().action_cursor_left()

    def _scroll_columns(self, step: int) -> None:
        widths = [column.get_render_width(self) for column in self.ordered_columns[self.fixed_columns :]]
        edges = [0, *accumulate(widths)]
        if step > 0:
            target = next((edge for edge in edges if edge > self.scroll_x), self.scroll_x)
        else:
            target = next((edge for edge in reversed(edges) if edge < self.scroll_x), 0)
        self.scroll_to(x=target, animate=False)
