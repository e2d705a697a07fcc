"""A field of run.yaml: its type, what it may be, and how TRL's parser would read a value of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from difflib import get_close_matches
from reprlib import Repr
from typing import Any, Literal

from lorabench.errors import LorabenchError
from lorabench.text import visible
from lorabench.training.preflight.finding import Mend

Kind = Literal["bool", "int", "float", "str", "list", "mapping"]
Group = Literal["model", "data", "LoRA", "optimisation", "saving", "other"]
Owner = Literal[
    "ScriptArguments",
    "SFTConfig",
    "ModelConfig",
    "DatasetMixtureConfig",
    "LoraConfig",
    "accelerate",
    "lorabench",
]
GROUPS: tuple[Group, ...] = ("model", "data", "LoRA", "optimisation", "saving", "other")

_TRUE = {"yes", "true", "t", "y", "1"}
_FALSE = {"no", "false", "f", "n", "0"}
_NOUNS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "list": "a list",
    "mapping": "a mapping",
}
_LISTS = {
    "str": "a list of names",
    "int": "a list of whole numbers",
    "mapping": "a list of mappings",
    "list": "a list of lists",
}
_SHORT = Repr()
_SHORT.maxlevel = _SHORT.maxlist = _SHORT.maxdict = 3


class ConfigError(LorabenchError):
    """A run.yaml that cannot be read, changed or written."""


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """What is wrong with one field, and what would be right; `name` is "" for the file as a whole.

    `line` counts from 1, as editors do, and is None where the field does not stand in the file.
    """

    name: str
    message: str
    allowed: str = ""
    level: Literal["error", "warning"] = "error"
    line: int | None = None
    mend: Mend | None = None


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers that a field may be; `least` and `most` are allowed themselves, `above` and `below` not."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    def __contains__(self, number: float) -> bool:
        return (
            (self.least is None or number >= self.least)
            and (self.most is None or number <= self.most)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
        )

    def __str__(self) -> str:
        bounds = {
            "at least": self.least,
            "at most": self.most,
            "above": self.above,
            "below": self.below,
        }
        return " and ".join(f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of run.yaml, declared once: form, validation, help and documentation come from here.

    `default` is what TRL takes when the field is left out, `owner` the dataclass that it belongs to
    (LoraConfig: a field that TRL's ModelConfig lacks). `optional` ones may be null. `form` ones are shown in
    the form from the start, the others when they are asked for by name.
    """

    name: str
    kinds: tuple[Kind, ...]
    default: Any
    help: str
    _: KW_ONLY
    group: Group = "other"
    owner: Owner = "SFTConfig"
    choices: tuple[str, ...] = ()
    range: Range = Range()
    items: Kind = "str"
    optional: bool = False
    form: bool = False

    @property
    def allowed(self) -> str:
        """What the field may be, in words: `a number, at least 0 and below 1`."""
        if self.choices:
            words = f"one of {', '.join(self.choices)}"
            if "bool" in self.kinds:
                words = f"true, false or {words}"
        else:
            words = " or ".join(self._noun(kind) for kind in self.kinds)
        limits = str(self.range)
        left_out = ", or null" if self.optional else ""
        return f"{words}{', ' if limits else ''}{limits}{left_out}"

    def _noun(self, kind: Kind) -> str:
        return _LISTS.get(self.items, "a list") if kind == "list" else _NOUNS[kind]

    def parse(self, value: Any) -> Any:
        """Return `value` as TRL's parser would pass it on: text that reads as a number is one.

        Raises:
            ValueError: it is of another type, or out of range; says what it is.
        """
        if value is None or (self.optional and "str" not in self.kinds and _is_none(value)):
            if self.optional:
                return None
            raise ValueError("is empty")
        for text in [value] if isinstance(value, str) else value if isinstance(value, list) else ():
            if unnameable(text):
                raise ValueError(f"holds {visible(unnameable(text))}, which no text here may hold")
        for kind in self.kinds:
            if _is(kind, value):
                return self._within(value)
        for kind in self.kinds:
            if kind in ("bool", "int", "float"):
                number = _number(kind, value)
                if number is not None:
                    return self._within(number)
            # argparse leaves a lone text for a list as it is, and PEFT has a meaning for it.
            if kind == "list" and self.items == "str" and isinstance(value, str):
                return value
        raise ValueError(f"is {described(value)}")

    def _within(self, value: Any) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                fits, shown = math.isfinite(value) and value in self.range, f"{value:g}"
            except OverflowError:  # a whole number beyond all floats, as a text may hold it
                fits, shown = False, "a number of hundreds of digits"
            if not fits:
                raise ValueError(f"is {shown}")
        if isinstance(value, str) and self.choices and not self._is_choice(value):
            raise ValueError(f"is {described(value)}")
        if isinstance(value, list):
            for item in value:
                if not _is(self.items, item):
                    raise ValueError(f"holds {described(item)}")
        return value

    def _is_choice(self, value: str) -> bool:
        starts = tuple(choice[:-1] for choice in self.choices if choice.endswith("…"))
        return value in self.choices or value.startswith(starts)

    def problem(self, value: Any, line: int | None = None) -> FieldProblem | None:
        """Say what is wrong with `value`, with a mend where there is one; None where nothing is."""
        try:
            self.parse(value)
        except ValueError as error:
            message = f"{self.name} {error}, and must be {self.allowed}."
            if value is None:
                message = f"{self.name} is empty; leave it out for {described(self.default)}."
            return FieldProblem(self.name, message, self.allowed, line=line, mend=self._mend(value))
        return None

    def _mend(self, value: Any) -> Mend | None:
        """Say what was plainly meant: `no` is false in YAML, 8.0 a whole number, 42 a name."""
        meant: Any = None
        if isinstance(value, bool) and not value and "no" in self.choices:
            meant = "no"
        elif isinstance(value, float) and value.is_integer() and "int" in self.kinds:
            meant = int(value)
        elif isinstance(value, int | float) and not isinstance(value, bool) and self.kinds == ("str",):
            meant = str(value)
        elif isinstance(value, str):
            meant = self._near(value)
        if meant is None or self.problem(meant):
            return None
        return Mend(f"write {described(meant)}", {self.name: meant})

    def _near(self, value: str) -> Any:
        """Return the choice that a misspelt one was likely meant for."""
        words = [choice for choice in self.choices if not choice.endswith("…")]
        switches = {"true": True, "false": False} if "bool" in self.kinds else {}
        near = get_close_matches(value.lower(), [*words, *switches], n=1, cutoff=0.7)
        return switches.get(near[0], near[0]) if near else None


def described(value: Any) -> str:
    """Return a short text for any value of a file, as YAML would spell it, safe to show."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{visible(value[:60])}{"…" if len(value) > 60 else ""}"'
    # Aliases can make a small file's value astronomically long when it is written out: Repr stops early.
    return visible(_SHORT.repr(value))


def unnameable(value: Any) -> str:
    """Return the first character that can be in no file's name and no environment; "" where none is."""
    characters = value if isinstance(value, str) else ""
    return next((each for each in characters if each == "\0" or "\ud800" <= each <= "\udfff"), "")


def _is(kind: Kind, value: Any) -> bool:
    match kind:
        case "bool":
            return isinstance(value, bool)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "str":
            return isinstance(value, str)
        case "list":
            return isinstance(value, list)
        case "mapping":
            return isinstance(value, Mapping)


def _is_none(value: Any) -> bool:
    return isinstance(value, str) and value.lower() in ("none", "null")


def _number(kind: Kind, value: Any) -> bool | int | float | None:
    """Read text as TRL's parser does; None where it cannot be read as this kind."""
    if kind == "bool":
        word = str(value).lower() if isinstance(value, str | int) else ""
        return True if word in _TRUE else False if word in _FALSE else None
    if not isinstance(value, str):
        return None
    try:
        return int(value) if kind == "int" else float(value)
    except ValueError:
        return None
