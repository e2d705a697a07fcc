"""What is wrong with a configuration, as far as that can be said without TRL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lorabench.runs.device import read_capability
from lorabench.text import visible
from lorabench.training.config.field import FieldProblem, described, unnameable
from lorabench.training.config.fields import FIELDS, LORA_EXTRA, OUR_KEY
from lorabench.training.config.old_names import old_name_problem
from lorabench.training.config.precision import four_bit_dtype
from lorabench.training.preflight.finding import Mend

if TYPE_CHECKING:
    from lorabench.training.config.run_config import RunConfig


def problems_of(config: RunConfig) -> Iterator[FieldProblem]:
    """Yield the fields whose value cannot be, those that stand in the wrong place, and those that clash."""
    for name, value in config.values.items():
        yield from filter(None, [_problem(config, name, value)])
    for name, value in environment(config).items():
        if fault := environment_fault(name, value):
            yield FieldProblem("env", f"env: {fault}", line=config.lines.get("env"))
    for name, value in config.lora_extra.items():
        if name in FIELDS:
            yield from filter(None, [FIELDS[name].problem(value, config.lines.get("env"))])
    yield from _clashes(config)


def _problem(config: RunConfig, name: str, value: Any) -> FieldProblem | None:
    line = config.lines.get(name)
    if name == "env":
        return _env_problem(value, line)
    if name == "precision" or name in LORA_EXTRA:
        message = f"{name} is no field of TRL's, which refuses it here; it belongs under env: {OUR_KEY}:."
        return FieldProblem(name, message, line=line, mend=Mend("move it there", {name: value}))
    if name in FIELDS:
        return FIELDS[name].problem(value, line)
    return old_name_problem(name, config.values, line)


def _env_problem(env: Any, line: int | None) -> FieldProblem | None:
    allowed = "NAME: value, one a line"
    if not isinstance(env, Mapping):
        return FieldProblem("env", "env must hold environment variables.", allowed, line=line)
    ours = env.get(OUR_KEY, {})
    if not (
        isinstance(ours, Mapping)
        and isinstance(ours.get("lora", {}), Mapping)
        and isinstance(ours.get("stop_on_nan", True), bool)
        and ours.keys() <= {"precision", "lora", "stop_on_nan"}
    ):
        return FieldProblem(
            "env",
            f"env: {OUR_KEY}: may hold precision:, lora:, a mapping, and stop_on_nan:, true or false, only.",
            line=line,
        )
    return FIELDS["precision"].problem(ours.get("precision", "auto"), line)


def environment(config: RunConfig) -> dict[str, str]:
    """Return the variables under `env:` as TRL would set them, without our own."""
    env = config.values.get("env")
    named = {str(name): value for name, value in env.items()} if isinstance(env, Mapping) else {}
    return {name: str(value) for name, value in named.items() if name != OUR_KEY}


def environment_fault(name: str, value: str) -> str:
    """Say why no environment can hold this variable; "" where it can."""
    if not name or "=" in name or unnameable(name):
        return f"{described(name)} is no name of an environment variable."
    if unnameable(value):
        return f"{described(name)} holds {visible(unnameable(value))}, which no variable may hold."
    return ""


def _clashes(config: RunConfig) -> Iterator[FieldProblem]:
    lines = config.lines
    if config.get("bf16") and config.get("fp16"):
        yield FieldProblem(
            "fp16",
            "bf16 and fp16 are both true; at most one can be.",
            line=lines.get("fp16"),
            mend=Mend("let lorabench choose", {"precision": "auto"}),
        )
    if config.get("load_in_4bit") and config.get("load_in_8bit"):
        yield FieldProblem(
            "load_in_8bit",
            "load_in_4bit and load_in_8bit are both true; at most one can be.",
            line=lines.get("load_in_8bit"),
            mend=Mend("4 bits", {"load_in_8bit": False}),
        )
    if config.get("load_in_4bit") and config.get("dtype") == "auto":
        dtype = four_bit_dtype(read_capability())
        yield FieldProblem(
            "dtype",
            "dtype is auto, but TRL multiplies 4-bit weights in dtype, and takes no auto there.",
            line=lines.get("dtype"),
            mend=Mend(f"dtype {dtype}", {"dtype": dtype}),
        )
