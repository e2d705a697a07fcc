"""A YAML document as text: read as TRL reads it, changed so that everything else in it stays as it was.

PyYAML reads it, because TRL does: in YAML 1.1 a bare `no` is false, and `2e-4` a text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from lorabench.errors import NOT_AS_TAGGED
from lorabench.text import is_endless_number, visible
from lorabench.training.config.edit import REMOVED, Path, expected, put, remove, rename
from lorabench.training.config.field import ConfigError, FieldProblem, described
from lorabench.training.config.yaml_errors import told

MOST_NODES = 10_000
_LONG = 100  # characters of a text that count as another node


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
    tree = None
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        if tree is not None and _written_out(tree, {}) > MOST_NODES:
            return _broken(text, [FieldProblem("", "Its aliases, written out, would have no end.")])
        for node in _scalars(tree):
            if node.tag.endswith((":int", ":float")) and is_endless_number(node.value):
                return _broken(text, [_at(node, "a number of hundreds of digits")])
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        return _broken(text, [told(error, text)])
    except RecursionError:
        return _broken(text, [FieldProblem("", "This YAML is nested too deeply to be read.")])
    except NOT_AS_TAGGED as error:
        plain = FieldProblem("", f"A value cannot be read: {visible(error)}.")
        return _broken(text, [next(_unreadable(tree), plain)])
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


def _scalars(node: yaml.Node | None) -> Iterator[yaml.ScalarNode]:
    if isinstance(node, yaml.ScalarNode):
        yield node
    elif isinstance(node, yaml.CollectionNode):
        for child in node.value:
            for part in child if isinstance(child, tuple) else (child,):
                yield from _scalars(part)


def _unreadable(tree: yaml.Node | None) -> Iterator[FieldProblem]:
    """Say of each value where PyYAML gives up on it: 2024-99-99 is no date, and `!!int` no number."""
    for node in _scalars(tree):
        try:
            yaml.SafeLoader("").construct_object(node)
        except yaml.YAMLError:
            continue  # it is told of the whole text
        except ValueError as error:
            yield _at(node, f"this value cannot be read: {visible(error)}")
        except NOT_AS_TAGGED:
            tag = visible(node.tag.rpartition(":")[2])
            yield _at(node, f"{described(node.value)} is not what its tag !!{tag} says")


def _at(node: yaml.Node, what: str) -> FieldProblem:
    line = node.start_mark.line + 1
    return FieldProblem("", f"Line {line}: {what}.", line=line)


def _written_out(node: yaml.Node, known: dict[int, float]) -> float:
    """Count the values of a node as if each alias were written out; infinite for one that holds itself."""
    if id(node) not in known:
        known[id(node)] = math.inf
        children = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for child in children for part in (child if isinstance(child, tuple) else (child,))]
        length = len(node.value) // _LONG if isinstance(node, yaml.ScalarNode) else 0
        known[id(node)] = 1 + length + sum(_written_out(part, known) for part in parts)
    return known[id(node)]


def _broken(text: str, problems: list[FieldProblem]) -> Document:
    return Document(text, problems=tuple(problems), broken=True)


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


def change(document: Document, changes: Mapping[Path, Any]) -> Document:
    """Return the document with new values at these paths of keys, REMOVED ones gone, and all else as it is.

    A new top-level key takes the place, and the comment, of one that is removed.

    Raises:
        ConfigError: the document is broken, or so unusual that the change would not be read back.
    """
    if document.broken:
        raise ConfigError("A file that cannot be read cannot be changed by field.", "Mend its text first.")
    text, wanted = document.text, expected(document.values, changes)
    gone = [path for path, value in changes.items() if value is REMOVED]
    fresh = [
        path for path in changes if len(path) == 1 and path not in gone and path[0] not in document.values
    ]
    try:
        for old, new in zip([path for path in gone if len(path) == 1], fresh, strict=False):
            text = rename(text, old[0], new[0])
            gone.remove(old)
        for path in gone:
            text = remove(text, path)
        for path, value in changes.items():
            text = text if value is REMOVED else put(text, path, value)
        done = read(text)
    except (yaml.YAMLError, TypeError, *NOT_AS_TAGGED):
        done = None
    if done is None or done.broken or done.values != wanted:
        names = ", ".join(visible(path[-1]) for path in changes)
        raise ConfigError(
            f"{names} cannot be changed without changing more of this file.", "Change its text instead."
        )
    return done
