"""SFTTrainer, but for what of a run's folder goes to the hub."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import HubStrategy
from transformers.utils.hub import PushInProgress
from trl.trainer.sft_trainer import SFTTrainer

from lorabench.files import is_there

CARD = "README.md"


class PushingTrainer(SFTTrainer):
    """TRL's trainer, which uploads what was saved last, from where it lies, and no more.

    The Trainer's own pushes save over what is in place, and upload all that the run's folder holds: the
    variables under `env:` too, and this machine's name.
    """

    hub_model_id: Any
    push_in_progress: Any

    def __init__(self, **arguments: Any) -> None:
        self._saved: list[str] = []
        super().__init__(**arguments)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the adapter and what belongs to it, and note which files those are."""
        super().save_model(output_dir, _internal_call)
        folder = Path(output_dir or str(self.args.output_dir))
        if self.is_world_process_zero() and folder.is_dir():
            # PEFT's card may name a folder of this machine as the base model; `publish` writes another.
            self._saved = [path.name for path in folder.iterdir() if path.name != CARD]

    def publish(self, dataset_name: str | None) -> None:
        """Upload what was saved last, which lies in the output folder by now, with a model card; wait for it.

        Raises:
            OSError, …: whatever the libraries raise where it cannot be uploaded.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if not self.is_world_process_zero():
            return
        self.create_model_card(
            model_name=self.hub_model_id.split("/")[-1],
            dataset_name=None if dataset_name and is_there(Path(dataset_name)) else dataset_name,
            tags=getattr(self.model, "model_tags", None),
        )
        self._finish_current_push()
        only = [*self._saved, CARD]
        self._upload(self.args.output_dir, commit_message="End of training", allow_patterns=only)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        strategy, pending = self.args.hub_strategy, self.push_in_progress
        if not self.is_world_process_zero() or strategy == HubStrategy.END:
            return
        busy = pending is not None and not pending.is_done()
        if busy and not self.args.hub_always_push:
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        told = f"Training in progress, step {self.state.global_step}"
        begin = partial(self._upload, checkpoint_folder, run_as_future=True)
        jobs = [begin(commit_message=told, allow_patterns=self._saved)]
        if strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            last = strategy == HubStrategy.CHECKPOINT
            place = "last-checkpoint" if last else Path(checkpoint_folder).name
            jobs.append(begin(commit_message=f"{told}, checkpoint", path_in_repo=place))
        self.push_in_progress = PushInProgress(
            [*(pending.jobs if busy else ()), *jobs]  # type: ignore[arg-type]
        )

    def _upload(self, folder: Any, **options: Any) -> Any:
        return HfApi().upload_folder(
            repo_id=self.hub_model_id,
            folder_path=folder,
            token=self.args.hub_token,
            revision=self.args.hub_revision,
            # They hold the token.
            ignore_patterns=[TRAINING_ARGS_NAME] if self.args.hub_token else [],
            **options,
        )
