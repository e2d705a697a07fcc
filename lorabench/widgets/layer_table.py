"""The table of layers: rows fill in as their spectra come."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from rich.cells import cell_len
from rich.text import Text

from lorabench.adapters.model import LoraLayer
from lorabench.spectra.columns import MISSING, Column
from lorabench.spectra.model import LayerSpectrum, Verdict, VerdictWord
from lorabench.widgets.row_table import RowTable

# More rows than this make the table slow to fill; the filter finds the rest.
MOST_ROWS = 2_000
PENDING = "…"
VERDICT_MARKS: dict[VerdictWord, str] = {
    "well-formed": "●",
    "heavy-tailed": "▲",
    "random-like": "≈",
    "undecided": "?",
    "dead": "○",
    "unreadable": "✘",
}
VERDICT_COLOURS: dict[VerdictWord, str] = {
    "well-formed": "text-success",
    "heavy-tailed": "text-warning",
    "random-like": "text-primary",
    "undecided": "foreground",
    "dead": "text-error",
    "unreadable": "text-error",
}


def pending(layer: LoraLayer) -> LayerSpectrum:
    """Return a row for a layer whose spectrum is still to come: what its header tells, and no numbers."""
    return LayerSpectrum.without_numbers(layer, "ΔW", Verdict("undecided", "Not computed yet."))


class LayerTable(RowTable):
    """Columns of `lorabench.spectra.columns` over spectra, some of them still pending."""

    def __init__(self, id: str) -> None:
        super().__init__(
            id=id, cursor_type="row", zebra_stripes=True, fixed_columns=2, header_height=2, cell_padding=0
        )
        self.columns_shown: tuple[Column, ...] = ()
        self.spectra: list[LayerSpectrum] = []
        self.fitted = False
        self.short_names = False
        self.left_out = 0
        self.is_pending: Callable[[LayerSpectrum], bool] = lambda _spectrum: False

    def show(self, columns: tuple[Column, ...], spectra: Sequence[LayerSpectrum], *, fit: bool) -> None:
        """Show these columns of these layers; only what changed is drawn again.

        `fit` makes the columns as narrow as what they hold: when nothing is pending any more.
        """
        shown = list(spectra[:MOST_ROWS])
        self.left_out = len(spectra) - len(shown)
        if columns == self.columns_shown and fit == self.fitted and _keys(shown) == _keys(self.spectra):
            self._update(shown)
            return
        at, was = self.cursor_row, self.current
        self.clear(columns=True)
        self.columns_shown, self.spectra, self.fitted = columns, shown, fit
        # Without what stands before the depth two of a UNet's blocks would look alike.
        deep = [s.layer.name for s in shown if s.layer.layer_index is not None]
        self.short_names = len({before_depth(name) for name in deep}) == 1
        rows = [[self._cell(column, spectrum) for column in columns] for spectrum in shown]
        for place, column in enumerate(columns):
            title = two_lines(column.title)
            lengths = [row[place].cell_len for row in rows]
            if not fit and column.name != "module":
                lengths.append(column.width)
            width = max([2, *lengths, *map(cell_len, title.split("\n"))])
            # Cells have no padding: a text keeps one column's distance to the number on its left.
            if column.numeric:
                self.add_column(Text(title, justify="right"), width=width + 1)
            else:
                self.add_column(Text(f" {title}"), width=min(width, 60) + 2)
        self.add_rows(rows)
        if shown:
            keys = _keys(shown)
            key = _keys([was])[0] if was else None
            self.move_cursor(row=keys.index(key) if key in keys else min(at, len(shown) - 1))

    def forget(self) -> None:
        """Draw all anew the next time: the theme has changed, or nothing is open."""
        self.clear(columns=True)
        self.columns_shown, self.spectra = (), []

    @property
    def current(self) -> LayerSpectrum | None:
        """The layer under the cursor."""
        return self.spectra[self.cursor_row] if 0 <= self.cursor_row < len(self.spectra) else None

    def _update(self, shown: list[LayerSpectrum]) -> None:
        for row, (old, new) in enumerate(zip(self.spectra, shown, strict=True)):
            if old is not new:
                for at, column in enumerate(self.columns_shown):
                    self.update_cell_at((row, at), self._cell(column, new))  # type: ignore[arg-type]
        self.spectra = shown

    def _cell(self, column: Column, spectrum: LayerSpectrum) -> Text:
        text = column.text(spectrum)
        if self.is_pending(spectrum) and (text == MISSING or column.name == "verdict"):
            text = PENDING
        elif column.name == "verdict":
            return self._verdict(spectrum)
        elif column.name == "module" and self.short_names:
            text = short_module(text)
        return Text(text, justify="right") if column.numeric else Text(f" {text}", no_wrap=True)

    def _verdict(self, spectrum: LayerSpectrum) -> Text:
        """The verdict's mark and word, in its colour: the word says it without."""
        word = spectrum.verdict.word
        colour = self.app.theme_variables[VERDICT_COLOURS[word]]
        return Text(f" {VERDICT_MARKS[word]} {word}", style=colour, no_wrap=True)


def two_lines(title: str) -> str:
    """Return the title broken at the space that makes its longer line shortest."""
    if "[" in title:
        return title.replace(" [", "\n[")
    words = title.split(" ")
    breaks = [(" ".join(words[:at]), " ".join(words[at:])) for at in range(1, len(words))]
    return "\n".join(min(breaks, key=lambda lines: max(map(len, lines)), default=(title,)))


def before_depth(name: str) -> str:
    """Return a module's path up to its layer's number (`model.layers.`), all of it where there is none."""
    return re.split(r"(?<=\.)\d+(?=\.)", name, maxsplit=1)[0]


def short_module(name: str) -> str:
    """Return a module's path after its layer's number, which has a column of its own."""
    after = name.removeprefix(before_depth(name)).partition(".")[2]
    return after or name


def _keys(spectra: Sequence[LayerSpectrum]) -> list[tuple[str, str, str]]:
    return [(s.layer.name, s.layer.adapter, s.part) for s in spectra]
