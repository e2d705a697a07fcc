"""The configuration that is open in the workbench: as texts for a form, with its changes and the way back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from lorabench.text import visible
from lorabench.training.config.document import read
from lorabench.training.config.field import GROUPS, ConfigError, Field
from lorabench.training.config.fields import FIELDS
from lorabench.training.config.run_config import RunConfig
from lorabench.widgets.field_lines import Row

_PATTERN = set(".*+?|()[]\\^$")


class ConfigFile:
    """A run.yaml, the fields that its form shows, and the texts before each change.

    Raises:
        ConfigError: there is no text at this path; says why.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = RunConfig.load(path)
        self.more: dict[str, Field] = {}
        self._added: list[str] = []
        self._before: list[tuple[str, str]] = []

    @property
    def text(self) -> str:
        """The YAML as it would be saved now."""
        return self.config.text

    @property
    def changed(self) -> bool:
        """Whether something is not saved."""
        return self.config.changed

    @property
    def broken(self) -> str:
        """Why the form cannot be shown, or nothing."""
        return self.config.problems[0].message if self.config.broken else ""

    def save(self, *, over: bool = False) -> None:
        """Write the file; see RunConfig.save."""
        self.config.save(over=over)

    def written_elsewhere(self) -> bool:
        """Say whether another program has written the file since; what cannot be read, saving will tell."""
        try:
            return self.config.written_elsewhere()
        except ConfigError:
            return False

    def read_again(self) -> None:
        """Take what the file holds now; `undo` brings back what was here.

        Raises:
            ConfigError: it cannot be read any more.
        """
        before, self.config = self.text, RunConfig.load(self.path)
        self._remember("file", before)

    def set_text(self, text: str) -> None:
        """Take a text that was edited as text."""
        self._remember("text")
        self.config.replace_text(text)

    def set_field(self, name: str, text: str) -> None:
        """Set a field to what was typed; nothing typed stands for its default.

        Raises:
            ConfigError: the file is so unusual that it can only be changed as text.
        """
        field = self.field(name)
        if text.strip():
            self.change({name: typed_value(field, text.strip())}, name)
        elif self._stands(name):
            before = self.text
            self.config.unset(name)
            self._remember(name, before)

    def change(self, changes: Mapping[str, Any], what: str = "") -> None:
        """Apply a mend, or the value of one field (`what`): its further values are one change with it."""
        before = self.text
        self.config.apply(changes)
        self._remember(what, before)

    def undo(self) -> bool:
        """Take the last change back; False where there is none."""
        if not self._before:
            return False
        self.config.replace_text(self._before.pop()[1])
        return True

    def _remember(self, what: str, before: str | None = None) -> None:
        before = self.text if before is None else before
        if not (what and self._before and self._before[-1][0] == what):
            self._before.append((what, before))

    def field(self, name: str) -> Field:
        """Return a field that lorabench or TRL declares."""
        return FIELDS.get(name) or self.more[name]

    def knows(self, name: str) -> bool:
        """Say whether lorabench or TRL declares a field of this name."""
        return name in FIELDS or name in self.more

    def know(self, fields: list[dict[str, Any]]) -> None:
        """Take over the rest of TRL's fields, as its process has read them."""
        self.more = {
            field["name"]: Field(
                **{**field, "kinds": tuple(field["kinds"]), "choices": tuple(field["choices"])}
            )
            for field in fields
        }

    def add(self, name: str) -> None:
        """Show one more field in the form."""
        self._added.append(name)

    def other_fields(self) -> dict[str, str]:
        """The fields that the form does not show, with their help."""
        shown = set(self._shown())
        return {
            name: field.help for name, field in sorted({**FIELDS, **self.more}.items()) if name not in shown
        }

    def _shown(self) -> list[str]:
        names = [name for name, field in FIELDS.items() if field.form or self.config.has(name)]
        rest = [name for name in self.more if self.config.has(name)]
        return list(dict.fromkeys([*names, *rest, *self._added]))

    def groups(self, part: str = "") -> list[tuple[str, list[Row]]]:
        """The rows of the form whose names contain `part`, under the titles of their groups."""
        names = [name for name in self._shown() if part.lower() in name.lower()]
        fields = sorted((self.field(name) for name in names), key=lambda field: GROUPS.index(field.group))
        return [
            (group, [Row(field.name, value_text(field.default), choices_of(field)) for field in members])
            for group, members in groupby(fields, key=lambda field: field.group)
        ]

    @property
    def _raw(self) -> dict[str, Any]:
        return {**self.config.values, **self.config.lora_extra, "precision": self.config.precision}

    @property
    def values(self) -> dict[str, str]:
        """The fields that the file sets, as the form shows them; a value that is wrong as it stands there."""
        raw = self._raw
        return {
            name: value_text(raw[name]) or json.dumps(raw[name])
            for name in self._shown()
            if self._stands(name)
        }

    def _stands(self, name: str) -> bool:
        """Whether the file says something of a field; of the precision by bf16 and fp16 too."""
        return self.config.has(name) or (name == "precision" and self.config.precision != "auto")

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong with each field, those added by name as well."""
        raw = self._raw
        found = [
            *self.config.problems,
            *filter(None, (field.problem(raw[name]) for name, field in self.more.items() if name in raw)),
        ]
        return {problem.name: problem.message for problem in reversed(found) if problem.name}

    @property
    def notes(self) -> dict[str, str]:
        """What follows from a value, for the form to show beside it."""
        r, lora_alpha = self.config.get("lora_r"), self.config.get("lora_alpha")
        rslora = self.config.get("use_rslora")
        scaling = lora_alpha / (math.sqrt(r) if rslora else r)
        return {"lora_alpha": f"scaling α/{'√r' if rslora else 'r'} = {scaling:.3g}"}

    def explain(self, name: str) -> str:
        """Say what a field is for, what it may be, and what holds where it is left empty."""
        field = self.field(name)
        default = value_text(field.default) or "none"
        return f"{visible(field.help)}\n{visible(field.allowed)}   default: {visible(default)}"


def choices_of(field: Field) -> tuple[str, ...]:
    """Return the values between which `space` walks."""
    fixed = tuple(choice for choice in field.choices if not choice.endswith("…"))
    return ("true", "false", *fixed) if "bool" in field.kinds else fixed


def value_text(value: object) -> str:
    """Return a value as the form shows it: names with spaces between, mappings on one line."""
    if value is None or value == [] or value == {}:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(v, int) or _is_word(v) for v in value):
        return " ".join(map(str, value))
    return json.dumps(value, ensure_ascii=False, default=str)


def _is_word(value: object) -> bool:
    return isinstance(value, str) and value.split() == [value]


def typed_value(field: Field, text: str) -> Any:
    """Return what a person meant who typed this into the field's row; what cannot be meant stays text.

    Names are separated by spaces or commas. A lone name that is a pattern, or `all-linear`, stays text: PEFT
    takes it for a regular expression.
    """
    if field.optional and text in ("null", "none") and text not in field.choices:
        return None
    if text[0] in '[{"':
        return read(f"value: {text}").values.get("value", text)
    if "list" in field.kinds:
        words = text.replace(",", " ").split()
        lone = len(words) == 1 and (field.kinds[0] != "list" or text == "all-linear" or _PATTERN & set(text))
        if lone:
            return text
        return [int(word) if field.items == "int" and word.isdecimal() else word for word in words]
    for kind in field.kinds:
        if kind in ("bool", "int", "float"):
            try:
                return Field(field.name, (kind,), None, "").parse(text)
            except ValueError:
                continue
    return text
