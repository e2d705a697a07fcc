"""SFTTrainer, with an eye on each step's loss: the Trainer leaves NaN out of the losses that it logs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers.trainer_callback import ProgressCallback

from lorabench.training.trainer.pushing import PushingTrainer


class WatchedTrainer(PushingTrainer):
    """TRL's trainer; it says when it begins to prepare rows, and keeps what each step's loss was.

    `stage` is called with "preparing". `bad_loss` is the first loss that is no finite number, as
    (optimizer step from 1, value), or None.
    """

    def __init__(self, *, stage: Callable[[str], None], **arguments: Any) -> None:
        self._stage = stage
        self.bad_loss: tuple[int, float] | None = None
        super().__init__(**arguments)

    def _prepare_dataset(self, *arguments: Any, **options: Any) -> Any:
        self._stage("preparing")
        return super()._prepare_dataset(*arguments, **options)

    def train(self, *arguments: Any, **options: Any) -> Any:
        """Train, and close the progress bars, which an error leaves open for the next run's log."""
        try:
            return super().train(*arguments, **options)
        finally:
            for callback in self.callback_handler.callbacks:
                if isinstance(callback, ProgressCallback):
                    for bar in (callback.training_bar, callback.prediction_bar):
                        if bar is not None:
                            bar.close()

    def training_step(self, *arguments: Any, **options: Any) -> torch.Tensor:
        """Take a micro-batch's step and look at its loss, for which the Trainer waits anyway."""
        loss: torch.Tensor = super().training_step(*arguments, **options)  # type: ignore[no-untyped-call]
        if self.bad_loss is None and not torch.isfinite(loss):
            self.bad_loss = (self.state.global_step + 1, float(loss))
        return loss
