"""A YAML document as text: read as TRL reads it, changed so that everything else in it stays as it was.

Values are read by PyYAML, because TRL does: in YAML 1.1 a bare `no` is false, and `2e-4` a text. Changes go
through ruamel.yaml, which keeps comments, order and quotes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from lorabench.text import visible
from lorabench.training.config.field import ConfigError, FieldProblem, described

_BOM = "\ufeff"
_UNBOUNDED = 1_000_000


@dataclass(frozen=True, slots=True)
class Document:
    """What a text says: `values` and `lines` (from 1) by key.

    A `broken` one could not be read as TRL would read it, or would lose something when it is changed.
    """

    text: str
    values: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[FieldProblem, ...] = ()
    broken: bool = False


def read(text: str) -> Document:
    """Read a YAML document; what is wrong with it is among its problems, and its text is kept."""
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        return _broken(text, [_sentence(error)])
    except yaml.YAMLError as error:
        return _broken(text, [FieldProblem("", f"This is not YAML: {visible(error)}.")])
    except RecursionError:
        return _broken(text, [FieldProblem("", "This YAML is nested too deeply to be read.")])
    except ValueError as error:
        # PyYAML reads 2024-99-99 as a date, and a whole number of 5,000 digits.
        return _broken(text, [FieldProblem("", f"A value cannot be read: {visible(error)}.")])
    if values is None:
        empty = FieldProblem("", "The file is empty: no field is set.", "a field a line, as in lora_r: 8")
        return Document(text, problems=(empty,))
    if not isinstance(tree, yaml.MappingNode):
        message = "The file holds no fields, but " + described(values)
        return _broken(text, [FieldProblem("", f"{message}.", "a field a line, as in lora_r: 8", line=1)])
    lines: dict[str, int] = {}
    problems = list(_doubles(tree)) + [
        FieldProblem("", f"The key {described(key)} is not text.", "a field's name")
        for key in values
        if not isinstance(key, str)
    ]
    for key, _ in tree.value:
        lines[key.value] = key.start_mark.line + 1
    named = {key: value for key, value in values.items() if isinstance(key, str)}
    return Document(text, named, lines, tuple(problems), broken=bool(problems))


def _broken(text: str, problems: list[FieldProblem]) -> Document:
    return Document(text, problems=tuple(problems), broken=True)


def _sentence(error: yaml.MarkedYAMLError) -> FieldProblem:
    """Say what PyYAML found and where; a tab, the most usual mistake, in plain words."""
    mark = error.problem_mark or error.context_mark
    what = " ".join(filter(None, (error.context, error.problem)))
    if "'\\t'" in what:
        what = "a tab where YAML wants spaces"
    elif "expected a single document" in what:
        what = "there is a second document below ---, and TRL reads one"
    line = None if mark is None else mark.line + 1
    where = "" if line is None else f"Line {line}: "
    return FieldProblem("", f"{where}{visible(what)}.", line=line)


def _doubles(node: yaml.Node) -> Iterator[FieldProblem]:
    """Find keys that stand twice at the same place; TRL takes the last one and says nothing."""
    waiting, seen = [node], {id(node)}
    while waiting:
        here = waiting.pop()
        children = here.value if isinstance(here, yaml.SequenceNode) else []
        if isinstance(here, yaml.MappingNode):
            first: dict[str, int] = {}
            for key, value in here.value:
                line = key.start_mark.line + 1
                name = key.value if isinstance(key, yaml.ScalarNode) else ""
                if name in first and name != "<<":
                    yield FieldProblem(
                        name, f"{visible(name)} stands twice, in lines {first[name]} and {line}.", line=line
                    )
                first.setdefault(name, line)
                children.append(value)
        for child in children:
            if id(child) not in seen:
                seen.add(id(child))
                waiting.append(child)


class _Representer(RoundTripRepresenter):
    """Write floats so that YAML 1.1 reads floats: 2.0e-05, where Python says 2e-05."""

    def represent_float(self, data: float) -> Any:
        text = repr(data)
        if "e" in text and "." not in text:
            text = text.replace("e", ".0e")
        return self.represent_scalar("tag:yaml.org,2002:float", text)


_Representer.add_representer(float, _Representer.represent_float)


def change(document: Document, changes: Mapping[str, Any], removed: frozenset[str]) -> Document:
    """Return the document with these keys set and those removed; all else stays as it is.

    A new key takes the place, and the comment, of a removed one; without one it goes to the end.

    Raises:
        ConfigError: the document is broken, or so unusual that the change would not be read back.
    """
    if document.broken:
        raise ConfigError("A file that cannot be read cannot be changed by field.", "Mend its text first.")
    done = read(_changed_text(document.text, changes, removed))
    wanted = {key: value for key, value in document.values.items() if key not in removed} | dict(changes)
    if done.broken or done.values != wanted:
        names = ", ".join(map(visible, [*changes, *removed]))
        raise ConfigError(
            f"{names} cannot be changed without changing more of this file.", "Change its text instead."
        )
    return done


def _changed_text(source: str, changes: Mapping[str, Any], removed: frozenset[str]) -> str:
    text = source.removeprefix(_BOM)
    writer = _writer(text)
    fresh = {key: _writable(value) for key, value in changes.items()}
    try:
        content = writer.load(text)
        if content is None:
            # An empty document: its comments are all there is, and stay above.
            gap = "" if text.endswith("\n") or not text else "\n"
            result = text + gap + _dumped(writer, fresh)
        else:
            _apply(content, fresh, removed)
            result = _dumped(writer, content)
    except YAMLError as error:
        raise ConfigError(f"This file cannot be changed by field: {visible(error)}") from error
    bom = _BOM if source.startswith(_BOM) else ""
    return bom + (re.sub("\r?\n", "\r\n", result) if "\r\n" in text else result)


def _writer(text: str) -> YAML:
    """Return a reader and writer of round trips that indents lists as `text` does, and breaks no line."""
    writer = YAML()
    writer.preserve_quotes = True
    writer.width = _UNBOUNDED
    writer.Representer = _Representer
    writer.explicit_start = any(line.startswith("---") for line in text.splitlines())
    items = re.search(r"^[^\s#-][^\n]*:[^\n]*\n(?:\s*#[^\n]*\n)*( *)- ", text, re.MULTILINE)
    offset = len(items[1]) if items else 0
    writer.indent(mapping=2, sequence=offset + 2, offset=offset)
    return writer


def _apply(content: CommentedMap, changes: Mapping[str, Any], removed: frozenset[str]) -> None:
    vacant = [key for key in content if key in removed]
    fresh = [key for key in changes if key not in content]
    for old, new in zip(vacant, fresh, strict=False):
        at, comment = list(content).index(old), content.ca.items.pop(old, None)
        del content[old]
        content.insert(at, new, changes[new])
        if comment:
            content.ca.items[new] = comment
    for old in vacant[len(fresh) :]:
        del content[old]
    for key, value in changes.items():
        content[key] = value


def _dumped(writer: YAML, content: Any) -> str:
    stream = io.StringIO()
    writer.dump(content, stream)
    return stream.getvalue()


def _writable(value: Any) -> Any:
    """Quote the texts that YAML 1.1 would read as something else: "no", "1e5", "8"."""
    if isinstance(value, Mapping):
        return {_writable(key): _writable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_writable(item) for item in value]
    if isinstance(value, str):
        try:
            same = yaml.safe_load(f"k: {value}") == {"k": value}
        except (yaml.YAMLError, ValueError):
            same = False
        return value if same else DoubleQuotedScalarString(value)
    return value
