"""What TRL's own dataclasses say about a configuration. Imports TRL: some seconds."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from copy import deepcopy
from difflib import get_close_matches
from functools import cache

from lorabench.text import visible
from lorabench.training.config.field import FieldProblem
from lorabench.training.config.fields import FIELDS, LORA_EXTRA, OUR_KEY
from lorabench.training.config.old_names import is_old_name
from lorabench.training.config.run_config import RunConfig
from lorabench.training.config.trl_fields import all_fields, owners
from lorabench.training.preflight.finding import Mend


def trl_problems(config: RunConfig) -> list[FieldProblem]:
    """Return what `config.problems` cannot know: unknown names, fields that only TRL declares, and whatever
    the dataclasses of TRL and PEFT refuse.
    """
    return [*_names_and_types(config), *_refused(config)]


def _names_and_types(config: RunConfig) -> Iterator[FieldProblem]:
    lines = config.lines
    for name, value in config.values.items():
        field = all_fields().get(name)
        if name in FIELDS or name in LORA_EXTRA or name == "env" or is_old_name(name):
            continue
        if field is not None:
            yield from filter(None, [field.problem(value, lines.get(name))])
        elif name not in _launch_options():
            yield _unknown(name, config)
    for name, value in config.lora_extra.items():
        if name not in LORA_EXTRA:
            message = f"{visible(name)} is no field of PEFT's LoraConfig that can be set here."
            yield FieldProblem(visible(name), message, line=lines.get("env"))
        elif name not in FIELDS:
            yield from filter(None, [all_fields()[name].problem(value, lines.get("env"))])


def _unknown(name: str, config: RunConfig) -> FieldProblem:
    line = config.lines.get(name)
    message = f"{visible(name)} is no field of TRL's, and `trl sft` refuses it"
    near = _meant(name, config)
    if near is None:
        return FieldProblem(name, f"{message}.", line=line, mend=Mend("remove it", {name: None}))
    mend = Mend(f"rename it to {near}", {name: None, near: config.values[name]})
    if near in LORA_EXTRA:
        message = f"{message}; did you mean {near}, which belongs under env: {OUR_KEY}: lora:?"
        return FieldProblem(name, message, line=line, mend=mend)
    return FieldProblem(name, f"{message}; did you mean {near}?", line=line, mend=mend)


def _meant(name: str, config: RunConfig) -> str | None:
    """Return the field that a misspelt name stands for; one that belongs elsewhere only when it is close."""
    top_level = [field for field in all_fields() if field not in LORA_EXTRA]
    for fields, cutoff in ((top_level, 0.75), (LORA_EXTRA, 0.85)):
        near = [found for found in get_close_matches(name, fields, cutoff=cutoff) if not config.has(found)]
        if near:
            return near[0]
    return None


@cache
def _launch_options() -> frozenset[str]:
    """Return the options of `accelerate launch` that take a value: `trl sft` passes them on."""
    from accelerate.commands.launch import launch_command_parser

    options = {
        word.lstrip("-")
        for action in launch_command_parser()._actions
        if action.nargs is None
        for word in action.option_strings
    }
    return frozenset(options | {"accelerate_config"})


def _refused(config: RunConfig) -> Iterator[FieldProblem]:
    """Build each dataclass from the fields that are right by themselves, and pass on what it refuses."""
    for owner, cls in owners().items():
        names = [name for name, field in all_fields().items() if field.owner == owner]
        # TRL changes a list in place.
        values = deepcopy({name: config.get(name) for name in names})
        if owner == "SFTConfig":
            # Which device there is, is another question: on a CPU every precision passes.
            values |= {"use_cpu": True, "output_dir": str(config.folder)}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                config.peft_config() if owner == "LoraConfig" else cls(**values)
        except Exception as error:  # noqa: BLE001  their own verdict, of whatever class
            yield _verdict(error, config, names)


def _verdict(error: Exception, config: RunConfig, names: list[str]) -> FieldProblem:
    """Turn an exception of TRL's into a problem of the field in the file that it speaks of, if it does."""
    message = visible(" ".join(str(error).split()))
    given = [name for name in names if config.has(name)]
    spoken_of = [word for word in re.findall(r"\w+", message) if word in given]
    name = spoken_of[0] if spoken_of else given[0] if len(given) == 1 else ""
    line = config.lines.get("env" if name in LORA_EXTRA else name)
    if isinstance(error, ImportError) and name:
        message = f"{name} needs a package that is not installed: {message}"
        return FieldProblem(name, message, line=line, mend=Mend(f"leave out {name}", {name: None}))
    wrong = re.match(r"(\S+) is not a valid \w+, please select one of (.*)", message)
    if wrong:
        return _no_choice(config, given, wrong[1], re.findall(r"'([^']+)'", wrong[2]))
    return FieldProblem(name, f"Refused by TRL: {message}", line=line)


def _no_choice(config: RunConfig, given: list[str], value: str, choices: list[str]) -> FieldProblem:
    """Say of a value that is none of transformers' choices which one was likely meant."""
    name = next((name for name in given if str(config.values.get(name)) == value), "")
    near = get_close_matches(value, choices, n=1)
    meant = f"; did you mean {near[0]}?" if near else "."
    mend = Mend(f"write {near[0]}", {name: near[0]}) if near and name else None
    message = f"{name or 'A value'} is {value}, which TRL does not know{meant}"
    return FieldProblem(name, message, f"one of {', '.join(choices)}", line=config.lines.get(name), mend=mend)
