"""Names that TRL had once, or that PEFT and other tools use: found in files, and what to write now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorabench.text import visible
from lorabench.training.config.field import FieldProblem
from lorabench.training.preflight.finding import Mend

RENAMED = {
    "max_seq_length": "max_length",
    "evaluation_strategy": "eval_strategy",
    "no_cuda": "use_cpu",
    "torch_dtype": "dtype",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
    "warmup_ratio": "warmup_steps",
    "push_to_hub_token": "hub_token",
    "push_to_hub_model_id": "hub_model_id",
    "include_tokens_per_second": "include_num_input_tokens_seen",
    "model_name": "model_name_or_path",
    "use_4bit": "load_in_4bit",
    "lora_rank": "lora_r",
    "r": "lora_r",
    "target_modules": "lora_target_modules",
    "modules_to_save": "lora_modules_to_save",
    "target_parameters": "lora_target_parameters",
    "task_type": "lora_task_type",
    "base_model": "model_name_or_path",
    "micro_batch_size": "per_device_train_batch_size",
    "batch_size": "per_device_train_batch_size",
    "sequence_len": "max_length",
    "num_epochs": "num_train_epochs",
    "epochs": "num_train_epochs",
    "lr": "learning_rate",
    "optimizer": "optim",
}
"""Old name, or another tool's → the name that TRL 1.16 has for the same value."""

GONE = {
    "overwrite_output_dir": "the output folder is never emptied",
    "save_safetensors": "adapters are always saved as safetensors",
    "logging_dir": "set TENSORBOARD_LOGGING_DIR under env: instead",
    "use_mps_device": "a GPU is used where there is one",
    "half_precision_backend": "bf16 and fp16 are enough",
    "fp16_backend": "bf16 and fp16 are enough",
    "fp16_opt_level": "bf16 and fp16 are enough",
    "jit_mode_eval": "torch_compile is what is left",
    "use_ipex": "PyTorch does this itself",
    "tpu_num_cores": "TPUs are set up by accelerate",
    "ray_scope": "searches are configured where they are run",
    "dataset_batch_size": "the datasets library chooses it",
    "num_of_sequences": "packing needs max_length only",
    "chars_per_token": "packing needs max_length only",
    "group_by_length": "",
}
"""Names without a successor, and what to know about that; group_by_length became a value of another field."""


def is_old_name(name: str) -> bool:
    return name in RENAMED or name in GONE


def old_name_problem(name: str, values: Mapping[str, Any], line: int | None) -> FieldProblem | None:
    """Say what a field that is gone is called now, with a mend; None for any other name."""
    if name == "group_by_length":
        new, value = "train_sampling_strategy", "group_by_length" if values[name] is True else None
    elif name in RENAMED:
        new, value = RENAMED[name], values[name]
    elif name in GONE:
        return FieldProblem(
            name,
            f"{name} is gone from TRL 1.16: {GONE[name]}.",
            line=line,
            mend=Mend(f"remove {name}", {name: None}),
        )
    else:
        return None
    note = " (below 1 it is a share, as before)" if name == "warmup_ratio" else ""
    if value is None or new in values:
        both = f", which stands here too: {visible(values[new])}" if new in values else ""
        message, mend = f"TRL 1.16 calls {name} {new}{both}.", Mend(f"remove {name}", {name: None})
    else:
        message, mend = (
            f"TRL 1.16 calls {name} {new}{note}.",
            Mend(f"rename it to {new}", {name: None, new: value}),
        )
    return FieldProblem(name, message, line=line, mend=mend)
