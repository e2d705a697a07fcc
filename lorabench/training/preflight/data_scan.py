"""Go through the rows once: count them, look for faults and duplicates, and keep some to measure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from lorabench.training.preflight.data_rows import rows_of
from lorabench.training.preflight.data_sources import Source
from lorabench.training.preflight.json_rows import Broken
from lorabench.training.preflight.row_checks import Fault, Format, faults, format_of

SCANNED_BYTES = 64 << 20
"""Of larger data one row in n is looked at, so that about so many bytes are."""

MEASURED_ROWS = 2000
"""At most so many rows are kept and tokenized, evenly spaced over the data."""

NAMED_ROWS = 10
"""So many row numbers are kept of each kind of fault."""

Numbered = tuple[int, dict[str, Any]]
"""A row and its number, counted from 1 as people count."""


@dataclass(slots=True)
class Tally:
    """How many rows, and the numbers of the first of them."""

    count: int = 0
    rows: list[int] = field(default_factory=list)

    def add(self, row: int) -> None:
        """Count a row."""
        self.count += 1
        if len(self.rows) < NAMED_ROWS:
            self.rows.append(row)


@dataclass(slots=True)
class Scan:
    """What one pass over the rows found.

    `count` rows are there, `looked_at` of them were read (one in `stride`). `kept` are rows without fatal
    faults, at most 2000 and evenly spaced. `format` is None where TRL could do nothing with `columns`.
    """

    stride: int
    count: int = 0
    looked_at: int = 0
    columns: list[str] = field(default_factory=list)
    format: Format | None = None
    faults: dict[Fault, Tally] = field(default_factory=dict)
    broken: Tally = field(default_factory=Tally)
    broken_messages: list[str] = field(default_factory=list)
    duplicates: Tally = field(default_factory=Tally)
    kept: list[Numbered] = field(default_factory=list)
    spacing: int = 1

    @property
    def sampled(self) -> bool:
        """Whether only some of the rows were looked at."""
        return self.stride > 1

    @property
    def measured_all(self) -> bool:
        """Whether the kept rows are all that there are, those with fatal faults aside."""
        return not self.sampled and self.spacing == 1


def scan(sources: Sequence[Source], text_field: str) -> Scan:
    """Go through the rows of `sources` once; a second call for unchanged files costs nothing."""
    files = [file for source in sources for file in source.files]
    stats = [file.stat() for file in files]
    size = sum(map(_unpacked_bytes, files))
    signature = tuple(
        (str(file), stat.st_mtime_ns, stat.st_size) for file, stat in zip(files, stats, strict=True)
    )
    return _scan(_Sources(tuple(sources), signature), text_field, max(1, -(-size // SCANNED_BYTES)))


def _unpacked_bytes(file: Path) -> int:
    """Return how large a file's rows are when they are read; other compressed files count as they are."""
    if file.suffix != ".parquet":
        return file.stat().st_size
    from pyarrow import ArrowInvalid  # type: ignore[import-untyped]
    from pyarrow.parquet import read_metadata  # type: ignore[import-untyped]

    try:
        metadata = read_metadata(file)
    except ArrowInvalid:
        return file.stat().st_size  # reading its rows says what is wrong with it
    return sum(metadata.row_group(at).total_byte_size for at in range(metadata.num_row_groups))


class _Sources:
    """Sources that are equal where entries, files, their sizes and times are."""

    def __init__(self, sources: tuple[Source, ...], signature: tuple[Any, ...]) -> None:
        self.sources = sources
        entries = tuple(
            (source.name, str(source.builder.cache_dir), source.split, source.columns, source.fraction)
            for source in sources
        )
        self._key = (entries, signature)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Sources) and self._key == other._key


@lru_cache(maxsize=4)
def _scan(sources: _Sources, text_field: str, stride: int) -> Scan:
    return scan_rows(rows_of(sources.sources, stride), text_field, stride)


def scan_rows(rows: Iterable[dict[str, Any] | Broken | None], text_field: str, stride: int = 1) -> Scan:
    """Go through rows of which one in `stride` is there, and None stands for the others."""
    found = Scan(stride)
    seen: set[bytes] = set()
    for row in rows:
        found.count += 1
        if row is None:
            continue
        found.looked_at += 1
        if isinstance(row, Broken):
            found.broken.add(found.count)
            if len(found.broken_messages) < NAMED_ROWS:
                found.broken_messages.append(row.message)
            continue
        found.columns += [column for column in row if column not in found.columns]
        if found.format is None:
            found.format = format_of(found.columns, text_field)
        _look(found, row, text_field)
        digest = _digest(row)
        if digest in seen:
            found.duplicates.add(found.count)
        seen.add(digest)
    # A later row may bring the column that decides, as it would in the table that TRL reads.
    found.format = format_of(found.columns, text_field)
    return found


def _look(found: Scan, row: dict[str, Any], text_field: str) -> None:
    wrong = faults(row, found.format, text_field) if found.format else set()
    for fault in wrong:
        found.faults.setdefault(fault, Tally()).add(found.count)
    if not any(fault.fatal for fault in wrong):
        _keep(found, row)


def _keep(found: Scan, row: dict[str, Any]) -> None:
    """Keep every n-th row looked at, and double n when too many are kept: no more memory, no chance."""
    if (found.looked_at - 1) % found.spacing:
        return
    found.kept.append((found.count, row))
    if len(found.kept) > MEASURED_ROWS:
        found.spacing *= 2
        found.kept = [kept for kept in found.kept if ((kept[0] - 1) // found.stride) % found.spacing == 0]


def _digest(row: dict[str, Any]) -> bytes:
    text = json.dumps(row, sort_keys=True, default=str, ensure_ascii=True)
    return blake2b(text.encode(), digest_size=8).digest()
