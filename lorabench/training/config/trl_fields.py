"""All fields that a run.yaml may have, asked of TRL itself. Imports TRL's dataclasses: some seconds."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any

from lorabench.training.config.field import Field, Kind, Owner
from lorabench.training.config.fields import FIELDS

_KINDS: dict[Any, Kind] = {
    bool: "bool", int: "int", float: "float", str: "str", list: "list", tuple: "list", dict: "mapping"
}  # fmt: skip

# TRL's parser passes a bool on as it is, and the Trainer takes true for the newest checkpoint.
_ALSO: dict[str, tuple[Kind, ...]] = {"resume_from_checkpoint": ("bool",)}


@cache
def all_fields() -> Mapping[str, Field]:
    """Return every field by name: those of FIELDS, and the rest of TRL's and PEFT's, with their own help.

    LoRA fields that TRL has under another name (`r`, `target_modules`, …) and what PEFT fills in itself are
    left out.
    """
    found = dict(FIELDS)
    for owner, cls in owners().items():
        for field in read_fields(owner, cls):
            found.setdefault(field.name, field)
    return found


@cache
def owners() -> Mapping[Owner, type]:
    """Return the dataclasses that `trl sft` parses, and PEFT's LoraConfig."""
    from peft import LoraConfig
    from trl.scripts.utils import DatasetMixtureConfig, ScriptArguments
    from trl.trainer.model_config import ModelConfig
    from trl.trainer.sft_config import SFTConfig

    return {
        "ScriptArguments": ScriptArguments,
        "SFTConfig": SFTConfig,
        "ModelConfig": ModelConfig,
        "DatasetMixtureConfig": DatasetMixtureConfig,
        "LoraConfig": LoraConfig,
    }


_NOT_OURS_TO_SET = {
    "r", "lora_alpha", "lora_dropout", "target_modules", "target_parameters", "modules_to_save", "task_type",
    "use_rslora", "use_dora", "peft_type", "peft_version", "auto_mapping", "base_model_name_or_path",
    "revision", "inference_mode", "runtime_config",
}  # fmt: skip


_HTML = re.compile(r"</?(?:a|b|br|code|em|i|p|tt)\b[^>]*>")


def read_fields(owner: Owner, cls: type) -> list[Field]:
    """Return the fields of one dataclass as TRL declares them: name, type, default, choices and help."""
    hints = typing.get_type_hints(cls)
    return [
        _read(field, hints[field.name], owner)
        for field in dataclasses.fields(cls)
        if field.init and not (owner == "LoraConfig" and field.name in _NOT_OURS_TO_SET)
    ]


def _read(field: dataclasses.Field[Any], hint: Any, owner: Owner) -> Field:
    made: Any = field.default_factory
    default = field.default if made is dataclasses.MISSING else made()
    kinds, items, choices, optional = _spread(hint)
    return Field(
        field.name,
        _ALSO.get(field.name, ()) + kinds,
        default,
        _plain(str(field.metadata.get("help", ""))),
        owner=owner,
        choices=tuple(field.metadata.get("choices") or choices),
        items=items,
        optional=optional or default is None,
    )


def _plain(text: str) -> str:
    """Return argparse's help as it would print it, on one line and without the HTML that some of it has."""
    return re.sub(r"\s+", " ", _HTML.sub("", text)).replace("%%", "%").strip()


def _spread(hint: Any) -> tuple[tuple[Kind, ...], Kind, tuple[str, ...], bool]:
    """Return the kinds of a type, the kind of its list's items, its choices, and whether it may be None."""
    members = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    kinds: list[Kind] = []
    items: Kind = "str"
    choices: list[str] = []
    for member in members:
        origin = typing.get_origin(member) or member
        if origin is typing.Literal:
            for literal in typing.get_args(member):
                kinds.append(_KINDS[type(literal)])
                choices += [literal] if isinstance(literal, str) else []
        elif isinstance(origin, type) and issubclass(origin, Enum):
            kinds.append("str")
            choices += [entry.value for entry in origin]
        elif origin in _KINDS:
            kinds.append(_KINDS[origin])
            if origin in (list, tuple):
                inner = (typing.get_args(member) or (str,))[0]
                items = _KINDS.get(typing.get_origin(inner) or inner, "str" if _is_enum(inner) else "mapping")
        elif dataclasses.is_dataclass(member):
            kinds.append("mapping")
    return tuple(dict.fromkeys(kinds)), items, tuple(choices), type(None) in members


def _is_enum(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Enum)
