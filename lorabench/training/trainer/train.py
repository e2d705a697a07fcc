"""Train a configuration: from run.yaml to a folder with events, checkpoints and the final adapter."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lorabench.errors import LorabenchError
from lorabench.files import is_folder, is_there
from lorabench.runs.history import RUN_FILE
from lorabench.runs.lock import Owner, RunLock, take_lock
from lorabench.runs.requests import clear_requests, requests_in, stop_requested
from lorabench.runs.reserve import check_room
from lorabench.text import visible
from lorabench.training.config.problems import environment, environment_fault
from lorabench.training.config.run_config import RunConfig
from lorabench.training.config.saving import write_text
from lorabench.training.trainer.events import Events
from lorabench.training.trainer.libraries import import_libraries
from lorabench.training.trainer.overhear import overheard
from lorabench.training.trainer.ranks import is_first, without_ranks, world_size
from lorabench.training.trainer.saving import print_trace, rescue, save_final, where_rescued

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from lorabench.training.preflight.finding import Finding
    from lorabench.training.trainer.callback import RunCallback
    from lorabench.training.trainer.watched import WatchedTrainer

State = Literal["finished", "stopped", "failed", "refused"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a training ended.

    `refused` is a run that could not even be begun: no such file, or somebody else trains in its folder; then
    nothing was written. `path` is the folder of the final adapter, where there is one.
    """

    state: State
    reason: str = ""
    error: str = ""
    hint: str = ""
    path: Path | None = None
    step: int | None = None


def train(
    path: Path,
    *,
    resume: bool | None = None,
    override: bool = False,
    place: str = "process",
    stopping: threading.Event | None = None,
    ignore: Collection[str] | None = None,
) -> Outcome:
    """Train the run.yaml at `path`, or in the folder `path`, into its output_dir. Raises nothing.

    `resume` goes on from the newest whole checkpoint, or starts anew; None does what the file says.
    `override` starts in spite of the preflight's errors. In the `place` "thread" no child processes are
    started. `stopping`, once set, asks for a stop as the file `stop` does: save, and end. Such a
    file counts but for those to `ignore`, as `requests_in` had them; None is those that are there already.
    """
    file = path / RUN_FILE if is_folder(path) else path
    with contextlib.ExitStack() as stack:
        try:
            config = RunConfig.to_train(file)
            config.folder.mkdir(parents=True, exist_ok=True)
            check_room(config.folder)
            ignore = requests_in(config.folder) if ignore is None else ignore
            lock = stack.enter_context(take_lock(config.folder)) if is_first() else None
            if lock is not None:
                clear_requests(config.folder, only=ignore)
            restore = partial(_restore, lock, config.folder / RUN_FILE, config.text)
            events = Events(config.folder, first=is_first(), restore=restore)
            stack.enter_context(contextlib.closing(events))
        except LorabenchError as error:
            return Outcome("refused", "refused", error.message, error.hint)
        except OSError as error:
            return Outcome("refused", "refused", f"The output folder cannot be used: {visible(error)}")
        stack.enter_context(_environment(config))
        stack.enter_context(overheard(events.warn, config.own_names))
        run = _Run(config, file, events, stopping or threading.Event(), place)
        return run.go(lock.taken_over if lock else None, resume=resume, override=override)


def _restore(lock: RunLock | None, file: Path, text: str) -> None:
    """Put back what a run's folder needs that was made again."""
    if lock is not None:
        lock.put_back()
    if not is_there(file):
        write_text(file, text)


@contextlib.contextmanager
def _environment(config: RunConfig) -> Iterator[None]:
    """Set the variables under `env:` as TRL does, but for the time of the run only, and without our own."""
    asked = environment(config).items()
    wanted = {name: value for name, value in asked if not environment_fault(name, value)}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class _Ended(Exception):
    """The run ends before its training begins; carries how."""

    def __init__(self, state: State, reason: str, error: str = "", hint: str = "", **fields: Any) -> None:
        super().__init__(reason)
        self.outcome = Outcome(state, reason, error, hint)
        self.fields = fields


class _Run:
    """One training, between taking its lock and releasing it."""

    def __init__(
        self, config: RunConfig, file: Path, events: Events, stopping: threading.Event, place: str
    ) -> None:
        self._config, self._file, self._events, self._stopping = config, file, events, stopping
        self._place, self._folder = place, config.folder
        self._text = config.text  # before `resume` is written into it
        self._anew = False  # by the user's own choice, who need not be warned of what that does
        self._trainer: WatchedTrainer | None = None

    def go(self, taken_over: Owner | None, *, resume: bool | None, override: bool) -> Outcome:
        """Train, and say how it ended: in the events file, and in return."""
        try:
            self._anew = resume is False
            self._stage("preflight")
            if taken_over is not None:
                where = f"process {taken_over.pid} on {visible(taken_over.host)}"
                self._events.warn(f"The run's lock was taken over from {where}, which is gone.")
            if self._place == "thread":
                import_libraries()
            if resume is not None and (resume or self._config.has("resume_from_checkpoint")):
                self._config.apply({"resume_from_checkpoint": True if resume else None})
            if is_first():
                with without_ranks():
                    self._preflight(override)
            return self._train()
        except _Ended as ended:
            outcome = ended.outcome
            fields = {"reason": outcome.reason, "error": outcome.error, "hint": outcome.hint}
            self._events.write(outcome.state, **fields, **ended.fields)
            return outcome
        except (Exception, SystemExit) as error:  # noqa: BLE001  whatever it is, it ends the run, not us
            return self._failed(error)
        finally:
            # It holds the model, and us: nothing would free the three where we are left out of collections.
            self._trainer = None
            if is_first():
                clear_requests(self._folder)

    def _stage(self, stage: str) -> None:
        # One of several processes must not leave alone: those stop after their first step.
        if world_size() == 1 and (self._stopping.is_set() or stop_requested(self._folder)):
            raise _Ended("stopped", "asked to stop before the first step")
        self._events.write("stage", stage=stage)

    def _preflight(self, override: bool) -> None:
        from lorabench.training.preflight.resume import CHECK
        from lorabench.training.preflight.run import preflight

        errors = []
        for finding in preflight(self._config):
            if finding.level == "error":
                errors.append(finding)
            chosen = self._anew and finding.check == CHECK
            if (finding.level == "warning" and not chosen) or (override and finding.level == "error"):
                self._events.warn(f"{finding.check}: {finding.message}", "preflight")
        if errors and not override:
            more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
            told = [_told(finding) for finding in errors]
            raise _Ended("failed", "preflight", errors[0].message + more, errors[0].detail, findings=told)

    def _train(self) -> Outcome:
        from lorabench.training.audit.live import UpdateWatch
        from lorabench.training.trainer.build import build, overridden
        from lorabench.training.trainer.callback import NothingLeft, RunCallback
        from lorabench.training.trainer.hardware import gpus_of
        from lorabench.training.trainer.meters import MetersThread
        from lorabench.training.trainer.start import prepare_folder, started_fields

        began = time.monotonic()
        callback = RunCallback(
            self._folder, self._events, self._stopping, stop_on_nan=self._config.stop_on_nan
        )
        callbacks: list[TrainerCallback] = [callback]
        if is_first():
            callbacks.append(UpdateWatch(self._events.write, self._events.warn))
        in_thread = self._place == "thread"
        for told in overridden(self._config) if in_thread else ():
            self._events.warn(told)
        trainer = self._trainer = build(
            self._config, callbacks=callbacks, in_thread=in_thread, stage=self._stage
        )
        checkpoint = prepare_folder(self._config, self._file, self._events, anew=self._anew)
        callback.follow(trainer, started_fields(self._config, self._text, trainer, self._place), checkpoint)
        gpus = gpus_of(trainer)
        meters = MetersThread(self._events, gpus) if is_first() else contextlib.nullcontext()
        with meters, contextlib.suppress(NothingLeft):
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        self._events.write("stage", stage="saving")
        save_final(trainer, self._folder)
        self._publish(trainer)
        return self._done(callback, trainer.state.global_step, time.monotonic() - began)

    def _publish(self, trainer: WatchedTrainer) -> None:
        """Push to the hub and end the trackers; the adapter is saved, and no network takes that back."""
        try:
            if trainer.args.push_to_hub:
                trainer.publish(self._config.get("dataset_name"))
            trainer.end()  # type: ignore[no-untyped-call]
        except Exception as error:  # noqa: BLE001
            print_trace(error)
            self._events.warn(f"The adapter is saved, but {type(error).__name__}: {visible(error)}")

    def _done(self, callback: RunCallback, step: int, seconds: float) -> Outcome:
        state: State = "stopped" if callback.stopped else "finished"
        reason = f"asked to stop at step {step}" if callback.stopped else ""
        loss = callback.summary.get("train_loss")
        fields = {"step": step, "path": str(self._folder), "train_loss": loss, "seconds": seconds}
        self._events.write(state, reason=reason, **fields)
        return Outcome(state, reason, path=self._folder, step=step)

    def _failed(self, error: BaseException) -> Outcome:
        from lorabench.training.trainer.failures import LEARNT_NOTHING, failure_of, make_room

        reason, told, hint = failure_of(error, self._config)
        step, saved = self._trainer.state.global_step if self._trainer is not None else None, None
        if reason == "disk full" and step is not None and is_first():
            with contextlib.suppress(OSError):
                make_room(self._folder, step)
        alike = reason in LEARNT_NOTHING  # every process knows, and the first one tells
        if self._trainer is not None and not alike:
            saved = rescue(self._trainer, self._folder)
            told += where_rescued(saved, step)
        if not self._events.failed_elsewhere() and (is_first() or not alike):
            path = None if saved is None else str(saved)
            self._events.write("failed", reason=reason, error=told, hint=hint, step=step, path=path)
        print_trace(error)
        return Outcome("failed", reason, told, hint, path=saved, step=step)


def _told(finding: Finding) -> dict[str, str]:
    return {name: getattr(finding, name) for name in ("check", "level", "message", "detail")}
