"""The application: modes, themes and global keys; the screens know the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import events, on
from textual.app import ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.theme import Theme
from textual.widgets import Static
from textual.worker import Worker, WorkerState

from lorabench.errors import LorabenchError
from lorabench.files import is_file, is_folder
from lorabench.resources import resource
from lorabench.runs.device import Device
from lorabench.runs.events import EVENTS_FILE
from lorabench.runs.history import ADAPTER_FILE, RUN_FILE
from lorabench.screens.analysis import Analysis
from lorabench.screens.bench import BenchScreen
from lorabench.screens.dialogs import ChoiceDialog, ErrorDialog
from lorabench.screens.modes import ANALYSED, MODES, PREFETCH_SECONDS, prefetch
from lorabench.screens.palette import commands
from lorabench.screens.training import StartTraining, Training
from lorabench.terminal.app import TerminalApp
from lorabench.terminal.colours import ANSI_THEMES, first_theme
from lorabench.terminal.terminal import Terminal
from lorabench.text import visible
from lorabench.widgets.top_line import TopLine

if TYPE_CHECKING:
    from lorabench.screens.base_work import FindEigenvalues
    from lorabench.screens.config_file import ConfigFile
    from lorabench.spectra.model import LayerSpectrum

DEVICE_SECONDS = 5.0
REFRESH_SECONDS = 0.5
# So long the screen that one switches to may be half made; Textual's own 50 ms are too long for a key.
SWITCH_SECONDS = 0.01


class LorabenchApp(TerminalApp):
    """The workbench on one folder."""

    TITLE = "lorabench"
    CSS_PATH = resource("styles") / "lorabench.tcss"
    MODES = MODES
    # Textual's own annotation of these two is no ClassVar to a type checker.
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide"), (160, "-roomy")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-low"), (30, "-high")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "show('bench')", "Bench", show=False, id="app.bench", tooltip="runs and adapters"),
        Binding("2", "show('config')", "Config", show=False, id="app.config", tooltip="the configuration"),
        Binding("3", "show('train')", "Train", show=False, id="app.train", tooltip="the run, live"),
        Binding("4", "show('layers')", "Layers", show=False, id="app.layers", tooltip="the table of layers"),
        Binding("5", "show('spectra')", "Spectra", show=False, id="app.spectra", tooltip="the pictures"),
        Binding("6", "show('base')", "Base", show=False, id="app.base", tooltip="against the base model"),
        Binding("q", "quit", "quit", id="app.quit"),
        Binding("d", "detach", "detach", show=False, id="app.detach", tooltip="quit; the run trains on"),
        # A key here, a signal where the terminal is not raw: both stop the run.
        Binding("ctrl+c", "interrupt", "", show=False, system=True),
    ]

    def __init__(
        self,
        folder: Path,
        open_path: Path | None = None,
        *,
        start: StartTraining | None = None,
        own_process: bool = False,
        terminal: Terminal | None = None,
        refresh_seconds: float = REFRESH_SECONDS,
        find_eigenvalues: FindEigenvalues | None = None,
        theme: str | None = None,
    ) -> None:
        theme = first_theme(theme)
        super().__init__(terminal)
        self.find_eigenvalues = find_eigenvalues
        self.folder = folder
        self.open_path = open_path
        self.running = ""  # the run of this folder that goes on, for the top line
        self.refresh_seconds = refresh_seconds
        self.device: Device | None = None
        self.analysis = Analysis(self)
        self.training = Training(self, self.show_not_started, start, terminal, own_process)
        self.run_folder: Path | None = None
        self.config_file: ConfigFile | None = None
        self.detached = False
        self.on_interrupt: Callable[[], None] | None = None
        for name in ANSI_THEMES:
            self.unregister_theme(name)
        self.theme = self.first_theme = theme

    def compose(self) -> ComposeResult:
        yield TopLine("bench")
        yield Static("reading the folder …", id="first")

    def on_mount(self) -> None:
        self.query_one(TopLine).show(self.folder, "", None)
        self.analysis.changed.subscribe(self, self.show_failure)
        self.theme_changed_signal.subscribe(self, self.tell_how_to_keep)
        self.set_interval(DEVICE_SECONDS, self.read_device)
        self.call_after_refresh(self.begin)

    def begin(self) -> None:
        """After the first frame: show the bench, read the device, and open what the command line named."""
        if self.current_mode == self.DEFAULT_MODE:  # unless a key was faster
            self.switch_mode("bench")
        self.read_device()
        self.set_timer(PREFETCH_SECONDS, self.prefetch)
        if self.open_path is not None:
            self.open_adapter(self.open_path)

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, (events.Key, events.MouseScrollDown, events.MouseScrollUp)):
            self.analysis.give_way()
        await super().on_event(event)

    def delay_update(self, delay: float = SWITCH_SECONDS) -> None:
        """Paint nothing for a moment."""
        super().delay_update(delay)

    def prefetch(self) -> None:
        """Import in a thread what the first keys want."""
        self.run_worker(prefetch, thread=True, group="prefetch", exit_on_error=False)

    def read_device(self) -> None:
        """Read the device's memory in a thread, for the top line."""
        from lorabench.runs.device import read_device

        def work() -> None:
            self.call_later(self.show_device, read_device())

        self.run_worker(work, thread=True, exclusive=True, group="device", exit_on_error=False)

    def show_device(self, device: Device) -> None:
        """Show the device on the screen that is on top."""
        self.device = device
        refresh = getattr(self.screen, "refresh_top", None)
        if refresh is not None:
            refresh()

    def open_adapter(self, path: Path) -> None:
        """Open an adapter, analyse it, and go to its layers."""
        self.analysis.open(path)
        self.switch_mode("layers")

    def open_config(self, path: Path) -> None:
        """Open a run's configuration, unless the user would rather keep what he has not saved."""
        from lorabench.screens.config_file import ConfigFile

        def go_on() -> None:
            try:
                self.config_file = ConfigFile(path)
            except LorabenchError as error:
                self.show_error(error)
            else:
                self.switch_mode("config")

        if self.config_file is None or self.config_file.path != path:
            self.when_saved(go_on)
        else:
            self.switch_mode("config")

    def when_saved(self, go_on: Callable[[], object]) -> None:
        """Go on at once where nothing is unsaved; else ask whether to save, to lose it, or to stay."""
        file = self.config_file
        if file is None or not file.changed:
            go_on()
            return

        def answered(choice: int | None) -> None:
            if choice is None or choice == 2:
                return
            try:
                if choice == 0:
                    file.save()
            except LorabenchError as error:
                self.show_error(error)
            else:
                go_on()

        choices = ["save the changes", "lose the changes", "stay"]
        name = visible(f"{file.path.parent.name}/{file.path.name}")
        heading = f"{name} has changes that are not saved"
        self.push_screen(ChoiceDialog(heading, choices), answered)

    async def action_quit(self) -> None:
        """Quit; with unsaved changes or a run that goes on, ask first."""
        self.when_saved(lambda: self.training.ask_before_quitting(self.action_detach, self.exit))

    def action_detach(self) -> None:
        """Leave the run training, and quit."""
        self.detached = True
        self.exit()

    async def action_interrupt(self) -> None:
        """Stop the run that trains here, which saves it, and end; where none does, say how to quit."""
        if self.training.here is not None and self.on_interrupt is not None:
            self.on_interrupt()
        else:
            self.notify("No run trains in here: q quits.")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Grey what needs a run that trains."""
        if action == "detach" and not self.training.goes_on:
            return None
        return super().check_action(action, parameters)

    def train_run(self, path: Path, *, override: bool = False, resume: bool | None = None) -> None:
        """Train the run in a folder, or of a run.yaml, and show it; what is not saved is saved first."""
        path = path / RUN_FILE if is_folder(path) else path

        def go_on() -> None:
            try:
                if self.config_file is not None and self.config_file.changed:
                    self.config_file = type(self.config_file)(path)  # its changes were given up
            except LorabenchError as error:
                self.show_not_started(error)
            else:
                self.training.begin(path, override=override, resume=resume, then=self.watch_run)

        if self.config_file is not None and self.config_file.path == path:
            self.when_saved(go_on)
        else:
            go_on()

    def watch_run(self, folder: Path) -> None:
        """Show a run as it trains, whoever trains it."""
        self.run_folder = folder
        self.switch_mode("train")

    def show_spectrum(self, spectrum: LayerSpectrum) -> None:
        """Go to the pictures of a layer."""
        self.analysis.choose(spectrum)
        self.switch_mode("spectra")

    def show_failure(self, state: str) -> None:
        """Show why an adapter could not be opened, and go back to the folder."""
        if state == "failed" and self.analysis.error is not None:
            self.switch_mode("bench")
            self.show_error(self.analysis.error)

    @on(Worker.StateChanged)
    def show_crash(self, event: Worker.StateChanged) -> None:
        """Say that background work ended in an error nobody foresaw: a defect of ours, never silent."""
        if event.state is WorkerState.ERROR:
            error = event.worker.error
            what = f"{type(error).__name__} in {event.worker.name}: {visible(error)}"
            self.log.error(what)
            crash = LorabenchError(what, "This is a defect of lorabench: please report it with this line.")
            if event.worker.group == "analysis":
                self.analysis.crashed(crash)
            else:
                self.show_error(crash)

    def show_error(self, error: LorabenchError, title: str = "not opened") -> None:
        """Show an error that the user can mend."""
        self.push_screen(ErrorDialog(error, title))

    def show_not_started(self, error: LorabenchError) -> None:
        """Show why a training cannot be begun."""
        self.show_error(error, "not started")

    def action_show(self, mode: str) -> None:
        """Switch to a screen; one with nothing to show takes the watched run, or that of the open adapter."""
        run, opened = self.run_folder, self.analysis.path
        if mode == "train" and run is None and opened is not None and is_file(opened / EVENTS_FILE):
            self.run_folder = opened
        elif mode == "config" and self.config_file is None and run is not None and is_file(run / RUN_FILE):
            self.open_config(run / RUN_FILE)
            return
        elif mode in ANALYSED and opened is None and run is not None and is_file(run / ADAPTER_FILE):
            self.analysis.open(run)
        self.switch_mode(mode)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        return commands(self, screen)

    def tell_how_to_keep(self, theme: Theme) -> None:
        """Say how the theme that was just chosen is kept: lorabench writes no settings."""
        if theme.name != self.first_theme:
            self.notify(f"export TEXTUAL_THEME={theme.name} in your shell keeps these colours", markup=False)

    def open_samples(self) -> None:
        """Show the sample adapters' folder on the bench."""
        self.open_folder(resource("sample_adapters"))

    def open_folder(self, folder: Path) -> None:
        """Show another folder on the bench."""
        self.folder = folder
        self.switch_mode("bench")
        screen = self.screen
        if isinstance(screen, BenchScreen):
            screen.reload()
