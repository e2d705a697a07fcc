"""Read the rows of a configuration one by one, in the order and the number in which TRL would have them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from lorabench.text import visible
from lorabench.training.preflight.data_sources import DataError, Source
from lorabench.training.preflight.json_rows import Broken, Row, is_plain_json, is_read, json_rows

_BATCH = 1000

Part = tuple[str, int, int | None]
"""A piece of a source: the split, the first row, and the row after the last (None: to the end)."""


def rows_of(sources: Sequence[Source], stride: int = 1) -> Iterator[Row]:
    """Yield the rows of all sources one after the other; of each split one in `stride` is read.

    The others come as None. A source's slice, columns and fraction are kept as `trl.get_dataset` keeps
    them: of a mixture with fractions the first `round(weight · total)` rows of each.
    """
    limits = _limits(sources)
    for source, limit in zip(sources, limits, strict=True):
        parts = (row for part in _parts(source) for row in _part_rows(source, part, stride))
        for row in islice(parts, limit):
            yield _select(row, source)


def _limits(sources: Sequence[Source]) -> list[int | None]:
    """Return how many rows of each source the mixture takes; None: all."""
    fractions = [source.fraction for source in sources if source.fraction is not None]
    if not fractions:
        return [None] * len(sources)
    weights = [fraction / sum(fractions) for fraction in fractions]
    counts = [sum(1 for part in _parts(source) for _ in _part_rows(source, part, 0)) for source in sources]
    total = min(count / weight for count, weight in zip(counts, weights, strict=True) if weight > 0)
    return [round(weight * total) for weight in weights]


def _parts(source: Source) -> list[Part]:
    """Return the pieces that a split such as `train`, `train[:10%]` or `train+test` stands for."""
    if source.split in source.splits:
        return [(source.split, 0, None)]
    from datasets import ReadInstruction

    counts = _SplitCounts(source)
    try:
        instructions = ReadInstruction.from_spec(source.split).to_absolute(counts)
    except (ValueError, AssertionError) as error:
        what = f"{visible(source.name)} has no split {visible(source.split)}"
        raise DataError(f"{what}; it has {visible(', '.join(source.splits))}.", "Mend split.") from error
    return [(part.splitname, part.from_ or 0, part.to) for part in instructions]


class _SplitCounts(dict[str, int]):
    """Rows of each split, counted when they are asked for."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source

    def __missing__(self, split: str) -> int:
        if split not in self._source.splits:
            raise ValueError(split)
        self[split] = sum(1 for _ in _split_rows(self._source, split, 0))
        return self[split]

    def __contains__(self, split: object) -> bool:
        return split in self._source.splits


def _part_rows(source: Source, part: Part, stride: int) -> Iterator[Row]:
    split, start, stop = part
    return islice(_split_rows(source, split, stride), start, stop)


def _split_rows(source: Source, split: str, stride: int) -> Iterator[Row]:
    """Yield a split's rows, one in `stride` read (0: none)."""
    files = source.files_of(split)
    if source.builder.name.startswith("json") and is_plain_json(files):
        for file in files:
            yield from json_rows(file, stride)
    else:
        yield from _table_rows(source, split, stride)


def _table_rows(source: Source, split: str, stride: int) -> Iterator[Row]:
    """Yield the rows of what `datasets` reads itself, a batch in memory at a time."""
    row = 0
    try:
        for table in _tables(source, split):
            wanted = [at for at in range(table.num_rows) if is_read(row + at, stride)]
            values = dict(zip(wanted, table.take(wanted).to_pylist(), strict=True))
            yield from (values.get(at) for at in range(table.num_rows))
            row += table.num_rows
    except (ValueError, TypeError, OSError) as error:
        reason = visible(str(error).splitlines()[0]) if str(error) else type(error).__name__
        yield Broken(f"{visible(source.name)} cannot be read after row {row}: {reason}")


def _tables(source: Source, split: str) -> Iterator[Any]:
    if source.files_of(split):
        dataset = source.builder.as_streaming_dataset(split)
    else:
        dataset = source.builder.as_dataset(split)
    yield from dataset.with_format("arrow").iter(_BATCH)


def _select(row: Row, source: Source) -> Row:
    if source.columns is None or not isinstance(row, dict):
        return row
    return {column: row.get(column) for column in source.columns}
