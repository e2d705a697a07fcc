"""The Trainer's callback: writes what happens to the events file, and does what is asked of the run."""

from __future__ import annotations

import json
import math
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from lorabench.errors import LorabenchError
from lorabench.files import read_plain
from lorabench.runs.checkpoints import TRAINER_STATE_FILE
from lorabench.runs.requests import stop_requested, take_checkpoint_request
from lorabench.training.trainer.failures import NoGradients, NotFinite
from lorabench.training.trainer.live_spectra import LiveSpectra
from lorabench.training.trainer.pace import Pace

if TYPE_CHECKING:
    import torch
    from transformers import TrainerControl, TrainerState
    from transformers import TrainingArguments as Arguments

    from lorabench.training.trainer.events import Events
    from lorabench.training.trainer.watched import WatchedTrainer

_ZERO_LOGS = 3
STEP_SECONDS = 2.0
"""The least time from one word of the step reached to the next."""

Picture = TypeVar("Picture")


class NothingLeft(Exception):
    """The checkpoint is the run's last: the Trainer would take a step too many."""


class RunCallback(TrainerCallback, ExportableState):
    """Follows one training.

    It only writes to the events file and looks for requests in the folder; whoever watches reads them there.
    The tokens seen so far stand in each checkpoint's trainer_state.json, since TRL counts anew on resuming.
    `stopped` says that a request, not the last step, ended the training; `summary` is the Trainer's last log.
    """

    def __init__(
        self, folder: Path, events: Events, stopping: threading.Event, *, stop_on_nan: bool = True
    ) -> None:
        self.stopped = False
        self.summary: dict[str, Any] = {}
        self._folder, self._events, self._stopping = folder, events, stopping
        self._stop_on_nan = stop_on_nan
        self._trainer: Any = None  # the Trainer asks for our state before `follow`
        self._started: dict[str, Any] = {}
        self._tokens_before = 0
        self._pace = Pace()
        self._spectra: LiveSpectra | None = None
        self._first = True
        self._first_step = 0
        self._told = 0.0
        self._rank_device: torch.device | None = None
        self._zero_logs = 0
        self._learnt = self._told_of_nan = False

    def follow(self, trainer: WatchedTrainer, started: dict[str, Any], checkpoint: Path | None) -> None:
        """Take the trainer, what its `started` event says, and the checkpoint that it goes on from."""
        self._trainer, self._started = trainer, started
        if checkpoint is not None:
            state = json.loads(read_plain(checkpoint / TRAINER_STATE_FILE, 2**30))
            ours = state.get("stateful_callbacks", {}).get(type(self).__name__, {})
            self._tokens_before = int(ours.get("attributes", {}).get("tokens", 0))
            self._started |= {"resumed_from": str(checkpoint), "resumed_step": int(state["global_step"])}

    def state(self) -> dict[str, Any]:
        """Return what the Trainer writes into trainer_state.json."""
        return {"args": {}, "attributes": {"tokens": self._tokens}}

    @property
    def _tokens(self) -> int:
        counted = int(self._trainer._total_train_tokens) if self._trainer is not None else 0
        return self._tokens_before + counted

    def on_train_begin(self, args: Arguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        plan = {"total_steps": state.max_steps, "epochs": state.num_train_epochs}
        self._events.write("started", **self._started, **plan, logging_steps=state.logging_steps)
        if state.global_step >= state.max_steps:
            raise NothingLeft
        self._events.write("stage", stage="training")
        # The arguments look these up anew each time, which takes longer than all else here.
        self._first = args.process_index == 0
        self._rank_device = args.device if args.world_size > 1 else None
        if self._first:
            self._spectra = self._pictured(lambda: LiveSpectra(self._trainer.model))
        self._first_step, self._told = state.global_step, time.monotonic()

    def on_step_begin(self, args: Arguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step == self._first_step:  # the batches that a resumed run skips are skipped by now
            self._pace.begin(self._tokens)

    def on_step_end(self, args: Arguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._pace.step()
        stop, save, bad = self._agreed()
        if bad:
            self._judge_loss(state.global_step)
        if stop and not control.should_training_stop:
            control.should_training_stop = control.should_save = self.stopped = True
            args.save_only_model = False  # or nothing could go on from it
        if save:
            control.should_save = True
        if not control.should_log and time.monotonic() - self._told >= STEP_SECONDS:
            self._told = time.monotonic()
            self._events.write("step", step=state.global_step, epoch=state.epoch)

    def _agreed(self) -> tuple[bool, bool, bool]:
        """Say whether a stop and a checkpoint are asked for and a loss was bad, alike in every process."""
        stop, save, bad = self._stopping.is_set(), False, self._trainer.bad_loss is not None
        if self._first:
            stop = stop or stop_requested(self._folder)
            save = take_checkpoint_request(self._folder)
        if self._rank_device is None:
            return stop, save, bad
        import torch
        from torch import distributed

        flags = torch.tensor([stop, save, bad], dtype=torch.int32, device=self._rank_device)
        distributed.all_reduce(flags, op=distributed.ReduceOp.MAX)
        stop, save, bad = (bool(flag) for flag in flags.tolist())
        return stop, save, bad

    def _judge_loss(self, step: int) -> None:
        bad = NotFinite(*(self._trainer.bad_loss or (step, math.nan)))
        if self._stop_on_nan:
            raise bad
        if not self._told_of_nan:
            self._told_of_nan = True
            self._events.warn(bad.message)

    def on_log(self, args: Arguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        logs = dict(more["logs"])
        if "train_runtime" in logs:
            self.summary = logs
        elif any(name.startswith("eval_") for name in logs):
            self._events.write("eval", step=state.global_step, **logs)
        else:
            logs.pop("num_tokens", None)
            rows = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
            pace = self._pace.read(self._tokens, rows)
            self._told = time.monotonic()
            self._events.write("log", step=state.global_step, **logs, tokens=self._tokens, **pace)
            self._look_at_gradients(logs.get("grad_norm"), state.global_step)
            self._look_at_spectra(state.global_step)

    def _look_at_gradients(self, norm: float | None, step: int) -> None:
        """End a run that never learnt anything; one that did may well meet rows without a trained token."""
        if norm is None:
            return
        if norm != 0:
            self._learnt, self._zero_logs = True, 0
            return
        self._zero_logs += 1
        if not self._learnt and self._zero_logs == _ZERO_LOGS:
            raise NoGradients(step)
        if self._zero_logs == 1:
            self._events.warn(NoGradients(step).message)

    def _look_at_spectra(self, step: int) -> None:
        spectra = self._spectra
        event = self._pictured(lambda: spectra.measure(step)) if spectra is not None else None
        if event is not None:
            self._events.write(**event)

    def _pictured(self, picture: Callable[[], Picture]) -> Picture | None:
        """Return a picture of the run; one that fails is not worth the run, and is the last."""
        try:
            return picture()
        except LorabenchError as error:
            self._events.warn(str(error))
        except Exception as error:  # noqa: BLE001
            traceback.print_exception(error)
            self._events.warn(f"The spectra are looked at no more: {type(error).__name__}: {error}")
        self._spectra = None
        return None

    def on_evaluate(self, args: Arguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._pace.go_on()

    def on_save(self, args: Arguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        path = self._folder / f"checkpoint-{state.global_step}"
        self._events.write("checkpoint", step=state.global_step, path=str(path))
        self._pace.go_on()
