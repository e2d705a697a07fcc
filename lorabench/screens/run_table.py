"""The table of the bench: one line a run, an adapter or a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import JustifyMethod
from rich.text import Text
from textual.message import Message

from lorabench.errors import LorabenchError
from lorabench.screens.facts import dash, targets_text
from lorabench.screens.preview import previewed
from lorabench.text import shorten, visible
from lorabench.widgets.row_table import RowTable

if TYPE_CHECKING:
    from lorabench.screens.listing import Row
    from lorabench.spectra.report import Summary

STATE_MARKS = {
    "training": "● training",
    "finished": "✔ finished",
    "stopped": "■ stopped",
    "failed": "✘ failed",
    "unfinished": "▲ unfinished",
    "configured": "○ configured",
    "checkpoint": "· checkpoint",
    "adapter": "  adapter",
    "folder": "▾ folder",
    "unreadable": "✘ unreadable",
}
COMING = "·"
ON_ENTER = "↵"
TARGETS_WIDTH = 10
WIDE = 90
# Where the table itself is so wide, all of the usual targets are named.
ROOMY = 100
ALL_TARGETS_WIDTH = 24
MOST_MENDED = 50


class Title(NamedTuple):
    """A column: its title, width and side; `wide` ones are left out of a narrow terminal."""

    name: str
    width: int
    justify: JustifyMethod = "right"
    wide: bool = False


TITLES = (
    Title("name", 0, "left"),
    Title("state", 12, "left"),
    Title("r", 4),
    Title("targets", TARGETS_WIDTH, "left"),
    Title("step", 5),
    Title("loss", 5),
    Title("‖ΔW‖", 6, wide=True),
    Title("α", 4),
)


class RunTable(RowTable):
    """Rows of a folder, filled in as their adapters are analysed."""

    class Resized(Message):
        """There is more or less room than the names were fitted into."""

    def __init__(self) -> None:
        super().__init__(id="runs", cursor_type="row", zebra_stripes=True)
        self.border_title = "runs and adapters"
        self.shown: list[Row] = []
        self.places: dict[Path, int] = {}  # of the rows that are shown
        self.written: dict[Path, tuple[object, ...]] = {}  # by row, what its cells were written from
        self.titles: tuple[Title, ...] = TITLES
        self.name_width = 16
        self._fitted: int | None = None
        self.summaries: dict[Path, Summary | LorabenchError] = {}

    def on_resize(self) -> None:
        if self._fitted not in (None, self.size.width):
            self.post_message(self.Resized())

    def show(self, rows: Sequence[Row], total: int) -> None:
        """Show these rows: after reading, filtering, or a change of width."""
        at, on = self.cursor_row, self.current
        look = self.titles, self.name_width
        self.titles = tuple(title for title in TITLES if self.size.width >= WIDE or not title.wide)
        if self.size.width >= ROOMY:
            self.titles = tuple(
                title._replace(width=ALL_TARGETS_WIDTH) if title.name == "targets" else title
                for title in self.titles
            )
        taken = sum(title.width + 2 for title in self.titles)
        self._fitted = self.size.width
        self.name_width = max(16, self._fitted - taken - 1)
        self.shown = list(rows)
        self.places = {row.path: at for at, row in enumerate(self.shown)}
        if look != (self.titles, self.name_width) or not self._mended():
            self._write()
        self.move_cursor(row=at if on is None else self.places.get(on.path, at))
        self.border_subtitle = f"{len(self.shown)} of {total}" if len(self.shown) < total else str(total)

    def _write(self) -> None:
        self.clear(columns=True)
        for title in self.titles:
            heading = Text(title.name, justify=title.justify)
            self.add_column(heading, width=title.width or self.name_width, key=title.name)
        for row in self.shown:
            self.add_row(*self.cells(row), key=str(row.path))
        self.written = {row.path: self._known(row) for row in self.shown}

    def _mended(self) -> bool:
        """Bring the lines that differ up to date; False where they are too many, or none is written yet.

        To write ten thousand lines anew takes four seconds, in which no key is heard.
        """
        gone = self.written.keys() - {row.path for row in self.shown}
        fresh = [row for row in self.shown if row.path not in self.written]
        if not self.written or len(gone) + len(fresh) > MOST_MENDED:
            return False
        for path in gone:
            self.remove_row(str(path))
            del self.written[path]
        for row in fresh:
            self.add_row(*self.cells(row), key=str(row.path))
            self.written[row.path] = self._known(row)
        for row in self.shown:
            if self.written[row.path] != self._known(row):
                self._rewrite(row)
        if fresh:
            first = self.titles[0].name
            places = {id(self.get_cell(str(row.path), first)): at for at, row in enumerate(self.shown)}
            self.sort(first, key=lambda cell: places[id(cell)])
        return True

    def _known(self, row: Row) -> tuple[object, ...]:
        """All that the cells of a row hang on."""
        summary = self.summaries.get(row.path)
        return row.name, row.depth, row.location, row.history, row.size, row.config, row.problem, summary

    @property
    def current(self) -> Row | None:
        """The row under the cursor."""
        return self.shown[self.cursor_row] if 0 <= self.cursor_row < len(self.shown) else None

    def add_summary(self, path: Path, outcome: Summary | LorabenchError) -> None:
        """Fill in what the analysis of an adapter gave."""
        self.summaries[path] = outcome
        if path in self.places:
            self.renew(self.shown[self.places[path]])

    def forget(self, folders: Iterable[Path]) -> None:
        """Forget what the analysis gave of the adapters in these folders: they have changed."""
        changed = set(folders)
        for path in [path for path in self.summaries if not changed.isdisjoint((path, *path.parents))]:
            del self.summaries[path]

    def renew(self, row: Row) -> None:
        """Write the cells of a row of which something is new."""
        if row.path in self.places:
            self.shown[self.places[row.path]] = row
        if row.path in self.written:
            self._rewrite(row)

    def _rewrite(self, row: Row) -> None:
        self.written[row.path] = self._known(row)
        for title, cell in zip(self.titles, self.cells(row), strict=True):
            if self.get_cell(str(row.path), title.name) != cell:
                self.update_cell(str(row.path), title.name, cell)

    def cells(self, row: Row) -> list[Text]:
        """The cells of a row; whatever comes from a file is shown as plain text."""
        texts = self._texts(row)
        return [Text(texts[title.name], no_wrap=True, justify=title.justify) for title in self.titles]

    def _texts(self, row: Row) -> dict[str, str]:
        history = row.history
        summary = self.summaries.get(row.path)
        going = row.state == "training"  # what an adapter was that lay there before is not what it is now
        read = summary if not isinstance(summary, LorabenchError) and not going else None
        broken = isinstance(summary, LorabenchError) and not going
        indent = "  " * row.depth
        targets_width = next(title.width for title in self.titles if title.name == "targets")
        unknown = self._unknown(row)
        return {
            "name": indent + shorten(visible(row.name), self.name_width - len(indent)),
            "state": STATE_MARKS["unreadable" if broken else row.state],
            "r": dash(row.rank),
            "targets": targets_text(row, targets_width),
            "step": dash(history.step if history else None),
            "loss": dash(history.loss if history else None, ".3f"),
            "‖ΔW‖": unknown if read is None else dash(read.norm, ".4g"),
            "α": unknown if read is None else dash(read.alpha.mean if read.alpha else None, ".2f"),
        }

    def _unknown(self, row: Row) -> str:
        """What stands for a number: to come by itself, to come on enter, or none."""
        nothing = row.location is None or not row.location.files or row.state == "training"
        if row.path in self.summaries or nothing:
            return dash(None)
        return COMING if previewed(row) else ON_ENTER
