"""Screen 1: what is in this folder."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.console import JustifyMethod
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.markup import escape
from textual.widgets import DataTable, Static
from textual.worker import get_current_worker

from lorabench.errors import LorabenchError
from lorabench.runs.history import RUN_FILE
from lorabench.screens.facts import dash, facts_of, facts_table, previewed, targets_text
from lorabench.screens.work_screen import WorkScreen
from lorabench.text import shorten, visible
from lorabench.widgets.filter_line import FilterLine
from lorabench.widgets.row_table import RowTable

if TYPE_CHECKING:
    from lorabench.screens.listing import Row
    from lorabench.spectra.report import Summary

PREVIEW_PAUSE = 0.1
STATE_MARKS = {
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
COLUMN_WIDTHS = {"state": 12, "r": 4, "targets": 11, "step": 5, "loss": 5, "α": 4}
JUSTIFY: tuple[JustifyMethod, ...] = ("left", "left", "right", "left", "right", "right", "right")


class BenchScreen(WorkScreen):
    """The runs and adapters of the folder, and what is known of the one under the cursor."""

    mode = "bench"
    HELP = """
Every run and adapter in the folder, at any depth; checkpoints stand beneath their run.

- **state**: what the run's own files say (`events.jsonl`, or `trainer_state.json` of a checkpoint);
  *unfinished* is a run that has started and not ended; an *adapter* is weights without a run.
- **r** and **targets**: from `adapter_config.json`.
- **step**, **loss**: the last that was logged.
- **α**: mean power-law exponent of the layers whose alpha could be fitted; `·` while it is being
  computed, `—` where no layer has one. Files over 256 MB and pickles are analysed when you open them.

`enter` opens an adapter: its layers (4), and the pictures of a layer (5). A run that has no adapter yet
opens its configuration (2); `n` makes a new run.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "slash",
            "filter",
            "filter",
            key_display="/",
            id="bench.filter",
            tooltip="show only matching names",
        ),
        Binding(
            "y", "copy", "copy path", id="bench.copy", tooltip="copy the path to the terminal's clipboard"
        ),
        Binding("f5,r", "reload", "reload", show=False, id="bench.reload", tooltip="read the folder again"),
        Binding("n", "new", "new", id="bench.new", tooltip="make a new run and open its configuration"),
        Binding(
            "2", "config", "Config", show=False, id="bench.config", tooltip="the configuration of this run"
        ),
        Binding("o", "samples", "samples", id="bench.samples", tooltip="show the sample adapters"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []
        self.summaries: dict[Row, Summary | LorabenchError] = {}
        self.wanted = ""
        self.begun = False

    def body(self) -> ComposeResult:
        yield FilterLine("part of a name")
        with Horizontal(id="bench"):
            table = RowTable(id="runs", cursor_type="row", zebra_stripes=True)
            table.border_title = "runs and adapters"
            yield table
            with VerticalScroll(id="detail") as detail:
                detail.border_title = "reading the folder …"
                detail.can_focus = False
                yield Static(id="facts")

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one(DataTable).focus()
        self.call_after_refresh(self.reload)

    def reload(self) -> None:
        """Read the folder again, in a thread."""
        self.summaries.clear()
        self.refresh_top()
        self.run_in_thread(self.read_folder, "folder")

    action_reload = reload

    def read_folder(self) -> None:
        """List the folder, then analyse what is small, one adapter after another (in the thread)."""
        from lorabench.adapters.open import open_adapter
        from lorabench.screens.listing import list_folder
        from lorabench.spectra.analysis import spectra_of
        from lorabench.spectra.report import summarize

        worker = get_current_worker()
        rows = list_folder(self.workbench.folder)
        self.app.call_later(self.fill, rows)
        for row in filter(previewed, rows):
            # What the user has opened comes first.
            while self.analysis.busy and not worker.is_cancelled:
                time.sleep(PREVIEW_PAUSE)
            if worker.is_cancelled:
                return
            try:
                outcome: Summary | LorabenchError = summarize(list(spectra_of(open_adapter(row.path))))
            except LorabenchError as error:
                outcome = error
            self.app.call_later(self.add_summary, row, outcome)

    def fill(self, rows: list[Row]) -> None:
        """Show the rows; a folder that is one adapter and nothing else is opened at once."""
        first, self.begun = not self.begun, True
        self.rows = rows
        self.refill()
        if first and [row.path for row in rows if row.location] == [self.workbench.folder]:
            self.open_row()

    def refill(self) -> None:
        """Write the table anew: after reading, filtering, or a change of width."""
        table = self.query_one(DataTable)
        at = table.cursor_row
        table.clear(columns=True)
        rest = sum(COLUMN_WIDTHS.values()) + 2 * len(COLUMN_WIDTHS)
        name_width = max(16, table.size.width - rest - 3)
        for (title, width), justify in zip(
            {"name": name_width, **COLUMN_WIDTHS}.items(), JUSTIFY, strict=True
        ):
            table.add_column(Text(title, justify=justify), width=width, key=title)
        for row in self.shown_rows():
            table.add_row(*self.cells(row, name_width), key=str(self.rows.index(row)))
        table.move_cursor(row=at)
        table.border_subtitle = (
            f"{table.row_count} of {len(self.rows)}" if self.wanted else f"{len(self.rows)}"
        )
        self.show_detail()

    def shown_rows(self) -> list[Row]:
        """The rows whose path contains what is looked for."""
        return [row for row in self.rows if self.wanted.lower() in str(row.path).lower()]

    def cells(self, row: Row, name_width: int) -> list[Text]:
        """The cells of a row; whatever comes from a file is shown as plain text."""
        location, history = row.location, row.history
        indent = "  " * row.depth
        values = [
            indent + shorten(visible(row.name), name_width - len(indent)),
            STATE_MARKS[row.state],
            dash(location.rank if location else None),
            shorten(targets_text(row), COLUMN_WIDTHS["targets"]),
            dash(history.step if history else None),
            dash(history.loss if history else None, ".3f"),
            self.alpha_text(row),
        ]
        return [
            Text(value, no_wrap=True, justify=justify) for value, justify in zip(values, JUSTIFY, strict=True)
        ]

    def alpha_text(self, row: Row) -> str:
        """The mean alpha, a dot while it is to come, a dash where there is none."""
        summary = self.summaries.get(row)
        if summary is None:
            return "·" if previewed(row) else "—"
        return (
            "—"
            if isinstance(summary, LorabenchError)
            else dash(summary.alpha.mean if summary.alpha else None, ".2f")
        )

    def add_summary(self, row: Row, outcome: Summary | LorabenchError) -> None:
        """Fill in the mean alpha of a row."""
        if row not in self.rows:
            return
        self.summaries[row] = outcome
        table = self.query_one(DataTable)
        key = str(self.rows.index(row))
        if key in table.rows:
            table.update_cell(key, "α", Text(self.alpha_text(row), justify="right"))
        if row == self.current_row:
            self.show_detail()

    @property
    def current_row(self) -> Row | None:
        """The row under the cursor."""
        shown = self.shown_rows()
        at = self.query_one(DataTable).cursor_row
        return shown[at] if 0 <= at < len(shown) else None

    @on(DataTable.RowHighlighted)
    def show_detail(self) -> None:
        """Write what is known of the row under the cursor."""
        row = self.current_row
        panel = self.query_one("#detail")
        facts = self.query_one("#facts", Static)
        if row is None:
            panel.border_title = "nothing here"
            facts.update(Text(self.empty_text()))
            return
        panel.border_title = escape(visible(row.name))
        facts.update(facts_table(facts_of(row, self.summaries.get(row))))

    def empty_text(self) -> str:
        """What to do where nothing is listed."""
        if self.rows:
            return f"No name contains “{visible(self.wanted)}”. Esc in the filter shows all."
        return "There is no run and no adapter in this folder.\n\nPress o to look at the sample adapters."

    @on(DataTable.RowSelected)
    def open_row(self) -> None:
        """Open the adapter under the cursor."""
        row = self.current_row
        if row is None:
            self.notify(self.empty_text(), markup=False)
        elif row.location is not None:
            self.workbench.open_adapter(row.path)
        elif (row.path / RUN_FILE).is_file():
            self.workbench.open_config(row.path / RUN_FILE)
        else:
            what = (
                "A folder: choose an adapter in it."
                if row.history is None
                else "This run has neither an adapter yet nor a run.yaml."
            )
            self.notify(what, severity="warning", markup=False)

    async def action_config(self) -> None:
        """Open the configuration of the run under the cursor, or show the one that is open."""
        row = self.current_row
        if row is not None and (row.path / RUN_FILE).is_file():
            self.workbench.open_config(row.path / RUN_FILE)
        else:
            await self.run_action("app.show('config')")

    def action_new(self) -> None:
        """Ask for a folder and a preset, make the run, and open its configuration."""
        from lorabench.screens.new_run import NewRunDialog

        def made(path: Path | None) -> None:
            if path is not None:
                self.reload()
                self.workbench.open_config(path)

        self.app.push_screen(NewRunDialog(self.workbench.folder), made)

    def action_filter(self) -> None:
        """Ask for a part of a name."""
        self.query_one(FilterLine).ask()

    @on(FilterLine.Changed)
    def apply_filter(self, event: FilterLine.Changed) -> None:
        """Show only the rows that match."""
        self.wanted = event.text.strip()
        self.refill()

    def action_copy(self) -> None:
        """Copy the path of the row under the cursor."""
        row = self.current_row
        if row is not None:
            self.copy(shlex.quote(str(row.path)), "the path")

    def action_samples(self) -> None:
        """Show the sample adapters."""
        self.workbench.open_samples()

    def on_resize(self) -> None:
        self.call_after_refresh(self.refill)
