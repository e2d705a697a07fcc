"""Screen 3: watch a run while it trains, or see how it went."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.message import Message
from textual.widgets import Static
from textual.worker import get_current_worker

from lorabench.errors import LorabenchError
from lorabench.runs.requests import request_checkpoint, request_stop
from lorabench.runs.series import Series
from lorabench.screens.dialogs import ChoiceDialog
from lorabench.screens.train_behind import OtherRun, loss_behind, runs_with_loss
from lorabench.screens.train_status import RunStatus, clock
from lorabench.screens.train_watch import RunWatch
from lorabench.screens.work_screen import WorkScreen
from lorabench.text import visible
from lorabench.widgets.chart import MARK, Chart, Curve, last_step, smoothed
from lorabench.widgets.delta_panel import DeltaPanel
from lorabench.widgets.filter_line import FilterLine
from lorabench.widgets.finding_list import MARKS
from lorabench.widgets.log_pane import LogPane
from lorabench.widgets.meters import Meters

ADAPTER_FILE = "adapter_model.safetensors"
PANELS = ("", "-only-loss", "-only-delta", "-only-log")


class TrainScreen(WorkScreen):
    """Loss, meters, ΔW and log of the run that the application watches."""

    @dataclass
    class Read(Message):
        """What is new in the folder has been read."""

        watch: RunWatch

    mode = "train"
    HELP = """
A run as its folder tells it: this screen follows `events.jsonl` and `output.log`, whoever trains. The line at
the top says who that is; an end of the trainer without a word is said too.

- **Loss**: dots are what was logged, the line is their moving average, `◆` the evaluations. `l` makes the
  axis logarithmic, `o` puts the loss of another run behind. The step axis ends at a half, a quarter, … of all
  steps until the run is beyond.
- **ΔW**: what the adapter adds to the weights, from copies of A and B: size, stable rank and alpha of all
  modules (median), now and at the time before; the modules that grow fastest, and the dead ones (B = 0).
- **Log**: follows the newest line until you scroll. `/` searches, `n` and `N` go from match to match, `f`
  shows only the lines that match, `end` follows again.

`x` asks the trainer to save and stop at its next step, `k` to save a checkpoint. Leaving this screen, or the
workbench, stops nothing.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "freeze", "freeze", id="train.freeze", tooltip="freeze the view; again goes on"),
        Binding("k", "checkpoint", "checkpoint", id="train.checkpoint", tooltip="save a checkpoint now"),
        Binding("x", "stop", "stop", id="train.stop", tooltip="save and stop at the next step; asks first"),
        Binding("t", "train", "train", show=False, id="train.train", tooltip="train this run, or go on"),
        Binding(
            "T",
            "train_anyway",
            "train anyway",
            show=False,
            id="train.anyway",
            tooltip="train in spite of the preflight's errors",
        ),
        Binding("enter", "open", "layers", show=False, id="train.open", tooltip="open the run's adapter"),
        Binding("slash", "filter", "search", key_display="/", id="train.search", tooltip="search the log"),
        Binding("o", "behind", "behind", show=False, id="train.behind", tooltip="another run's loss behind"),
        Binding("l", "log_axis", "log axis", show=False, id="train.log_axis", tooltip="logarithmic loss"),
        Binding("p", "panel", "panel", show=False, id="train.panel", tooltip="one panel alone, or all"),
        Binding("w", "warnings", "warnings", show=False, id="train.warnings", tooltip="all warnings"),
        Binding("y", "copy", "copy", show=False, id="train.copy", tooltip="copy the error, or the path"),
        Binding("escape", "unfilter", "no search", show=False, id="train.unfilter"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.watched: RunWatch | None = None
        self.spectra_of: RunWatch | None = None
        self.behind: Curve | None = None
        self.frozen = self.reading = self.log_axis = False
        self.panel = 0

    def body(self) -> ComposeResult:
        yield RunStatus(id="run-status")
        with VerticalScroll(id="preflight"):
            yield Static()
        with Horizontal(id="watch"):
            with Vertical(id="curves"):
                yield Chart(id="loss")
                yield Meters(id="meters")
            yield DeltaPanel(id="delta")
        yield FilterLine("search the log")
        yield LogPane(id="log")

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one("#loss").border_title = "loss"
        self.query_one("#delta").border_title = "ΔW"
        self.query_one("#log").border_title = "output.log"
        self.query_one(LogPane).focus()
        self.set_interval(self.workbench.refresh_seconds, self.tick)
        self.app.theme_changed_signal.subscribe(self, lambda _: self.call_after_refresh(self.draw))

    def on_screen_resume(self) -> None:
        super().on_screen_resume()
        folder = self.workbench.run_folder
        if folder is not None and (self.watched is None or self.watched.folder != folder):
            self.watched, self.reading, self.frozen = RunWatch(folder), False, False
        self.tick()
        self.draw()

    def tick(self) -> None:
        """Read what is new, and paint; nothing while frozen or while another screen is on top."""
        if self.watched is None or self.frozen or not self.is_current:
            return
        if self.reading:
            self.draw()
        else:
            self.reading = True
            watch = self.watched
            self.run_in_thread(lambda: self.read(watch), "watch")

    def read(self, watch: RunWatch) -> None:
        """Read all that is new, part by part (in the thread)."""
        worker = get_current_worker()
        while watch.read() and not worker.is_cancelled:
            pass
        self.post_message(self.Read(watch))

    @on(Read)
    def show_read(self, message: Read) -> None:
        """Paint what was read, unless another run is watched by now."""
        watch = message.watch
        if watch is not self.watched:
            return
        self.reading = False
        if watch.changed or watch.going:
            watch.changed = False
            self.draw()
        if watch.lacks_spectra and self.spectra_of is not watch:
            self.spectra_of = watch
            self.run_in_thread(lambda: self.read_spectra(watch), "spectra")

    def read_spectra(self, watch: RunWatch) -> None:
        """Compute the spectra of a run's checkpoints (in the thread)."""
        worker = get_current_worker()
        for _ in watch.read_spectra():
            if worker.is_cancelled:
                return
            watch.changed = True

    def on_resize(self) -> None:
        self.call_after_refresh(self.draw)

    def draw(self) -> None:
        """Paint all panels from what is known; a line that has not changed is not sent."""
        watch = self.watched
        self.set_class(watch is None, "-nothing")
        if watch is None:
            self.query_one(RunStatus).show(None)
            return
        with watch.busy:
            self.query_one(RunStatus).show(watch, frozen=self.frozen)
            findings = watch.record.findings if watch.activity == "failed" else []
            self.set_class(bool(findings), "-findings")
            if findings:
                self.show_findings(findings)
            self.draw_loss(watch)
            self.query_one(Meters).show(watch.record)
            self.query_one(DeltaPanel).show(watch.record)
            self.query_one(LogPane).show(watch.tail)

    def draw_loss(self, watch: RunWatch) -> None:
        """Draw the losses."""
        record = watch.record
        curves = [] if self.behind is None else [self.behind]
        loss = record.series.get("loss")
        if loss is not None and loss.last is not None:
            steps, low, high, mean = (np.array(values, float) for values in loss.points())
            means = smoothed(mean)
            curves.append(Curve("train", f"train {loss.last:.4g}", steps, low, high, "⣿"))
            note = f"smoothed {means[-1]:.4g}" if means.size else "smoothed"
            curves.append(Curve("smoothed", note, steps, means, means, "━"))
        chart = self.query_one(Chart)
        end = last_step(float(record.step or 1), record.total_steps)
        chart.show(curves, _marks(record.series.get("eval_loss")), end, log=self.log_axis)

    def show_findings(self, findings: list[dict[str, object]]) -> None:
        """List what the preflight has found, and what to do."""
        text = Text("The preflight has found errors. T trains anyway, 2 mends the configuration.\n\n")
        marks = {str(level): mark for level, mark in MARKS.items()}
        for finding in findings:
            level = str(finding.get("level", ""))
            text.append(f"{marks.get(level, '·')} {visible(finding.get('check', ''))}  ", "bold")
            text.append(f"{visible(finding.get('message', ''))}\n")
        self.query_one("#preflight Static", Static).update(text)

    def action_freeze(self) -> None:
        """Let the view stand still, or go on."""
        self.frozen = not self.frozen
        self.draw()
        self.tick()

    def action_checkpoint(self) -> None:
        """Ask the trainer for a checkpoint."""
        if self.watched is not None and self.when_going():
            try:
                request_checkpoint(self.watched.folder)
            except LorabenchError as error:
                self.notify(str(error), severity="error", markup=False)
            else:
                self.notify("a checkpoint is saved at the next step", markup=False)

    def action_stop(self) -> None:
        """Ask the trainer to stop, after asking the user."""
        watch = self.watched
        if watch is None or not self.when_going():
            return

        def answered(choice: int | None) -> None:
            if choice == 0:
                try:
                    request_stop(watch.folder)
                except LorabenchError as error:
                    self.notify(str(error), severity="error", markup=False)
                else:
                    self.tick()

        choices = ["save and stop at the next step", "let it train"]
        self.app.push_screen(ChoiceDialog(f"stop {visible(watch.folder.name)}?", choices), answered)

    def when_going(self) -> bool:
        """Return whether the run trains, and say so where it does not."""
        going = self.watched is not None and self.watched.going
        if not going:
            self.notify("Nobody trains this run.", severity="warning", markup=False)
        return going

    def action_train(self) -> None:
        """Train the run that is shown, or go on with it."""
        if self.watched is None:
            self.notify("Choose a run on the Bench (1).", severity="warning", markup=False)
        elif self.watched.going:
            self.notify("It trains already.", markup=False)
        else:
            self.workbench.train_run(self.watched.folder)

    def action_train_anyway(self) -> None:
        """Train in spite of the preflight's errors."""
        if self.watched is not None and self.watched.record.findings:
            self.workbench.train_run(self.watched.folder, override=True)
        else:
            self.notify("The preflight has not stopped this run.", markup=False)

    def action_open(self) -> None:
        """Open the adapter that the run has saved."""
        if self.watched is None or not (self.watched.folder / ADAPTER_FILE).is_file():
            self.notify("This run has saved no adapter yet.", severity="warning", markup=False)
        else:
            self.workbench.open_adapter(self.watched.folder)

    def action_behind(self) -> None:
        """Choose another run of the folder whose loss is drawn behind this one's."""
        if self.watched is not None:
            watched = self.watched.folder
            self.run_in_thread(lambda: self.list_runs(watched), "behind")

    def list_runs(self, watched: Path) -> None:
        """Find the runs with a loss, then ask (in the thread)."""
        self.app.call_later(self.choose_behind, runs_with_loss(self.workbench.folder, watched))

    def choose_behind(self, found: list[OtherRun]) -> None:
        """Ask which run's loss to draw."""
        if not found:
            self.notify("No other run of this folder has a loss.", markup=False)
            return

        def chosen(at: int | None) -> None:
            if at == 0:
                self.draw_behind(None)
            elif at is not None:
                folder = found[at - 1].folder
                self.run_in_thread(lambda: self.read_behind(folder), "behind")

        choices = ["none", *(visible(run.title) for run in found)]
        self.app.push_screen(ChoiceDialog("the loss behind this one", choices), chosen)

    def read_behind(self, folder: Path) -> None:
        """Read another run's loss (in the thread)."""
        self.app.call_later(self.draw_behind, loss_behind(folder))

    def draw_behind(self, curve: Curve | None) -> None:
        """Draw another run's loss behind this one's, or none."""
        self.behind = curve
        self.draw()

    def action_log_axis(self) -> None:
        """Make the loss axis logarithmic, or linear again."""
        self.log_axis = not self.log_axis
        self.query_one(Chart).border_subtitle = "logarithmic" if self.log_axis else ""
        self.draw()

    def action_panel(self) -> None:
        """Show one panel alone, the next one, or all again."""
        self.panel = (self.panel + 1) % len(PANELS)
        for name in PANELS[1:]:
            self.set_class(PANELS[self.panel] == name, name)
        self.call_after_refresh(self.draw)

    def action_warnings(self) -> None:
        """List all warnings that are kept."""
        warnings = [] if self.watched is None else list(self.watched.record.warnings)
        if not warnings:
            self.notify("There is no warning.", markup=False)
            return
        lines = [visible(f"{clock(at.get('time'))}  {at.get('text', '')}") for at in warnings]
        self.app.push_screen(ChoiceDialog("warnings", lines[::-1]))

    @on(FilterLine.Changed)
    def search_log(self, event: FilterLine.Changed) -> None:
        """Mark what matches in the log."""
        self.query_one(LogPane).search(event.text)

    def action_copy(self) -> None:
        """Copy the error with its hint, or the run's path."""
        if self.watched is not None:
            record = self.watched.record
            error = f"{record.error}\n{record.hint}".strip()
            self.copy(error or str(self.watched.folder), "the error" if error else "the path")


def _marks(series: Series | None) -> Curve | None:
    """Return the evaluations as marks."""
    if series is None or series.last is None:
        return None
    steps, low, high, _ = (np.array(values, float) for values in series.points())
    return Curve("eval", f"eval {series.last:.4g}", steps, low, high, MARK)
