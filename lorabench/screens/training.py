"""Begin, watch and leave trainings from the workbench; the trainer itself it knows by its contract only."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from textual.app import App
from textual.timer import Timer

from lorabench.errors import LorabenchError
from lorabench.files import cannot
from lorabench.runs.checkpoints import newest_whole
from lorabench.runs.lock import Owner, read_owner
from lorabench.runs.output import OUTPUT_FILE
from lorabench.runs.reserve import check_room
from lorabench.screens.dialogs import ChoiceDialog
from lorabench.text import visible

if TYPE_CHECKING:
    from lorabench.terminal.terminal import Terminal

LOOK_SECONDS = 0.5


class Trainer(Protocol):
    """A training that was begun here: a thread of the workbench, or a process of its own."""

    @property
    def alive(self) -> bool: ...

    def stop(self) -> None:
        """Ask it to save and end."""

    def wait(self) -> bool:
        """Wait for its end; say whether it has ended as it was asked to."""


class StartTraining(Protocol):
    """Begin to train a configuration: True resumes, False begins anew, None does what the file says."""

    def __call__(self, path: Path, *, resume: bool | None, override: bool, own_process: bool) -> Trainer: ...


class Training:
    """The training that this workbench has begun, and the questions before and after.

    `fail` shows why a training cannot be begun. `terminal` is the one whose log is the run's output while a
    thread of this process trains; a run in a process of its own writes its log itself. All are begun so with
    `own_process`, and else those whose file asks for what only `accelerate launch` can give.
    """

    def __init__(
        self,
        app: App[None],
        fail: Callable[[LorabenchError], None],
        start: StartTraining | None,
        terminal: Terminal | None,
        own_process: bool,
    ) -> None:
        self._app = app
        self._fail = fail
        self._start = start
        self._terminal = terminal
        self._own_process = own_process
        self._thread = False
        self._begun = 0.0
        self.folder = Path()
        self.trainer: Trainer | None = None
        self.stopping = False
        self._watch: Timer | None = None

    @property
    def goes_on(self) -> bool:
        """Whether the run that was begun here still trains."""
        return self.trainer is not None and self.trainer.alive

    def begun(self, folder: Path) -> float:
        """When the run of this folder, which still trains, was begun here; 0 where none is."""
        return self._begun if self.goes_on and folder == self.folder else 0.0

    @property
    def begun_here(self) -> Trainer | None:
        """What was begun last to train in this very process; it may have ended."""
        return self.trainer if self._thread else None

    @property
    def here(self) -> Trainer | None:
        """What trains in this very process, if anything does."""
        return self.begun_here if self.goes_on else None

    def stop(self) -> None:
        """Ask the run that was begun here to save and end.

        Raises:
            LorabenchError: a process of its own cannot be asked.
        """
        if self.trainer is not None:
            self.trainer.stop()
            self.stopping = True

    @property
    def name(self) -> str:
        """The run's name, to show."""
        return visible(self.folder.name)

    def begin(self, path: Path, *, override: bool, resume: bool | None, then: Callable[[Path], None]) -> None:
        """Train this configuration and go on with its folder, after what there is to ask."""
        with self._failing():
            self._begin(path, override, resume, then)

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except LorabenchError as error:
            self._fail(error)
        except OSError as error:
            self._fail(LorabenchError(*cannot(error.filename, "used", error)))

    def _begin(self, path: Path, override: bool, resume: bool | None, then: Callable[[Path], None]) -> None:
        from lorabench.training.config.launching import launcher_fields
        from lorabench.training.config.run_config import RunConfig

        config = RunConfig.to_train(path)
        folder = config.folder
        if self.goes_on and folder == self.folder:
            then(folder)
            return
        owner = read_owner(folder)
        if owner is not None and owner.alive is not False:
            self._offer_to_watch(folder, owner, then)
            return
        if self._start is None:
            raise LorabenchError("This workbench was opened without a trainer: it can watch runs only.")
        launcher = launcher_fields(config)
        thread = not (self._own_process or launcher)
        if self.here is not None or (thread and self.goes_on):
            raise LorabenchError(
                f"{self.name} trains in this workbench already, and there is room for one.",
                f"Stop it, wait for it, or train this one with: lorabench train {visible(folder)} --detach",
            )

        def go_on(resume: bool | None) -> None:
            self._run(path, folder, resume, override, thread)
            then(folder)
            if launcher and not self._own_process:
                said = f"It trains in processes of its own: its file sets {visible(' and '.join(launcher))}."
                self._app.call_after_refresh(self._app.notify, said, markup=False)

        whole, _torn = newest_whole(folder)
        if resume is not None or whole is None:
            go_on(resume)
            return

        def answered(choice: int | None) -> None:
            if choice in (0, 1):
                with self._failing():
                    go_on(choice == 0)

        choices = [
            f"go on from {whole.path.name}",
            "start anew (what there is goes to a folder earlier-N; nothing is lost)",
            "cancel",
        ]
        heading = f"{visible(folder.name)} has trained before, to step {whole.step}"
        self._app.push_screen(ChoiceDialog(heading, choices), answered)

    def _offer_to_watch(self, folder: Path, owner: Owner, then: Callable[[Path], None]) -> None:
        def answered(choice: int | None) -> None:
            if choice == 0:
                then(folder)

        trains = "trains" if owner.alive else "may train"
        heading = (
            f"{visible(folder.name)}: process {owner.pid} on {visible(owner.host)} {trains} in this folder"
        )
        self._app.push_screen(ChoiceDialog(heading, ["watch it", "stay"]), answered)

    def _run(self, path: Path, folder: Path, resume: bool | None, override: bool, thread: bool) -> None:
        assert self._start is not None
        folder.mkdir(parents=True, exist_ok=True)
        check_room(folder)
        self._take_log_back()
        if self._terminal is not None and thread:
            self._terminal.log_to(folder / OUTPUT_FILE)
            self._watch = self._app.set_interval(LOOK_SECONDS, self._take_log_back)
        self._begun = time.time()
        self.trainer = self._start(path, resume=resume, override=override, own_process=not thread)
        self.folder, self.stopping, self._thread = folder, False, thread

    def _take_log_back(self) -> None:
        """When the run has ended: what is printed now is not of this run any more."""
        if not self.goes_on and self._terminal is not None and self._watch is not None:
            self._watch.stop()
            self._watch = None
            self._terminal.log_here()

    def ask_before_quitting(self, leave: Callable[[], None], quit_: Callable[[], None]) -> None:
        """Where a run goes on: ask whether to stop it, to `leave` it training, or to stay; else quit."""
        if not self.goes_on:
            quit_()
            return

        def answered(choice: int | None) -> None:
            if choice == 0:
                with self._failing():
                    self.stop()
                    quit_()
            elif choice == 1:
                leave()

        choices = ["stop it: it saves first, then lorabench ends", "leave it training, and quit", "stay"]
        self._app.push_screen(ChoiceDialog(f"{self.name} is training", choices), answered)
