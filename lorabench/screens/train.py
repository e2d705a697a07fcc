"""Screen 3: watch a run while it trains, or see how it went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.message import Message
from textual.widgets import Static
from textual.worker import get_current_worker

from lorabench.errors import LorabenchError
from lorabench.files import is_file
from lorabench.runs.history import RUN_FILE
from lorabench.runs.requests import request_checkpoint, request_stop
from lorabench.screens.audit import AuditDialog
from lorabench.screens.train_dialogs import ask_for_loss, ask_to_stop, configuration_of, read_warnings
from lorabench.screens.train_keys import TRAIN_KEYS, adapter_is_saved, idle_keys
from lorabench.screens.train_status import RunStatus, findings_text
from lorabench.screens.train_watch import RunWatch
from lorabench.screens.work_screen import WorkScreen
from lorabench.widgets.delta_panel import DeltaPanel
from lorabench.widgets.filter_line import FilterLine
from lorabench.widgets.log_pane import LogPane
from lorabench.widgets.loss_chart import LossChart
from lorabench.widgets.meters import Meters
from lorabench.widgets.painting import Painting

# While a run trains, so many paintings of the loss go with one of the numbers beside it.
WHOLE_EVERY = 2
PANELS = ("-all", "-only-loss", "-only-delta", "-only-log")


class TrainScreen(WorkScreen):
    """Loss, meters, ΔW and log of the run that the application watches."""

    @dataclass
    class Read(Message):
        """What is new in the folder has been read."""

        watch: RunWatch

    mode = "train"
    HELP = """
A run as its folder tells it (`events.jsonl`, `output.log`), whoever trains it; the line at the top says who.

- **Loss**: the line is what was logged, and from 64 values on their moving average, over dots; `◆` are the
  evaluations. `l` makes the axis logarithmic, `o` puts another run's loss behind. Until it is full the chart
  shows a part of all steps.
- **ΔW**: what the adapter adds to the weights, from copies of A and B: size, stable rank and alpha of all
  modules (median), now and at the time before; the modules that grow fastest, and the dead ones (B = 0).
  *last update* is by how much of their size the last step moved A and B.
- **Log**: follows the newest line until you scroll. `/` searches, `n` and `N` go from match to match, `f`
  shows only the lines that match, `end` follows again.

`x` asks the trainer to save and stop at its next step, `k` to save a checkpoint. Leaving stops nothing.
`t` trains the run or goes on from its newest checkpoint, `2` opens its configuration. `a` takes a few steps
beside it, and says whether the change applied to the weights is the one asked for.
"""
    BINDINGS: ClassVar[list[BindingType]] = TRAIN_KEYS

    def __init__(self) -> None:
        super().__init__()
        self.watched: RunWatch | None = None
        self.spectra_of: tuple[RunWatch, int | None] | None = None
        self.frozen = self.reading = False
        self.panel = self.turns = 0
        self.idle = idle_keys(None)

    def body(self) -> ComposeResult:
        yield RunStatus(id="run-status")
        with VerticalScroll(id="preflight"):
            yield Static()
        with Horizontal(id="watch"):
            with Vertical(id="curves"):
                yield LossChart(id="loss")
                yield Meters(id="meters")
            yield DeltaPanel(id="delta")
        yield FilterLine("search the log")
        yield LogPane(id="log")

    def on_mount(self) -> None:
        super().on_mount()
        titles = ("#loss", "loss"), ("#delta", "ΔW"), ("#log", "output.log"), ("#preflight", "preflight")
        for panel, title in titles:
            self.query_one(panel).border_title = title
        self.query_one(LogPane).focus()
        self.set_interval(self.workbench.refresh_seconds, self.tick)
        self.app.theme_changed_signal.subscribe(self, lambda _: self.call_after_refresh(self.draw))

    def on_screen_resume(self) -> None:
        super().on_screen_resume()
        folder = self.workbench.run_folder
        if folder is not None and (self.watched is None or self.watched.folder != folder):
            self.watched, self.reading, self.frozen = RunWatch(folder), False, False
            self.query_one(LossChart).behind = None
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
        if (watch := message.watch) is not self.watched:
            return
        self.reading = False
        if watch.changed or watch.going:
            watch.changed = False
            self.turns += 1
            self.draw(whole=self.turns % WHOLE_EVERY == 0 or not watch.going)
        ended = (watch, watch.record.step)
        if watch.lacks_spectra and self.spectra_of != ended:
            self.spectra_of = ended
            self.run_in_thread(lambda: self.read_spectra(watch), "spectra")

    def read_spectra(self, watch: RunWatch) -> None:
        """Compute the spectra of a run's checkpoints (in the thread)."""
        worker = get_current_worker()
        for _ in watch.read_spectra():
            if worker.is_cancelled:
                return

    @on(Painting.Resized)
    def draw_anew(self) -> None:
        """Paint for the room that there is now."""
        self.draw()

    def draw(self, *, whole: bool = True) -> None:
        """Paint what is known; a line that has not changed is not sent.

        The numbers of the meters and of ΔW wait for a `whole` painting: nobody reads them twice a second.
        """
        watch = self.watched
        self.set_class(watch is None, "-nothing")
        if (idle := idle_keys(watch)) != self.idle:
            self.idle = idle
            self.refresh_bindings()
        if watch is None:
            self.query_one(RunStatus).show(None)
            return
        with watch.busy:
            watch.begun = self.workbench.training.begun(watch.folder)
            self.query_one(RunStatus).show(watch, frozen=self.frozen)
            findings = watch.record.findings if watch.activity == "failed" else []
            self.set_class(bool(findings), "-findings")
            self.set_class(not findings and watch.only_log, "-only-log-yet")
            if findings:
                self.query_one("#preflight Static", Static).update(findings_text(findings))
            self.query_one(LossChart).show_run(watch.record)
            self.query_one(LogPane).show(watch.tail)
            if whole:
                self.query_one(Meters).show(watch.record)
                self.query_one(DeltaPanel).show(watch.record)

    def action_config(self) -> None:
        """Open the configuration of the run that is watched, where it has one."""
        path = None if self.watched is None else self.watched.folder / RUN_FILE
        if path is not None and is_file(path):
            self.workbench.open_config(path)
        else:
            self.app.switch_mode("config")

    def action_freeze(self) -> None:
        """Let the view stand still, or go on."""
        self.frozen = not self.frozen
        self.draw()
        self.tick()

    def action_checkpoint(self) -> None:
        """Ask the trainer for a checkpoint."""
        if self.watched is not None and self.when_going() and self.sent(request_checkpoint):
            self.notify("a checkpoint is saved at the next step", markup=False)

    @work(exclusive=True, group="stop", exit_on_error=False)
    async def action_stop(self) -> None:
        """Ask the trainer to stop, after asking the user."""
        watch = self.watched
        if watch is not None and self.when_going() and await ask_to_stop(self.app, watch.folder):
            self.sent(request_stop)
            self.tick()

    def sent(self, request: Callable[[Path], None]) -> bool:
        """Ask something of the trainer; return whether it could be asked."""
        assert self.watched is not None
        try:
            request(self.watched.folder)
        except LorabenchError as error:
            self.notify(str(error), severity="error", markup=False)
            return False
        return True

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

    def action_audit(self) -> None:
        """Take some steps as this run is configured, and compare what was applied with what was asked for."""
        text = "" if self.watched is None else configuration_of(self.watched.folder)
        if text:
            self.app.push_screen(AuditDialog(text))
        else:
            self.notify("There is no run.yaml to audit here.", severity="warning", markup=False)

    def action_open(self) -> None:
        """Open the adapter that the run has saved."""
        if self.watched is None or not adapter_is_saved(self.watched):
            self.notify("This run has saved no adapter yet.", severity="warning", markup=False)
        else:
            self.workbench.open_adapter(self.watched.folder)

    @work(exclusive=True, group="behind", exit_on_error=False)
    async def action_behind(self) -> None:
        """Choose another run of the folder whose loss is drawn behind this one's."""
        watch, chart = self.watched, self.query_one(LossChart)
        if watch is None:
            return
        curve = await ask_for_loss(self.app, self.workbench.folder, watch.folder, chart.behind)
        if watch is self.watched:
            chart.behind = curve
            self.draw()

    def action_log_axis(self) -> None:
        """Make the loss axis logarithmic, or linear again."""
        chart = self.query_one(LossChart)
        chart.log_axis = not chart.log_axis
        chart.border_subtitle = "logarithmic" if chart.log_axis else ""
        self.draw()

    def action_panel(self) -> None:
        """Show one panel alone, the next one, or all again."""
        self.panel = (self.panel + 1) % len(PANELS)
        # Each update gives all widgets their styles anew: let there be one.
        self.remove_class(*PANELS, update=False)
        self.add_class(PANELS[self.panel])

    @work(exclusive=True, group="warnings", exit_on_error=False)
    async def action_warnings(self) -> None:
        """List all warnings that are kept, to be read in full."""
        if self.watched is not None and self.watched.record.warnings:
            await read_warnings(self.app, self.watched.record.warnings)
        else:
            self.notify("There is no warning.", markup=False)

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
