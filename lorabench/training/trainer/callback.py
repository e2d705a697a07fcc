"""The Trainer's callback: writes what happens to the events file, and does what is asked of the run."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from lorabench.runs.history import TRAINER_STATE_FILE
from lorabench.runs.requests import stop_requested, take_checkpoint_request
from lorabench.training.trainer.failures import NoGradients, NotFinite

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState
    from trl import SFTConfig

    from lorabench.training.trainer.events import Events
    from lorabench.training.trainer.watched import WatchedTrainer

_ZERO_LOGS = 3
_RENAMED = {"num_tokens": "tokens"}


class RunCallback(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Follows one training.

    It only writes to the events file and looks for requests in the folder; whoever watches reads them there.
    The tokens seen so far stand in each checkpoint's trainer_state.json, since TRL counts anew on resuming.
    """

    def __init__(
        self, folder: Path, events: Events, stopping: threading.Event, *, stop_on_nan: bool = True
    ) -> None:
        self.stopped = False
        self.summary: dict[str, Any] = {}
        self.tokens_before = 0
        self._folder, self._events, self._stopping = folder, events, stopping
        self._stop_on_nan = stop_on_nan
        self._trainer: WatchedTrainer | None = None
        self._started: dict[str, Any] = {}
        self._tokens = self._tokens_logged = 0
        self._mark = self._seconds = 0.0
        self._steps = 0
        self._zero_logs = 0
        self._learnt = self._told_of_nan = False

    def follow(self, trainer: WatchedTrainer, started: dict[str, Any], checkpoint: Path | None) -> None:
        """Take the trainer to follow, what its `started` event says, and the checkpoint that it goes on from."""
        self._trainer, self._started = trainer, started
        if checkpoint is not None:
            state = json.loads((checkpoint / TRAINER_STATE_FILE).read_bytes())
            ours = state.get("stateful_callbacks", {}).get(type(self).__name__, {})
            self.tokens_before = int(ours.get("attributes", {}).get("tokens", 0))
            self._started |= {"resumed_from": str(checkpoint), "resumed_step": int(state["global_step"])}

    def state(self) -> dict[str, Any]:
        """Return what the Trainer writes into trainer_state.json."""
        return {"args": {}, "attributes": {"tokens": self._tokens_now()}}

    def _tokens_now(self) -> int:
        counted = int(self._trainer._total_train_tokens) if self._trainer is not None else 0
        return self.tokens_before + counted

    def on_train_begin(self, args: SFTConfig, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._events.write(
            "started",
            **self._started,
            total_steps=state.max_steps,
            epochs=state.num_train_epochs,
            logging_steps=state.logging_steps,
        )
        self._events.write("stage", stage="training")
        self._tokens_logged = self.tokens_before
        self._mark = time.perf_counter()

    def on_step_end(self, args: SFTConfig, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        now = time.perf_counter()
        self._seconds += now - self._mark
        self._steps += 1
        self._mark = now
        self.look_at_loss()
        stop, save = self._asked(args)
        if stop and not control.should_training_stop:
            control.should_training_stop = control.should_save = self.stopped = True
        if save:
            control.should_save = True

    def _asked(self, args: SFTConfig) -> tuple[bool, bool]:
        """Say whether a stop and a checkpoint are asked for, the same on every process."""
        stop = self._stopping.is_set()
        save = False
        if args.process_index == 0:
            stop = stop or stop_requested(self._folder)
            save = take_checkpoint_request(self._folder)
        if args.world_size > 1:
            import torch
            import torch.distributed

            flags = torch.tensor([stop, save], dtype=torch.int32, device=args.device)
            torch.distributed.all_reduce(flags, op=torch.distributed.ReduceOp.MAX)
            stop, save = (bool(flag) for flag in flags.tolist())
        return stop, save

    def look_at_loss(self) -> None:
        """Raise NotFinite where a loss was none, unless that is wanted; then warn once."""
        bad = self._trainer.bad_loss if self._trainer is not None else None
        if bad is None:
            return
        if self._stop_on_nan:
            raise NotFinite(*bad)
        if not self._told_of_nan:
            self._told_of_nan = True
            self._events.write("warning", text=str(NotFinite(*bad)), source="lorabench")

    def on_log(
        self,
        args: SFTConfig,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        fields = {_RENAMED.get(name, name): value for name, value in (logs or {}).items()}
        fields |= {"step": state.global_step}
        if "train_runtime" in fields:
            self.summary = fields
        elif any(name.startswith("eval_") for name in fields):
            self._events.write("eval", **fields)
        else:
            self._log(args, fields)

    def _log(self, args: SFTConfig, fields: dict[str, Any]) -> None:
        self._tokens = self._tokens_now()
        if self._seconds > 0:
            rows = self._steps * args.train_batch_size * args.gradient_accumulation_steps * args.world_size
            fields |= {
                "tokens": self._tokens,
                "tokens_per_second": (self._tokens - self._tokens_logged) / self._seconds,
                "step_seconds": self._seconds / self._steps,
                "samples_per_second": rows / self._seconds,
            }
        self._tokens_logged = self._tokens
        self._seconds, self._steps = 0.0, 0
        self._events.write("log", **fields)
        if "grad_norm" in fields:
            self._look_at_gradients(fields["grad_norm"], fields["step"])

    def _look_at_gradients(self, norm: float, step: int) -> None:
        if norm != 0:
            self._learnt, self._zero_logs = True, 0
            return
        self._zero_logs += 1
        if self._zero_logs == 1:
            self._events.write("warning", text=str(NoGradients(step)), source="lorabench")
        if not self._learnt and self._zero_logs == _ZERO_LOGS:
            raise NoGradients(step)

    def on_evaluate(self, args: SFTConfig, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._mark = time.perf_counter()

    def on_save(self, args: SFTConfig, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        path = self._folder / f"checkpoint-{state.global_step}"
        self._events.write("checkpoint", step=state.global_step, path=str(path))
        self._mark = time.perf_counter()
