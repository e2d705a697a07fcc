"""The comparison that the Base screen shows, and the thread in which it grows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from lorabench.errors import LorabenchError
from lorabench.text import visible

if TYPE_CHECKING:
    from lorabench.adapters.model import Adapter
    from lorabench.spectra.base_analysis import BaseAnalysis, Comparison
    from lorabench.spectra.gram import Eigenvalues

State = Literal["empty", "opening", "stopped", "computing", "done", "failed"]
# The screen repaints at most this often while layers come in.
BATCH_SECONDS = 0.3
Post = Callable[..., object]
FindEigenvalues = Callable[[], "Eigenvalues"]


class BaseWork:
    """An adapter against its base model: opened, answered from the cache, and computed when asked.

    `post` calls a function on the UI thread, `changed` is called there after each change; `find_eigenvalues`
    gives another way to eigenvalues than numpy's, where the machine has one. A daemon thread does the work:
    it ends with the program in the middle of a matrix, of which nothing is lost but the time.
    """

    def __init__(self, post: Post, changed: Callable[[], None]) -> None:
        self.find_eigenvalues: FindEigenvalues | None = None
        self._post = post
        self._changed = changed
        self._round = 0
        self._whole = 0.0
        self._begun = 0.0
        self.state: State = "empty"
        self.asked = False  # whether the user has said when to compute
        self.adapter: Adapter | None = None
        self.analysis: BaseAnalysis | None = None
        self.error: LorabenchError | None = None

    @property
    def comparisons(self) -> list[Comparison]:
        """The layers, as far as they are known."""
        return self.analysis.comparisons if self.analysis else []

    @property
    def progress(self) -> float:
        """How much of the work that was left at the start is done, from 0 to 1."""
        left = self.analysis.left() if self.analysis else 0.0
        return 1 - left / self._whole if self._whole else 0.0

    @property
    def seconds_left(self) -> float | None:
        """The time left, at the pace since the start; None before the first layer."""
        done = self.progress
        return (time.monotonic() - self._begun) * (1 - done) / done if done > 0 else None

    def open(self, adapter: Adapter, folder: str | None = None) -> None:
        """Find the base model, match the layers, and take from the cache what it knows."""
        self.stop()
        self.adapter, self.analysis, self.error, self.state = adapter, None, None, "opening"
        self.asked = False
        self._changed()
        self._start(lambda round_: self._open(adapter, folder, round_))

    def compute(self) -> None:
        """Compute what is not known yet."""
        if self.analysis is None or self.state == "computing":
            return
        analysis = self.analysis
        self.state, self._whole, self._begun = "computing", analysis.left(), time.monotonic()
        self._changed()
        self._start(lambda round_: self._compute(analysis, round_))

    def stop(self) -> None:
        """Stop after the layer that is being computed; what is done stays."""
        self._round += 1
        if self.state == "computing":
            self.state = "stopped"
            self._changed()

    def _start(self, work: Callable[[int], None]) -> None:
        self._round += 1
        round_ = self._round

        def run() -> None:
            try:
                work(round_)
            except LorabenchError as error:
                self._post(self._fail, error, round_)
            except Exception as error:  # noqa: BLE001  a defect of ours, never silent
                what = f"{type(error).__name__}: {visible(error)}"
                hint = "This is a defect of lorabench: please report it with this line."
                self._post(self._fail, LorabenchError(what, hint), round_)

        threading.Thread(target=run, name="base", daemon=True).start()

    def _open(self, adapter: Adapter, folder: str | None, round_: int) -> None:
        from lorabench.adapters.base_model import open_base
        from lorabench.spectra.base_analysis import BaseAnalysis
        from lorabench.spectra.gram import on_cpu

        eigenvalues = on_cpu if self.find_eigenvalues is None else self.find_eigenvalues()
        analysis = BaseAnalysis(adapter, open_base(adapter, folder), eigenvalues=eigenvalues)
        analysis.look_up()
        self._post(self._opened, analysis, round_)

    def _compute(self, analysis: BaseAnalysis, round_: int) -> None:
        told = time.monotonic()
        for _ in analysis.compute():
            if round_ != self._round:
                return
            if time.monotonic() - told >= BATCH_SECONDS:
                told = time.monotonic()
                self._post(self._grown, round_)
        self._post(self._move, "done", round_)

    def _opened(self, analysis: BaseAnalysis, round_: int) -> None:
        if round_ == self._round:
            self.analysis = analysis
            self._move("stopped" if analysis.left() else "done", round_)

    def _grown(self, round_: int) -> None:
        if round_ == self._round:
            self._changed()

    def _fail(self, error: LorabenchError, round_: int) -> None:
        self.error = error if round_ == self._round else self.error
        self._move("failed", round_)

    def _move(self, state: State, round_: int) -> None:
        if round_ == self._round:
            self.state = state
            self._changed()
