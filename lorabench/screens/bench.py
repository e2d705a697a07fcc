"""Screen 1: what is in this folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import DataTable, Static
from textual.worker import get_current_worker

from lorabench.errors import LorabenchError
from lorabench.runs.history import read_news
from lorabench.screens.facts import facts_of, facts_table, running_text
from lorabench.screens.folder_look import FolderLook
from lorabench.screens.preview import preview, previewed
from lorabench.screens.row_actions import RowActions
from lorabench.screens.run_table import RunTable
from lorabench.screens.work_screen import WorkScreen
from lorabench.text import visible
from lorabench.widgets.filter_line import FilterLine

if TYPE_CHECKING:
    from lorabench.runs.history import History
    from lorabench.screens.listing import Row
    from lorabench.spectra.report import Summary
    from lorabench.widgets.loss_chart import LossCurve

PREVIEW_PAUSE = 0.1
NEWS_SECONDS = 2.0
TWO_HALVES = 76


class BenchScreen(RowActions):
    """The runs and adapters of the folder, and what is known of the one under the cursor."""

    mode = "bench"
    HELP = """
Every run and adapter in the folder, at any depth; checkpoints stand beneath their run.

- **state**: what the run's own files say (`events.jsonl`, or `trainer_state.json` of a checkpoint);
  *training* is a run whose process lives, here or on another machine; *unfinished* one that has started
  and not ended; an *adapter* is weights without a run.
- **r** and **targets**: from `adapter_config.json`.
- **step**, **loss**: the last that was logged.
- **‖ΔW‖**, **α**: size of the whole update, and mean power-law exponent of the layers whose alpha could be
  fitted; `·` is being computed, `—` where there is none, `↵` when you open it: files over 256 MB and pickles.

`enter` opens an adapter: its layers (4), and the pictures of a layer (5). A run in training is watched (3),
and one that has no adapter yet opens its configuration (2). `t` trains a run, `w` shows how its training
went, `n` makes a new run.

`2` opens the configuration of the run under the cursor, of a checkpoint that of its run. `3` shows that run,
unless you have chosen one by `enter`, `w` or `t`; `4`, `5` and `6` its adapter, unless you have opened one by
`enter`. A folder that changes is read again by itself.
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
        Binding("escape", "unfilter", "no filter", show=False, id="bench.unfilter"),
        Binding("n", "new", "new", id="bench.new", tooltip="make a new run and open its configuration"),
        Binding("o", "samples", "samples", id="bench.samples", tooltip="show the sample adapters"),
        Binding("f5,r", "reload", "reload", id="bench.reload", tooltip="read the folder again"),
        Binding("y", "copy", "copy path", id="bench.copy", tooltip="copy the path (OSC 52)"),
        Binding("s", "save", "save", id="screen.save", tooltip="save a picture"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []
        self.look: FolderLook | None = None  # none while the folder is being listed
        self.curve: LossCurve | None = None
        self.wanted = ""
        self.begun = False

    def body(self) -> ComposeResult:
        yield FilterLine("part of a name")
        with Horizontal(id="bench"):
            yield RunTable()
            with VerticalScroll(id="detail") as detail:
                detail.border_title = "reading the folder …"
                detail.can_focus = False
                yield Static(id="facts")

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one(DataTable).focus()
        self.reload()
        self.set_interval(NEWS_SECONDS, self.ask_for_news)

    def reload(self) -> None:
        """Read the folder again, in a thread."""
        self.table.summaries.clear()
        self.look = None
        self.refresh_top()
        self.run_in_thread(self.read_folder, "folder")

    action_reload = reload

    def read_folder(self) -> None:
        """List the folder (in the thread)."""
        from lorabench.screens.listing import list_folder

        look = FolderLook(self.workbench.folder)
        rows = list_folder(self.workbench.folder)
        look.listed(rows)
        self.tell(self.fill, rows, look)

    def preview_rows(self) -> None:
        """Analyse what is small, one adapter after another (in the thread)."""
        worker = get_current_worker()
        for row in filter(previewed, self.rows):
            if row.path in self.table.summaries:
                continue
            # What the user has opened comes first.
            while self.analysis.busy and not worker.is_cancelled:
                time.sleep(PREVIEW_PAUSE)
            if worker.is_cancelled:
                return
            self.tell(self.add_summary, row.path, preview(row.path))

    def tell(self, show: Callable[..., None], *found: object) -> None:
        """Let `show` show what a thread has found, unless the screen is being taken down by then."""

        def show_it() -> None:
            if not self.workbench.ending:
                show(*found)

        self.app.call_later(show_it)

    def fill(self, rows: list[Row], look: FolderLook) -> None:
        """Show the rows, and look into them once they are painted: that imports numpy first."""
        self.rows, self.look = rows, look
        self.refill()
        self.tell_what_runs()
        self.call_after_refresh(self.look_into_rows)

    def look_into_rows(self) -> None:
        """Analyse what is small; a folder that is one adapter and nothing else is opened at once."""
        first, self.begun = not self.begun, True
        self.run_in_thread(self.preview_rows, "folder")
        if first and [row.path for row in self.rows if row.location] == [self.workbench.folder]:
            self.open_row()

    def ask_for_news(self) -> None:
        """Look, in a thread, for what has changed in the runs that are listed, and in the folder."""
        if self.look is not None and not any(
            worker.group == "news" for worker in self.workers if worker.is_running
        ):
            self.run_in_thread(self.read_news, "news")

    def read_news(self) -> None:
        """Read the history of the runs whose events or owner have changed (in the thread)."""
        runs = [(row.path, row.history) for row in self.rows if row.history is not None]
        told = {path: read_news(path, history) for path, history in runs if history.state != "checkpoint"}
        news = {path: history for path, history in told.items() if history is not None}
        if news:
            self.tell(self.show_news, news)
        changed = self.look.changed() if self.look is not None else set()
        if changed:
            self.tell(self.list_anew, changed)

    def list_anew(self, changed: set[Path]) -> None:
        """List the folder again: these folders and files in it were written since."""
        for row in self.rows:
            if row.location is not None and not changed.isdisjoint(row.location.files):
                self.table.summaries.pop(row.path, None)
        self.look = None
        self.run_in_thread(self.read_folder, "folder")

    def show_news(self, news: dict[Path, History]) -> None:
        """Rewrite the rows of these runs; where a training has ended or saved, list the folder anew."""
        from lorabench.screens.listing import renewed

        self.rows, more = renewed(self.rows, news)
        for row in self.rows:
            if row.path in news:
                self.table.renew(row)
        self.tell_what_runs()
        if self.current_row is not None and self.current_row.path in news:
            self.show_detail()
        if more:
            self.table.forget(more)
            self.look = None
            self.run_in_thread(self.read_folder, "folder")

    def tell_what_runs(self) -> None:
        """Put the run that goes on into the top line."""
        self.workbench.running = running_text(self.rows)
        screen = self.app.screen
        if isinstance(screen, WorkScreen):
            screen.refresh_top()

    def refill(self) -> None:
        """Write the table anew: after reading, filtering, or a change of width."""
        wanted = self.wanted.lower()
        shown = [row for row in self.rows if wanted in str(row.path).lower()]
        self.table.show(shown, len(self.rows))
        self.show_detail()
        self.refresh_bindings()

    def add_summary(self, path: Path, outcome: Summary | LorabenchError) -> None:
        """Fill in what the analysis of an adapter gave."""
        self.table.add_summary(path, outcome)
        if self.current_row is not None and self.current_row.path == path:
            self.show_detail()

    @property
    def table(self) -> RunTable:
        """The table of runs and adapters."""
        return self.query_one(RunTable)

    def show_analysis(self) -> None:
        """Take over what was computed of the adapter that is open."""
        if self.analysis.state == "done" and self.analysis.path is not None:
            from lorabench.spectra.report import summarize

            self.add_summary(self.analysis.path, summarize(self.analysis.spectra["ΔW"]))

    @property
    def current_row(self) -> Row | None:
        return self.table.current

    @on(DataTable.RowHighlighted)
    def show_detail(self) -> None:
        """Write what is known of the row under the cursor."""
        row = self.current_row
        panel = self.query_one("#detail")
        facts = self.query_one("#facts", Static)
        if row is None:
            panel.border_title = "nothing here"
            facts.update(Text(self.empty_text()))
            if self.curve is not None:
                self.curve.display = False
            return
        panel.border_title = Content(visible(row.name))
        told = facts_of(row, self.table.summaries.get(row.path))
        halves = self.size.width >= TWO_HALVES and not self.has_class("-roomy")
        facts.update(facts_table(told, halves=halves))
        self.show_curve(row)

    def show_curve(self, row: Row) -> None:
        """Draw the losses of a run, where there is room for more than a line of them."""
        losses = row.history.losses if row.history is not None and self.has_class("-roomy") else ()
        if losses and self.curve is None:
            from lorabench.widgets.loss_chart import LossCurve

            self.curve = LossCurve()
            self.query_one("#detail").mount(self.curve)
        if self.curve is not None:
            self.curve.show_losses(losses)

    def empty_text(self) -> str:
        if self.rows:
            return f"No name contains “{visible(self.wanted)}”. Esc in the filter shows all."
        todo = "Press o to look at the sample adapters, n to make a new run."
        return f"There is no run and no adapter in this folder.\n\n{todo}"

    def action_new(self) -> None:
        """Ask for a folder and a preset, make the run, and open its configuration."""
        from lorabench.screens.new_run import NewRunDialog

        def made(path: Path | None) -> None:
            if path is not None:
                self.reload()
                self.workbench.open_config(path)

        self.app.push_screen(NewRunDialog(self.workbench.folder), made)

    @on(FilterLine.Changed)
    def apply_filter(self, event: FilterLine.Changed) -> None:
        """Show only the rows that match."""
        self.wanted = event.text.strip()
        self.refill()

    def action_samples(self) -> None:
        """Show the sample adapters."""
        self.workbench.open_samples()

    @on(RunTable.Resized)
    def fit_names(self) -> None:
        """Give the names the room that there is now."""
        self.refill()
