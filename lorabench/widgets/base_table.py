"""The table of an adapter's layers against the weights of its base model."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.text import Text

from lorabench.spectra.base_analysis import Comparison
from lorabench.spectra.base_columns import SHOWN_COLUMNS, BaseColumn
from lorabench.widgets.layer_table import before_depth, short_module, two_lines
from lorabench.widgets.row_table import RowTable

WIDEST = 60


class BaseTable(RowTable):
    """One row a layer; the modules' names without what they all begin with."""

    def __init__(self) -> None:
        super().__init__(
            id="base-table", cursor_type="row", zebra_stripes=True, fixed_columns=2, header_height=2
        )

    def show(self, comparisons: Sequence[Comparison]) -> None:
        """Show these layers, the cursor in the row where it was."""
        row = self.cursor_row
        short = len({before_depth(c.layer.name) for c in comparisons}) == 1
        texts = [[_text(column, c, short=short) for c in comparisons] for column in SHOWN_COLUMNS]
        self.clear(columns=True)
        for column, cells in zip(SHOWN_COLUMNS, texts, strict=True):
            title = two_lines(column.title)
            width = max(map(cell_len, [*title.split("\n"), *cells, "  "]))
            self.add_column(_aligned(title, column), width=min(width, WIDEST))
        for row_texts in zip(*texts, strict=True):
            self.add_row(*map(_aligned, row_texts, SHOWN_COLUMNS))
        self.move_cursor(row=row)


def _text(column: BaseColumn, comparison: Comparison, *, short: bool) -> str:
    text = column.text(comparison)
    return short_module(text) if short and column.name == "module" else text


def _aligned(text: str, column: BaseColumn) -> Text:
    """Return a cell's text, numbers at the right."""
    return Text(text, justify="right" if column.numeric else "left", no_wrap=True)
