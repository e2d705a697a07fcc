"""Read JSON and JSON lines row by row, and say on which line a file is broken."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from lorabench.text import visible

_BOM = b"\xef\xbb\xbf"
_SUFFIXES = {".json", ".jsonl", ".ndjson"}


@dataclass(frozen=True, slots=True)
class Broken:
    """A place where a file cannot be read on: a sentence that names file and line."""

    message: str


Row = dict[str, Any] | Broken | None
"""A row, or what is in its place: the reason why it cannot be read, or None where it was only counted."""


def is_plain_json(files: tuple[Path, ...]) -> bool:
    """Whether these files can be read here; compressed ones are left to `datasets`."""
    return bool(files) and all(file.suffix.lower() in _SUFFIXES for file in files)


def is_read(row: int, stride: int) -> bool:
    """Whether row number `row`, counted from 0, is one of those that are looked at."""
    return stride > 0 and row % stride == 0


def json_rows(file: Path, stride: int = 1) -> Iterator[Row]:
    """Yield the rows of a JSON lines file, or of one JSON array of objects.

    One in `stride` is parsed (0: none). The others come as None, so that numbers stay right; only one line
    is in memory at a time. A JSON array is read whole, as `datasets` does. Empty lines are no rows.
    """
    try:
        with file.open("rb") as stream:
            head = next((line for line in stream if line.strip()), b"").removeprefix(_BOM)
            stream.seek(0)
            if head.lstrip().startswith(b"[") or head.strip() == b"{":
                yield from _document(file, stream.read(), stride)
            else:
                yield from _lines(file, chain([next(stream, b"").removeprefix(_BOM)], stream), stride)
    except OSError as error:
        yield Broken(f"{visible(file.name)} cannot be read: {error.strerror}.")


def _lines(file: Path, lines: Iterator[bytes], stride: int) -> Iterator[Row]:
    row = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        yield (
            _object(line.rstrip(b"\r\n"), f"{visible(file.name)}, line {number}")
            if is_read(row, stride)
            else None
        )
        row += 1


def _document(file: Path, text: bytes, stride: int) -> Iterator[Row]:
    try:
        document = json.loads(text.removeprefix(_BOM))
    except json.JSONDecodeError as error:
        yield Broken(f"{visible(file.name)}, line {error.lineno}: {error.msg} at column {error.colno}.")
        return
    except UnicodeDecodeError as error:
        yield Broken(f"{visible(file.name)}: not UTF-8 at byte {error.start}.")
        return
    values = document if isinstance(document, list) else [document]
    for at, value in enumerate(values):
        if not is_read(at, stride):
            yield None
        elif isinstance(value, dict):
            yield value
        else:
            yield Broken(f"{visible(file.name)}, entry {at + 1}: a {type(value).__name__}, not an object.")


def _object(line: bytes, where: str) -> dict[str, Any] | Broken:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        return Broken(f"{where}: {error.msg} at column {error.colno}.")
    except UnicodeDecodeError as error:
        return Broken(f"{where}: not UTF-8 at byte {error.start}.")
    except RecursionError:
        return Broken(f"{where}: nested too deeply.")
    if not isinstance(value, dict):
        return Broken(f"{where}: a JSON {type(value).__name__}, not an object.")
    return value
