"""Short real trainings of the demo model, as `trl sft` would make them from a configuration."""

from __future__ import annotations

import dataclasses
import json
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from lorabench.training.config.run_config import RunConfig

# What a test's configuration may say to the trainer; the rest are TRL's defaults.
PASSED = {
    "output_dir",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "dataloader_drop_last",
    "max_steps",
    "num_train_epochs",
    "warmup_steps",
    "save_strategy",
    "save_steps",
    "save_total_limit",
    "save_only_model",
    "learning_rate",
    "optim",
    "gradient_checkpointing",
    "max_length",
    "use_cpu",
    "bf16",
    "packing",
    "assistant_only_loss",
}
assert {field.name for field in dataclasses.fields(SFTConfig)} >= PASSED


def rows(samples: Path, count: int) -> Dataset:
    """The first rows of the demo data."""
    lines = (samples / "demo-data" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    return Dataset.from_list([json.loads(line) for line in lines[:count]])


def trainer_of(config: RunConfig, data: Dataset) -> SFTTrainer:
    """Make TRL's trainer for a configuration of these tests, in float32."""
    settings: dict[str, Any] = {name: config.get(name) for name in PASSED}
    folder = config.get("model_name_or_path")
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        args=SFTConfig(**settings, report_to="none", logging_strategy="no", disable_tqdm=True),
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(folder),
        peft_config=config.peft_config(),
    )


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors made while it is active, as long as they live, and their peak."""

    def __init__(self, known: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self._live = {tensor.untyped_storage()._cdata: 0 for tensor in known}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        address = storage._cdata
        if address in self._live:
            return
        self._live[address] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._freed, address)

    def _freed(self, address: int) -> None:
        self.now -= self._live.pop(address)
