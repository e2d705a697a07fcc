"""The adapter that is open in the workbench, and how far its analysis has come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import sleep as pause
from typing import TYPE_CHECKING, Literal

from textual.app import App
from textual.signal import Signal
from textual.worker import get_current_worker

from lorabench.errors import LorabenchError
from lorabench.text import visible

if TYPE_CHECKING:
    from lorabench.adapters.model import Adapter
    from lorabench.spectra.model import LayerSpectrum, Part

Work = Callable[[], None]
State = Literal["empty", "opening", "analysing", "done", "failed"]

# Screens repaint at most this often while layers come in.
BATCH_SECONDS = 0.15
# While somebody types the analysis gives way: a layer each pause, so that it goes on all the same.
TYPING_SECONDS = 0.3
PAUSE_SECONDS = 0.1
TYPING_BATCH_SECONDS = 1.0


class Analysis:
    """What the screens show: an adapter, the spectra of its layers as they come, its factors on demand.

    `chosen` is the (adapter, name) of the layer that is looked at, in the table and in the pictures; `whole`
    says that the pictures are of all layers together, until a layer is chosen or another adapter opened.

    The work is done in a thread; what is here changes on the UI thread only, and `changed` is published
    after each change, with the state. Opening another adapter cancels what is under way.
    """

    def __init__(self, app: App[None]) -> None:
        self._app = app
        self._round = 0
        self.changed: Signal[State] = Signal(app, "analysis")
        self.state: State = "empty"
        self.path: Path | None = None
        self.adapter: Adapter | None = None
        self.error: LorabenchError | None = None
        self.spectra: dict[Part, list[LayerSpectrum]] = {"ΔW": [], "A": [], "B": []}
        self.factors_wanted = False
        self.chosen = ("", "")
        self.whole = False
        self._typed = 0.0

    def give_way(self) -> None:
        """Leave the processor to the screens for a moment: a key has been pressed."""
        self._typed = time.monotonic()

    def choose(self, spectrum: LayerSpectrum) -> None:
        """Look at this layer."""
        self.chosen, self.whole = (spectrum.layer.adapter, spectrum.layer.name), False

    @property
    def position(self) -> int:
        """The place of the chosen module among the layers computed so far."""
        keys = [(spectrum.layer.adapter, spectrum.layer.name) for spectrum in self.spectra["ΔW"]]
        return keys.index(self.chosen) if self.chosen in keys else 0

    @property
    def name(self) -> str:
        """The open adapter's name, or nothing."""
        if self.adapter is not None:
            return self.adapter.name
        return self.path.name if self.path else ""

    @property
    def busy(self) -> bool:
        """Whether an adapter is being opened or analysed."""
        return self.state in ("opening", "analysing")

    @property
    def nothing(self) -> str:
        """Why no adapter can be shown."""
        if self.busy:
            return "opening …"
        if self.error is not None:
            return (
                f"{visible(self.name)} could not be opened: {self.error.message} Press 1 and choose another."
            )
        return "No adapter is open: press 1 and choose one."

    @property
    def progress(self) -> tuple[int, int]:
        """How many layers have their spectrum, of how many."""
        return len(self.spectra["ΔW"]), len(self.adapter.layers) if self.adapter else 0

    def open(self, path: Path) -> None:
        """Open the adapter at `path` and compute its spectra; the screens hear of each step."""
        self._round += 1
        self._typed = 0.0  # the key that opens it is no reason to wait
        self.path, self.adapter, self.error, self.factors_wanted = path, None, None, False
        self.chosen, self.whole = ("", ""), False
        self.spectra = {"ΔW": [], "A": [], "B": []}
        self._move("opening")
        round_ = self._round
        self._app.workers.cancel_group(self._app, "factors")
        self._run(lambda: self._open_and_analyse(path, round_), "analysis")

    def want_factors(self) -> None:
        """Compute the spectra of the factors A and B too, once."""
        if self.adapter is None or self.factors_wanted:
            return
        self.factors_wanted = True
        adapter, round_ = self.adapter, self._round
        self._run(lambda: self._analyse_factors(adapter, round_), "factors")

    def _run(self, work: Work, group: str) -> None:
        self._app.run_worker(work, thread=True, exclusive=True, group=group, exit_on_error=False, name=group)

    def _open_and_analyse(self, path: Path, round_: int) -> None:
        from lorabench.adapters.open import open_adapter
        from lorabench.spectra.analysis import spectra_of

        try:
            adapter = open_adapter(path)
        except LorabenchError as error:
            self._app.call_later(self._fail, error, round_)
            return
        self._app.call_later(self._opened, adapter, round_)
        self._stream(({"ΔW": spectrum} for spectrum in spectra_of(adapter)), round_)
        self._app.call_later(self._done, round_)

    def _analyse_factors(self, adapter: Adapter, round_: int) -> None:
        from lorabench.spectra.analysis import analyze_factors

        pairs = (analyze_factors(layer) for layer in adapter.layers)
        self._stream(({"A": a, "B": b} for a, b in pairs), round_)

    def _stream(self, results: Iterator[Mapping[Part, LayerSpectrum]], round_: int) -> None:
        """Pass the results on to the UI thread in batches, so that a fast analysis costs few repaints."""
        worker = get_current_worker()
        batch: list[Mapping[Part, LayerSpectrum]] = []
        sent = time.monotonic()
        for result in results:
            if worker.is_cancelled:
                return
            batch.append(result)
            typing = time.monotonic() - self._typed < TYPING_SECONDS
            if typing:
                pause(PAUSE_SECONDS)
            if time.monotonic() - sent >= (TYPING_BATCH_SECONDS if typing else BATCH_SECONDS):
                self._app.call_later(self._add, batch, round_)
                batch, sent = [], time.monotonic()
        self._app.call_later(self._add, batch, round_)

    def _opened(self, adapter: Adapter, round_: int) -> None:
        if round_ == self._round:
            self.adapter = adapter
            self._move("analysing")

    def _add(self, batch: list[Mapping[Part, LayerSpectrum]], round_: int) -> None:
        if round_ != self._round:
            return
        for result in batch:
            for part, spectrum in result.items():
                self.spectra[part].append(spectrum)
        self.changed.publish(self.state)

    def _done(self, round_: int) -> None:
        if round_ == self._round:
            self._move("done")

    def crashed(self, error: LorabenchError) -> None:
        """Take note that the analysis has ended in an error that nobody foresaw."""
        self._fail(error, self._round)

    def _fail(self, error: LorabenchError, round_: int) -> None:
        if round_ == self._round:
            self.error = error
            self._move("failed")

    def _move(self, state: State) -> None:
        self.state = state
        self.changed.publish(state)
