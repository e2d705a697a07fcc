"""Read JSON that anybody may have written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import chain
from typing import Any

DEEPEST = 64


def parse_json(content: str | bytes) -> Any:
    """Return what a JSON text says.

    Raises:
        ValueError: it is no JSON, or nested more than `DEEPEST` levels deep: writing such a value down, or
            comparing it, would exhaust Python's stack later.
    """
    try:
        value = json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    lists, objects = ("[", "{") if isinstance(content, str) else (b"[", b"{")
    if content.count(lists) + content.count(objects) > DEEPEST:  # type: ignore[arg-type]
        _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST + 1):
        mappings = (item.values() for item in level if isinstance(item, Mapping))
        lists = (item for item in level if isinstance(item, list))
        level = [*chain.from_iterable(mappings), *chain.from_iterable(lists)]
        if not level:
            return
    raise ValueError("it is nested too deeply")
