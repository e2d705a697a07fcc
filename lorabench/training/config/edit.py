"""Change a value in the text of a YAML document, and nothing else in it.

ruamel.yaml's round trip was tried first: it drops the comments below a list or a key that is changed or
removed, what stands above `---`, and the alignment of values. Here only the characters of the value are
replaced, found by the marks that PyYAML leaves on what it reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import SequenceMatcher
from typing import Any, Final

import yaml

REMOVED: Final = object()
Path = tuple[str, ...]


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Write on one line: texts with line breaks in double quotes."""


def _one_line(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = '"' if not text.isprintable() else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _one_line)
_Dumper.ignore_aliases = lambda *_: True


def on_one_line(value: Any) -> str:
    """Return a value as YAML on one line; texts that YAML 1.1 would read otherwise are quoted."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**9
    )
    return text.removesuffix("...\n").rstrip("\n")


def put(text: str, path: Path, value: Any) -> str:
    """Return the text with `value` at this path of keys, which is made where it is not there."""
    node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    newline = "\r\n" if "\r\n" in text else "\n"
    if not isinstance(node, yaml.MappingNode):
        return f"{_ended(text, newline)}{path[0]}: {on_one_line(_nested(path[1:], value))}{newline}"
    for depth, name in enumerate(path):
        rest = _nested(path[depth + 1 :], value)
        if node.flow_style:
            whole = _constructed(text, path[:depth])
            return _replaced(text, node, on_one_line(_with(whole, path[depth:], value)))
        pair = _pair(node, name)
        if pair is None:
            end = _line_end(text, _end(text, node))
            line = f"{' ' * node.start_mark.column}{on_one_line(name)}: {on_one_line(rest)}{newline}"
            return f"{_ended(text[:end], newline)}{line}{text[end:]}"
        if not isinstance(pair[1], yaml.MappingNode) or depth == len(path) - 1:
            kept = _item_by_item(text, pair[1], path, rest) if depth == len(path) - 1 else None
            return kept or _valued(text, pair[0], pair[1], on_one_line(rest))
        node = pair[1]
    return text


def _item_by_item(text: str, node: Any, path: Path, value: Any) -> str | None:
    """Change a block list or mapping in its own lines, so that what stays in it keeps its comments.

    None where nothing of it stays, or where it is written so that its lines are not its items.
    """
    if not isinstance(node, yaml.CollectionNode) or node.flow_style:
        return None
    before = _constructed(text, path)
    if isinstance(before, dict) and isinstance(value, Mapping) and before.keys() & value.keys():
        for name in [name for name in before if name not in value]:
            text = remove(text, (*path, name))
        for name in [name for name in value if name not in before or before[name] != value[name]]:
            text = put(text, (*path, name), value[name])
        return text
    if isinstance(before, list) and isinstance(value, list) and any(item in before for item in value):
        return _relisted(text, node, before, value)
    return None


def _relisted(text: str, node: Any, before: list[Any], after: list[Any]) -> str | None:
    """Write a block list anew, but for the lines of items that stay and those of comments alone."""
    starts = [text.rfind("\n", 0, item.start_mark.index) + 1 for item in node.value]
    ends = [_line_end(text, _end(text, item)) for item in node.value]
    heads = [text[start : item.start_mark.index] for start, item in zip(starts, node.value, strict=True)]
    if any(head.strip() != "-" for head in heads):
        return None
    newline = "\r\n" if "\r\n" in text else "\n"
    above = [text[end:start] for end, start in zip([starts[0], *ends], starts, strict=False)]
    lines = []
    same = SequenceMatcher(
        None, [repr(item) for item in before], [repr(item) for item in after], autojunk=False
    )
    for what, first, last, new, past in same.get_opcodes():
        own = slice(None) if what == "equal" else slice(0)
        lines += [above[at] + _ended(text[starts[at] : ends[at]], newline)[own] for at in range(first, last)]
        if what != "equal":
            lines += [f"{heads[0]}{on_one_line(item)}{newline}" for item in after[new:past]]
    return text[: starts[0]] + "".join(lines) + text[ends[-1] :]


def remove(text: str, path: Path) -> str:
    """Return the text without the key at this path, which is there; mappings that it leaves empty go too."""
    whole = _constructed(text, ())
    while len(path) > 1 and len(_at(whole, path[:-1])) == 1:
        path = path[:-1]
    node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    for depth, name in enumerate(path):
        if node.flow_style:
            return _replaced(text, node, on_one_line(_without(_at(whole, path[:depth]), path[depth:])))
        key, value = _pair(node, name)
        node = value
    start = text.rfind("\n", 0, key.start_mark.index) + 1
    return text[:start] + text[_line_end(text, max(_end(text, value), key.end_mark.index)) :]


def rename(text: str, old: str, new: str) -> str:
    """Return the text with a top-level key under another name."""
    key, _ = _pair(yaml.compose(text, Loader=yaml.SafeLoader), old)
    return text[: key.start_mark.index] + on_one_line(new) + text[key.end_mark.index :]


def expected(values: Mapping[str, Any], changes: Mapping[Path, Any]) -> dict[str, Any]:
    """Return the values that a document has after these changes."""
    whole = dict(values)
    for path, value in changes.items():
        if value is not REMOVED:
            whole = _with(whole, path, value)
            continue
        while len(path) > 1 and len(_at(whole, path[:-1])) == 1:
            path = path[:-1]
        whole = _without(whole, path)
    return whole


def _pair(node: Any, name: str) -> Any:
    return next((pair for pair in node.value if pair[0].value == name), None)


def _valued(text: str, key: Any, value: Any, new: str) -> str:
    """Give a key of a block mapping another value; a list or text of many lines becomes one line."""
    colon = text.index(":", key.end_mark.index) + 1
    if isinstance(value, yaml.CollectionNode) and not value.flow_style:
        head = _line_end(text, colon)
        return f"{text[:colon]} {new}{text[colon:head]}{text[_line_end(text, _end(text, value)) :]}"
    gap = " " if value.start_mark.index == colon else ""
    return _replaced(text, value, gap + new)


def _replaced(text: str, node: Any, new: str) -> str:
    return text[: node.start_mark.index] + new + text[_end(text, node) :]


def _end(text: str, node: Any) -> int:
    """Return where the last character of a node's own stands; PyYAML's marks run on to the next key."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        last = node.value[-1]
        return _end(text, last[1] if isinstance(last, tuple) else last)
    start: int = node.start_mark.index
    return start + len(text[start : node.end_mark.index].rstrip())


def _line_end(text: str, index: int) -> int:
    """Return where the next line begins."""
    found = text.find("\n", index)
    return len(text) if found < 0 else found + 1


def _ended(text: str, newline: str) -> str:
    return text if not text or text.endswith("\n") else text + newline


def _constructed(text: str, path: Path) -> Any:
    return _at(yaml.safe_load(text), path)


def _at(whole: Any, path: Path) -> Any:
    for name in path:
        whole = whole[name]
    return whole


def _nested(path: Path, value: Any) -> Any:
    return {path[0]: _nested(path[1:], value)} if path else value


def _with(whole: Any, path: Path, value: Any) -> Any:
    if not path:
        return value
    known = whole if isinstance(whole, Mapping) else {}
    return {**known, path[0]: _with(known.get(path[0]), path[1:], value)}


def _without(whole: Mapping[str, Any], path: Path) -> dict[str, Any]:
    rest = {name: value for name, value in whole.items() if name != path[0]}
    return rest if len(path) == 1 else {**rest, path[0]: _without(whole[path[0]], path[1:])}
