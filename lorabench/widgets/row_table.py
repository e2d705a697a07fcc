"""A table that moves with vim's keys too, and says what enter does."""

from __future__ import annotations

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
