"""How many steps the Trainer will take, and what its checkpoints will weigh."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorabench.files import is_file, is_there
from lorabench.text import human_bytes
from lorabench.training.preflight.finding import Finding, Mend
from lorabench.training.preflight.model_source import ModelNotFound, source_of
from lorabench.training.preflight.processes import Processes, processes_of

if TYPE_CHECKING:
    from lorabench.training.config.run_config import RunConfig

CHECK = "steps"
# Bytes of the small files: adapter_config.json, trainer_state.json, training_args.bin, README.md; and, to go
# on from it, the scheduler, the random generators' state and what optimizer.pt holds beside its states.
_SMALL_FILES, _STATE_FILES = 16_000, 36_000
_TOKENIZER = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "chat_template.jinja")
_LOG_ENTRY = 280  # bytes of a line of the log in trainer_state.json
_STATES = {
    "adamw": 2.0,
    "adam": 2.0,
    "lion": 1.0,
    "rmsprop": 1.0,
    "adagrad": 1.0,
    "adafactor": 0.1,
    "sgd": 0.0,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What the Trainer will do with `rows` rows: optimizer steps, and micro-batches of a process."""

    rows: int
    effective_batch: int
    micro_batches: int
    steps_per_epoch: int
    steps: int
    warmup: int
    checkpoints: tuple[int, ...]
    kept: int


def plan(config: RunConfig, rows: int, processes: int = 1) -> Plan:
    """Count batches and steps as `Trainer.set_initial_training_values` and accelerate's sharding do.

    `rows` are the rows that reach the collator: after filtering, and after packing.
    """
    batch = int(config.get("per_device_train_batch_size"))
    accumulation = int(config.get("gradient_accumulation_steps"))
    drop_last = bool(config.get("dataloader_drop_last"))
    batches = rows // batch if drop_last else math.ceil(rows / batch)
    micro_batches = batches // processes if drop_last else math.ceil(batches / processes)
    per_epoch = max(math.ceil(micro_batches / accumulation), 1)
    max_steps = int(config.get("max_steps"))
    steps = max_steps if max_steps > 0 else math.ceil(float(config.get("num_train_epochs")) * per_epoch)
    if not micro_batches:
        steps = 0
    checkpoints = _checkpoints(config, steps, per_epoch)
    limit = config.get("save_total_limit")
    kept = min(len(checkpoints), int(limit)) if limit and int(limit) > 0 else len(checkpoints)
    return Plan(
        rows=rows,
        effective_batch=batch * accumulation * processes,
        micro_batches=micro_batches,
        steps_per_epoch=per_epoch,
        steps=steps,
        warmup=_of_steps(float(config.get("warmup_steps") or 0), steps),
        checkpoints=checkpoints,
        kept=kept,
    )


def _of_steps(value: float, steps: int) -> int:
    """A number of steps; below 1 it is a share of all, rounded up (`warmup_steps`, `save_steps`)."""
    return int(value) if value >= 1 else math.ceil(steps * value)


def _checkpoints(config: RunConfig, steps: int, per_epoch: int) -> tuple[int, ...]:
    """The steps after which a checkpoint is saved; the last step is always one of them."""
    strategy = str(getattr(config.get("save_strategy"), "value", config.get("save_strategy")))
    if strategy not in ("steps", "epoch") or not steps:
        return ()
    every = per_epoch if strategy == "epoch" else _of_steps(float(config.get("save_steps")), steps)
    regular = range(every, steps + 1, every) if every > 0 else range(0)
    return tuple(dict.fromkeys([*regular, steps]))


def steps_findings(
    config: RunConfig,
    rows: int | None,
    *,
    tokens: int | None = None,
    trainable: int = 0,
    processes: int | None = None,
) -> list[Finding]:
    """Say batches, steps, warm-up, and the checkpoints with the disk that they take.

    `tokens` is how many tokens all rows have, after truncation: with packing it tells how many rows are left.
    `trainable` is the number of trained parameters. `processes` is by default what the launcher will start.
    """
    if rows is None:
        if int(config.get("max_steps")) > 0:
            return [Finding(CHECK, "ok", f"{int(config.get('max_steps')):,} steps (max_steps).")]
        message = "A dataset that is streamed has no length, and needs max_steps."
        return [Finding(CHECK, "error", message, mend=Mend("take 1,000 steps", {"max_steps": 1000}))]
    launched = processes_of(config) if processes is None else Processes(processes)
    packed = bool(config.get("packing")) and tokens is not None
    if packed and tokens is not None:
        rows = max(1, math.ceil(tokens / int(config.get("max_length"))))
    planned = plan(config, rows, launched.count)
    if not planned.steps:
        return [_no_step(config, planned)]
    sentence = _sentence(config, planned, packed, launched.count)
    findings = [Finding(CHECK, "ok", sentence, _detail(planned, launched))]
    if launched.asked:
        findings.append(_one_process(launched.asked))
    if launched.gpus and launched.count > launched.gpus and not config.get("use_cpu"):
        findings.append(_too_few_gpus(launched.count, launched.gpus))
    if config.get("packing") and not packed:
        message = (
            "packing joins rows, so there will be fewer steps than that; how many needs the token counts."
        )
        findings.append(Finding(CHECK, "warning", message))
    if planned.warmup >= planned.steps:
        taken = f"{planned.warmup} of {planned.steps} steps"
        message = f"Warm-up takes {taken}: the full learning rate is never reached."
        findings.append(
            Finding(CHECK, "warning", message, mend=Mend("warm up for 3 %", {"warmup_steps": 0.03}))
        )
    findings.append(_disk(config, planned, trainable))
    return findings


def _no_step(config: RunConfig, planned: Plan) -> Finding:
    message = (
        f"No step: {planned.rows} rows do not fill a batch of {config.get('per_device_train_batch_size')}, "
        "and dataloader_drop_last drops what is left."
        if planned.rows
        else "No step: there are no rows."
    )
    mend = Mend("keep the last batch", {"dataloader_drop_last": False}) if planned.rows else None
    return Finding(CHECK, "error", message, mend=mend)


def _sentence(config: RunConfig, planned: Plan, packed: bool, world: int) -> str:
    batch, accumulation = config.get("per_device_train_batch_size"), config.get("gradient_accumulation_steps")
    factors = [
        f"{batch}",
        *([f"{accumulation}"] if accumulation > 1 else []),
        *([f"{world}"] if world > 1 else []),
    ]
    effective = " × ".join(factors)
    if len(factors) > 1:
        effective += f" = {planned.effective_batch}"
    rows = f"about {planned.rows:,} packed rows" if packed else f"{planned.rows:,} rows"
    count = f"about {planned.steps:,}" if packed and config.get("max_steps") <= 0 else f"{planned.steps:,}"
    if config.get("max_steps") > 0:
        epochs = planned.steps / planned.steps_per_epoch
        told = f"{count} steps (max_steps), {epochs:.3g} epochs of {planned.steps_per_epoch:,}"
    else:
        told = (
            f"{planned.steps_per_epoch:,} × {float(config.get('num_train_epochs')):g} epochs = {count} steps"
        )
    warm_up = f", warm-up {planned.warmup:,}" if planned.warmup else ""
    return f"{rows}, batch {effective}: {told}{warm_up}."


def _detail(planned: Plan, launched: Processes) -> str:
    batches = f"{planned.micro_batches:,} micro-batches an epoch on each process."
    return f"{batches}\n{launched.count} processes: {launched.source}." if launched.source else batches


def _one_process(asked: int) -> Finding:
    message = f"Counted for one process: num_processes is {asked}, but here accelerate would start one."
    detail = (
        "It starts several where there are two GPUs, or with an accelerate_config such as multi_gpu or zero2."
    )
    return Finding(CHECK, "warning", message, detail)


def _too_few_gpus(count: int, gpus: int) -> Finding:
    there = "is 1 GPU" if gpus == 1 else f"are {gpus} GPUs"
    message = f"{count} processes need a GPU each, and there {there}."
    return Finding(CHECK, "error", message, mend=Mend(f"start {gpus}", {"num_processes": gpus}))


def _disk(config: RunConfig, planned: Plan, trainable: int) -> Finding:
    """A checkpoint holds the adapter, and to go on from it optimizer, scheduler and random state."""
    if not planned.checkpoints:
        return Finding(CHECK, "ok", "No checkpoints (save_strategy); the adapter is saved at the end.")
    kept = planned.checkpoints[len(planned.checkpoints) - planned.kept :]
    sizes = [checkpoint_bytes(config, trainable, step) for step in kept]
    count = len(planned.checkpoints)
    last = f", the last {planned.kept} kept" if planned.kept < count else ""
    noun = "checkpoint" if count == 1 else "checkpoints"
    message = f"{count} {noun}{last}: about {human_bytes(sizes[-1])} each, {human_bytes(sum(sizes))} on disk"
    free = _free_bytes(config.folder)
    if sum(sizes) > free:
        mend = Mend("keep the last 2", {"save_total_limit": 2}) if planned.kept > 2 else None
        return Finding(CHECK, "warning", f"{message}, which has {human_bytes(free)} free.", mend=mend)
    return Finding(CHECK, "ok", f"{message}.")


def _free_bytes(folder: Path) -> int:
    """Return what is free where this folder is, or will be made."""
    there = next(parent for parent in (folder, *folder.parents) if is_there(parent))
    return shutil.disk_usage(there).free


def checkpoint_bytes(config: RunConfig, trainable: int, step: int = 0) -> float:
    """Bytes of a checkpoint: the adapter in float32 (bfloat16 with a quantized base), the optimizer's states,
    the tokenizer, and the log up to this step.
    """
    width = adapter_width(config)
    beside = _SMALL_FILES + _tokenizer_bytes(config) + _LOG_ENTRY * _log_entries(config, step)
    if config.get("save_only_model"):
        return trainable * width + beside
    return trainable * (width + optimizer_bytes(config, width)) + beside + _STATE_FILES


def _log_entries(config: RunConfig, step: int) -> int:
    every = float(config.get("logging_steps"))
    return int(step / every) if every >= 1 else int(1 / every) if step else 0


def _tokenizer_bytes(config: RunConfig) -> int:
    """Bytes of the tokenizer's files, which are saved as they were read; 0 where they are not here yet."""
    try:
        folder = source_of(config).folder
    except ModelNotFound:
        return 0
    return sum((folder / name).stat().st_size for name in _TOKENIZER if is_file(folder / name))


def adapter_width(config: RunConfig) -> int:
    """Bytes of a trained parameter: float32 by PEFT; bfloat16 on a quantized base, by SFTTrainer."""
    return 2 if config.get("load_in_4bit") or config.get("load_in_8bit") else 4


def optimizer_bytes(config: RunConfig, width: int) -> float:
    """Bytes of optimizer state for a trained parameter, by transformers' name of the optimizer.

    AdamW keeps two moments (Loshchilov & Hutter 2019), Lion one (Chen et al. 2023), Adafactor a row and a
    column for a matrix (Shazeer & Stern 2018); 8-bit states are one byte each (Dettmers et al. 2022).
    """
    name = str(getattr(config.get("optim"), "value", config.get("optim")))
    states = next((count for start, count in _STATES.items() if start in name), 2.0)
    each = 1 if "8bit" in name or "4bit" in name else 4 if "apex" in name else width
    return states * each
