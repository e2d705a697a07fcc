"""A table that moves with vim's keys too, shows and scrolls whole columns, and says what enter does."""

from __future__ import annotations

from itertools import accumulate
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.strip import Strip
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

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Grey `enter` where there is no row."""
        if action == "select_cursor" and not self.row_count:
            return None
        return super().check_action(action, parameters)

    def render_line(self, y: int) -> Strip:
        """Return a line, blank where only a part of a column is in sight: half a number is a wrong number."""
        strip = super().render_line(y)
        left, width = self._get_fixed_offset().left, strip.cell_length
        edges = [left + edge - round(self.scroll_x) for edge in self._edges()]
        inside = [edge for edge in edges if left <= edge <= width]
        if len(inside) < 2 or (inside[0] == left and (inside[-1] == width or edges[-1] <= width)):
            return strip
        last = next(iter(reversed(list(strip.crop(inside[0], inside[-1])))), None)
        behind = Style(bgcolor=last.style.bgcolor) if last is not None and last.style else None
        return Strip.join(
            [
                strip.crop(0, left),
                Strip.blank(inside[0] - left, behind),
                strip.crop(inside[0], inside[-1]),
                Strip.blank(width - inside[-1], behind),
            ]
        )

    @property
    def whole_width(self) -> int:
        """The cells that all columns take, with the scroll bar's."""
        return self._get_fixed_offset().left + self._edges()[-1] + self.styles.scrollbar_size_vertical

    def _edges(self) -> list[int]:
        """Return where the columns that scroll begin, counted from the first, and where the last one ends."""
        widths = [column.get_render_width(self) for column in self.ordered_columns[self.fixed_columns :]]
        return [0, *accumulate(widths)]

    def _scroll_columns(self, step: int) -> None:
        edges = self._edges()
        if step > 0:
            target = next((edge for edge in edges if edge > self.scroll_x), self.scroll_x)
        else:
            target = next((edge for edge in reversed(edges) if edge < self.scroll_x), 0)
        self.scroll_to(x=target, animate=False)
