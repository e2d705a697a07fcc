"""What the keys of the bench do with the row under the cursor."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.widgets import DataTable

from lorabench.files import is_file
from lorabench.runs.events import EVENTS_FILE
from lorabench.runs.history import RUN_FILE
from lorabench.screens.work_screen import WorkScreen

if TYPE_CHECKING:
    from lorabench.screens.listing import Row


class RowActions(WorkScreen):
    """Open, train, watch and configure what belongs to a row."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "train", "train", id="bench.train", tooltip="train this run, or go on with it"),
        Binding("w", "watch", "watch", id="bench.watch", tooltip="show how this run trains"),
        Binding(
            "2", "config", "Config", show=False, id="bench.config", tooltip="the configuration of this run"
        ),
        Binding("3", "run", "Train", show=False, id="bench.run", tooltip="this run, or the one you watch"),
        *(
            Binding(key, f"adapter('{mode}')", mode.capitalize(), show=False, id=f"bench.{mode}", tooltip=of)
            for key, mode, of in (
                ("4", "layers", "the table of this adapter's layers"),
                ("5", "spectra", "the pictures of this adapter"),
                ("6", "base", "this adapter against its base model"),
            )
        ),
    ]

    def __init__(self) -> None:
        super().__init__()
        # What was opened because the cursor was on it, and not by hand: the cursor's next row may replace it.
        self.followed_run: Path | None = None
        self.followed_adapter: Path | None = None

    @property
    def current_row(self) -> Row | None:
        """The row under the cursor."""
        raise NotImplementedError

    def empty_text(self) -> str:
        """What to do where nothing is listed."""
        raise NotImplementedError

    @on(DataTable.RowSelected)
    def open_row(self) -> None:
        """Watch the run under the cursor if it trains; else open its adapter, or what else it has."""
        row = self.current_row
        if row is None:
            self.notify(self.empty_text(), markup=False)
        elif row.state == "training":
            self.watch_by_hand(row.path)
        elif row.location is not None:
            self.followed_adapter = None
            self.workbench.open_adapter(row.path)
        elif is_file(row.path / RUN_FILE):
            self.workbench.open_config(row.path / RUN_FILE)
        elif is_file(row.path / EVENTS_FILE):
            self.watch_by_hand(row.path)
        else:
            what = (
                "A folder: choose an adapter in it." if row.history is None else "There is no adapter here."
            )
            self.notify(what, severity="warning", markup=False)

    def action_train(self) -> None:
        """Train the run under the cursor."""
        row = self.current_row
        if row is not None and is_file(row.run / RUN_FILE):
            self.followed_run = None
            self.workbench.train_run(row.run)
        else:
            self.notify("There is no run.yaml here to train. Press n for a new run.", severity="warning")

    def action_watch(self) -> None:
        """Show how the run under the cursor trains, or trained."""
        row = self.current_row
        if row is not None and row.recorded:
            self.watch_by_hand(row.run)
        else:
            self.notify("No training has been recorded here.", severity="warning")

    def watch_by_hand(self, run: Path) -> None:
        """Watch a run that the user asked for: it stays when the cursor moves."""
        self.followed_run = None
        self.workbench.watch_run(run)

    async def action_config(self) -> None:
        """Open the configuration of the run under the cursor, never another's: one would take it for this."""
        row = self.current_row
        if row is None:
            await self.run_action("app.show('config')")
        elif is_file(row.run / RUN_FILE):
            self.workbench.open_config(row.run / RUN_FILE)
        else:
            self.notify("There is no run.yaml here to open. Press n for a new run.", severity="warning")

    async def action_run(self) -> None:
        """Show the run under the cursor, unless another one is watched by hand."""
        row = self.current_row
        free = self.workbench.run_folder in (None, self.followed_run)
        if free and row is not None and (row.recorded or is_file(row.run / RUN_FILE)):
            self.followed_run = row.run
            self.workbench.watch_run(row.run)
        else:
            await self.run_action("app.show('train')")

    async def action_adapter(self, mode: str) -> None:
        """Show the adapter under the cursor, unless another one is opened by hand."""
        row = self.current_row
        free = self.analysis.path in (None, self.followed_adapter)
        if free and row is not None and row.location is not None and row.path != self.analysis.path:
            self.followed_adapter = row.path
            self.analysis.open(row.path)
        await self.run_action(f"app.show('{mode}')")

    def action_copy(self) -> None:
        """Copy the path of the row under the cursor."""
        row = self.current_row
        if row is not None:
            self.copy(shlex.quote(str(row.path)), "the path")
