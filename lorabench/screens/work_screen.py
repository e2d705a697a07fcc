"""What the numbered screens share: the top line, help, saving, and hearing of the analysis."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.worker import Worker

from lorabench.files import cannot, replace_text, working_folder
from lorabench.screens.dialogs import HelpDialog, SaveDialog
from lorabench.text import visible
from lorabench.widgets.filter_line import FilterLine
from lorabench.widgets.key_line import KeyLine
from lorabench.widgets.top_line import TopLine

if TYPE_CHECKING:
    from lorabench.runs.device import Device
    from lorabench.screens.analysis import Analysis
    from lorabench.screens.base_work import FindEigenvalues
    from lorabench.screens.config_file import ConfigFile
    from lorabench.screens.training import Training
    from lorabench.spectra.model import LayerSpectrum

Writer = Callable[[Path], None]
_SHOWING = (events.Mount, events.ScreenResume, events.Resize, events.Timer)


class Workbench(Protocol):
    """What a screen may ask of the application."""

    folder: Path
    running: str
    device: Device | None
    analysis: Analysis
    config_file: ConfigFile | None
    training: Training
    run_folder: Path | None
    refresh_seconds: float
    find_eigenvalues: FindEigenvalues | None

    @property
    def ending(self) -> bool: ...

    def open_adapter(self, path: Path) -> None: ...

    def open_config(self, path: Path) -> None: ...

    def when_saved(self, go_on: Callable[[], object]) -> None: ...

    def train_run(self, path: Path, *, override: bool = False, resume: bool | None = None) -> None: ...

    def watch_run(self, folder: Path) -> None: ...

    def open_samples(self) -> None: ...

    def show_spectrum(self, spectrum: LayerSpectrum) -> None: ...

    def show_crash(self, event: Worker.StateChanged) -> None: ...


class WorkScreen(Screen[None]):
    """A numbered screen. It says in `mode` which, and in `HELP` (Markdown) how it is read."""

    mode: ClassVar[str]
    HELP: ClassVar[str]
    # Actions that would only say why they do nothing now: the line of keys has no place for them.
    idle: frozenset[str] = frozenset()
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "help", key_display="?", id="screen.help"),
        Binding("f1", "help", "help", show=False, id="screen.help.f1"),  # also where one types
        Binding("s", "save", "save", show=False, id="screen.save", tooltip="save the table or a picture"),
    ]

    def __init__(self) -> None:
        super().__init__()
        # Else Textual parses all style sheets twice: a new screen is styled by the newest anyway.
        self._css_update_count = self.app._css_update_count

    def compose(self) -> ComposeResult:
        yield TopLine(self.mode)
        yield from self.body()
        yield KeyLine()

    def body(self) -> ComposeResult:
        """Yield what stands between the top line and the keys."""
        raise NotImplementedError

    async def on_event(self, event: events.Event) -> None:
        """Show nothing while the screens are closed: parts of this one may be gone, or never have come."""
        if not (self.workbench.ending and isinstance(event, _SHOWING)):
            if isinstance(event, events.ScreenResume):
                event.refresh_styles = False  # the application renews them where its style sheet has changed
            await super().on_event(event)

    def on_mount(self) -> None:
        self.title = self.mode
        self.analysis.changed.subscribe(self, self._hear)

    @on(Worker.StateChanged)
    def pass_on_crash(self, event: Worker.StateChanged) -> None:
        """Let the application say that work which this screen began has failed: it hears its own only."""
        self.workbench.show_crash(event)

    def _hear(self, _state: object) -> None:
        if not self.workbench.ending:
            self.refresh_top()
            if self.is_current:
                self.show_analysis()

    def on_screen_resume(self) -> None:
        self.refresh_top()
        self.show_analysis()

    def show_analysis(self) -> None:
        """Bring what is shown up to date with the analysis; called while this screen is on top."""

    def refresh_top(self) -> None:
        """Rewrite the top line."""
        bench = self.workbench
        self.query_one(TopLine).show(bench.folder, self.analysis.name, bench.device, bench.running)

    @property
    def workbench(self) -> Workbench:
        """The application, which knows the folder and the open adapter."""
        return cast("Workbench", self.app)

    @property
    def analysis(self) -> Analysis:
        """The open adapter and its spectra."""
        return self.workbench.analysis

    def action_help(self) -> None:
        """Explain this screen and its keys."""
        self.app.push_screen(HelpDialog(self.mode.capitalize(), self.HELP, self.keys()))

    def keys(self) -> list[tuple[str, str]]:
        """Return the keys of this screen and of the application, each with what it does."""
        rows = []
        seen: set[str] = set()
        for _node, binding, _enabled, tooltip in self.active_bindings.values():
            if binding.id and binding.description and binding.action not in seen:
                seen.add(binding.action)
                rows.append((self.app.get_key_display(binding), tooltip or binding.description))
        return rows

    def action_filter(self) -> None:
        """Ask for a filter, on a screen that has one."""
        self.query_one(FilterLine).ask()

    def action_unfilter(self) -> None:
        """Show all again."""
        self.query_one(FilterLine).action_clear()

    def writers(self) -> dict[str, tuple[str, Writer]]:
        """Return what can be saved: file ending → (what it is, a function that writes it)."""
        return {".svg": ("a picture of this screen", self.write_picture)}

    def write_picture(self, path: Path) -> None:
        """Write the screen as SVG."""
        replace_text(path, self.app.export_screenshot(title=f"lorabench {self.mode}"))

    def action_save(self) -> None:
        """Ask for a file name and save the table or a picture there."""
        writers = self.writers()
        ending = next(iter(writers))
        name = "".join(c if c.isalnum() or c in "-_." else "-" for c in self.analysis.name) or "lorabench"
        proposal = working_folder() / f"{name}-{self.mode}{ending}"
        endings = {end: what for end, (what, _) in writers.items()}

        def write(path: Path | None) -> None:
            if path is None:
                return
            try:
                writers[path.suffix][1](path)
            except OSError as error:
                said = " ".join(cannot(path, "written", error))
                self.notify(said.rstrip(), severity="error", markup=False)
            else:
                self.notify(f"saved {visible(path)}", markup=False)

        self.app.push_screen(SaveDialog(proposal, endings), write)

    def copy(self, text: str, what: str) -> None:
        """Put text on the terminal's clipboard by OSC 52, which works over SSH, and say so."""
        try:
            self.app.copy_to_clipboard(text)
        except UnicodeEncodeError:
            self.notify(
                "This name is not UTF-8: a terminal cannot copy it.", severity="warning", markup=False
            )
        else:
            self.notify(f"copied {what}", markup=False)

    def run_in_thread(self, work: Callable[[], Any], group: str) -> None:
        """Run `work` in a thread; a newer run of the same group replaces it."""
        self.run_worker(work, thread=True, exclusive=True, group=group, name=group, exit_on_error=False)
