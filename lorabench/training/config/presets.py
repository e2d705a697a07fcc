"""What to begin a run with: presets, and a first run.yaml that trains as it is written."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lorabench.files import at_home, cannot, is_file, is_folder, is_there
from lorabench.resources import resource
from lorabench.runs.history import RUN_FILE
from lorabench.text import visible
from lorabench.training.config.field import ConfigError
from lorabench.training.config.fields import FIELDS
from lorabench.training.config.saving import write_text

SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
READERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
"""What `datasets` calls the reader of a single file; `dataset_name` takes folders and hub names only."""

_COMMENT_COLUMN = 48


@dataclass(frozen=True, slots=True)
class Preset:
    """Values to begin with, under a name; fields that are not here have TRL's defaults."""

    name: str
    help: str
    values: Mapping[str, Any]


_STYLE = {
    "dtype": "auto",
    "max_length": 1024,
    "use_peft": True,
    "lora_r": 8,
    "lora_alpha": 16,
    "lora_dropout": 0.05,
    "lora_target_modules": SEVEN,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "num_train_epochs": 3.0,
    "learning_rate": 2e-4,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.03,
    "gradient_checkpointing": True,
    "bf16": False,
    "seed": 42,
    "save_strategy": "steps",
    "save_steps": 250,
    "logging_steps": 10,
    "report_to": "none",
}
_FOUR_BIT = {
    "dtype": "bfloat16",
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "use_bnb_nested_quant": True,
    "optim": "paged_adamw_8bit",
}
_ALL_LINEAR = {"lora_r": 64, "lora_alpha": 128, "lora_target_modules": "all-linear"}
_DEMO = {"dtype": "float32", "max_length": 256, "learning_rate": 2e-3, "gradient_checkpointing": False}
"""What a model of 0.9 M parameters on a CPU wants otherwise."""

PRESETS = (
    Preset("style", "style SFT: r 8 on the seven projections", _STYLE),
    Preset("qlora", "QLoRA: the same on a base model in 4 bits, for a GPU", _STYLE | _FOUR_BIT),
    Preset("all-linear", "high rank: r 64 on every linear module", _STYLE | _ALL_LINEAR),
)


def preset_named(name: str) -> Preset:
    """Return a preset by its name.

    Raises:
        ConfigError: there is none; says which there are.
    """
    for preset in PRESETS:
        if preset.name == name:
            return preset
    names = ", ".join(preset.name for preset in PRESETS)
    raise ConfigError(f'There is no preset "{visible(name)}".', f"There are {names}.")


def new_run(
    folder: Path, preset: Preset = PRESETS[0], *, model: str | None = None, data: str | None = None
) -> Path:
    """Write a run.yaml that trains as it is, and return its path.

    Without `model` and `data` it trains the demo model on the demo data. Local paths are made absolute, so
    that `trl sft --config` runs it from any folder.

    Raises:
        ConfigError: there is a run.yaml already, or a path is not there.
    """
    path = folder / RUN_FILE
    if os.path.lexists(path):
        raise ConfigError(f"{visible(path)} is there already, and stays as it is.", "Name another folder.")
    values = dict(preset.values) | (_DEMO if model is None else {})
    values["model_name_or_path"] = _place(model, resource("sample_adapters") / "demo-model")
    values |= _data(_place(data, resource("sample_adapters") / "demo-data"))
    values["output_dir"] = str(folder.absolute())
    text = _written(values, f"{preset.help}.\n# trl sft --config {shlex.quote(visible(path))}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(*cannot(folder, "made", error)) from error
    write_text(path, text)
    return path


def _place(given: str | None, shipped: Path) -> str:
    """Return an absolute path for what is on this machine, and a name on the hub as it is.

    Raises:
        ConfigError: it can only be a path, and nothing is there.
    """
    if given is None:
        return str(shipped.absolute())
    path = at_home(given)
    if is_there(path):
        return str(path.absolute())
    if given.startswith((".", "/", "~")) or given.count("/") > 1 or path.suffix in READERS:
        raise ConfigError(f"{visible(path)} is not there.", "Name a folder, a file, or a name on the hub.")
    return given


def _data(place: str) -> dict[str, Any]:
    """Return the fields that make TRL read these data, and train on answers where there are conversations."""
    path = Path(place)
    files = [path] if is_file(path) else sorted(path.glob("*.jsonl")) if is_folder(path) else []
    if is_file(path) and path.suffix not in READERS:
        raise ConfigError(
            f"{visible(path.name)} is of no kind that can be read by itself.", f"Give {' '.join(READERS)}."
        )
    one = {"datasets": [{"path": READERS.get(path.suffix), "data_files": place}]}
    where = one if is_file(path) else {"dataset_name": place}
    talks = bool(files) and files[0].suffix == ".jsonl" and "messages" in _first_row(files[0])
    return where | ({"assistant_only_loss": True} if talks else {})


def _first_row(path: Path) -> Mapping[str, Any]:
    """Return the first row of a jsonl file; none when that cannot be read, which the preflight then says."""
    try:
        with path.open(encoding="utf-8") as file:
            row = json.loads(file.readline(1_000_000))
    except (OSError, ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _written(values: Mapping[str, Any], head: str) -> str:
    """Return the text of a run.yaml: group by group, each field with its help."""
    blocks = [f"# {head}"]
    for group in dict.fromkeys(field.group for field in FIELDS.values()):
        fields = [field for field in FIELDS.values() if field.group == group and field.name in values]
        lines = [_line(field.name, values[field.name], field.help) for field in fields]
        blocks.append("\n".join([f"# {group}", *lines]))
    blocks.append(
        "# for lorabench, which chooses bf16, fp16 or fp32 for the GPU at hand; trl sft passes this by\n"
        "env:\n  LORABENCH:\n    precision: auto"
    )
    return "\n\n".join(blocks) + "\n"


def _line(name: str, value: Any, about: str) -> str:
    nested = isinstance(value, list) and not all(isinstance(item, str) for item in value)
    text = yaml.safe_dump(
        value, default_flow_style=not nested, sort_keys=False, allow_unicode=True, width=1e6
    )
    text = text.removesuffix("...\n").rstrip()
    line = f"{name}:\n{text}" if nested else f"{name}: {text}"
    fits = "\n" not in line and len(line) <= _COMMENT_COLUMN
    return f"{line:<{_COMMENT_COLUMN}}  # {about}" if fits else f"# {about}\n{line}"
