"""Measure prepared rows: how long they are, what max_length takes away, what the loss counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lorabench.files import is_file
from lorabench.training.config.run_config import RunConfig
from lorabench.training.preflight.data_scan import Numbered, Scan, scan
from lorabench.training.preflight.data_sources import DataError, train_sources
from lorabench.training.preflight.model_source import find_model
from lorabench.training.preflight.preparation import (
    FIELDS,
    IGNORED,
    ROW,
    PreparationError,
    Prepared,
    prepare,
    prepare_whole,
)

_COLLATED = ("input_ids", "labels", "seq_lengths")


@dataclass(frozen=True, slots=True)
class Measured:
    """What the trainer would see of the rows that were kept.

    `lengths` are tokens per row before anything is cut, by row number. `cut`, `lost` (the last answer
    is cut off), `shortened` (a part of it is) and `untrained` (no trained token is left) are row numbers.
    `seen` and `trained` count tokens of the batches, `sequences` what they are made of.
    """

    prepared: Prepared
    lengths: Mapping[int, int]
    cut: tuple[int, ...]
    lost: tuple[int, ...]
    shortened: tuple[int, ...]
    untrained: tuple[int, ...]
    sequences: int
    seen: int
    trained: int


def scan_of(config: RunConfig) -> Scan:
    """Go through the training rows of a configuration; see `scan`.

    Raises:
        DataError: nothing is there to read.
    """
    return scan(train_sources(config), text_field(config))


def text_field(config: RunConfig) -> str:
    """Return the column that holds the text of rows without messages and prompts."""
    return str(config.get("dataset_text_field") or "text")


def measure(config: RunConfig) -> Measured:
    """Prepare and measure the rows kept of the training data; a second call for the same costs nothing.

    Raises:
        PreparationError: TRL refuses the configuration or a row.
        DataError: there is nothing that could be measured.
    """
    found = scan_of(config)
    if not found.kept or found.format in (None, "images"):
        raise DataError("There are no rows that could be measured.")
    measured = _measure(_Question(config, found))
    if isinstance(measured, PreparationError):
        raise measured.with_traceback(None)
    return measured


class _Question:
    """A configuration and its rows; two are equal where the answer must be."""

    def __init__(self, config: RunConfig, found: Scan) -> None:
        self.config = config
        self.rows = found.kept
        fields = (*FIELDS, "model_name_or_path", "model_revision")
        self._key = (
            id(found.kept),
            tuple(repr(config.get(name)) for name in fields),
            _tokenizer_times(str(config.get("model_name_or_path") or ""), config),
        )

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Question) and self._key == other._key


def _tokenizer_times(name: str, config: RunConfig) -> tuple[tuple[str, int], ...]:
    folder = find_model(name, str(config.get("model_revision") or "main")).folder
    template = Path(str(config.get("chat_template_path") or ""))
    files = [*folder.glob("*token*.json"), *folder.glob("*.jinja")]
    files += [template] if is_file(template) else []
    return tuple(sorted((str(file), file.stat().st_mtime_ns) for file in files))


@lru_cache(maxsize=2)
def _measure(question: _Question) -> Measured | PreparationError:
    """Measure once, or find out once why not: both may take long, and several checks ask."""
    try:
        return _measure_rows(question.config, question.rows)
    except PreparationError as error:
        return error


def _measure_rows(config: RunConfig, rows: Sequence[Numbered]) -> Measured:
    prepared = prepare(config, rows)
    whole = {row[ROW]: row["labels"] for row in prepared.whole.select_columns([ROW, "labels"])}
    limit = kept_slice(config)
    cut = tuple(number for number, labels in whole.items() if len(labels[limit]) < len(labels))
    lost, shortened = _answers_cut(config, rows, whole, cut, limit)
    seen, trained = _count(prepared.trainer)
    return Measured(
        prepared,
        lengths={number: len(labels) for number, labels in whole.items()},
        cut=cut,
        lost=lost,
        shortened=shortened,
        untrained=tuple(number for number, labels in whole.items() if not _trained(labels[limit])),
        sequences=len(prepared.trainer.train_dataset),
        seen=seen,
        trained=trained,
    )


def kept_slice(config: RunConfig) -> slice:
    """Return the part of a row's tokens that is not thrown away: packing may cut a row up without loss."""
    limit = config.get("max_length")
    if limit is None or (config.get("packing") and config.get("packing_strategy") != "bfd"):
        return slice(None)
    if config.get("truncation_mode") == "keep_end" and not config.get("packing"):
        return slice(-limit, None)
    return slice(limit)


def _answers_cut(
    config: RunConfig,
    rows: Sequence[Numbered],
    whole: Mapping[int, Sequence[int]],
    cut: Sequence[int],
    limit: slice,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return which of the cut rows lose all of their last answer, and which a part of it."""
    some = set(cut)
    answers = {number: whole[number] for number in cut if IGNORED in whole[number]}
    # Of a conversation TRL marks no answer, or all of them: the last one is what a cut takes first.
    for number, last in _last_answers(config, [row for row in rows if row[0] in some]).items():
        answers[number] = _both(answers.get(number, last), last)
    left = {number: _trained(labels[limit]) for number, labels in answers.items()}
    lost = tuple(number for number, tokens in left.items() if not tokens)
    return lost, tuple(n for n, tokens in left.items() if 0 < tokens < _trained(answers[n]))


def _both(first: Sequence[int], second: Sequence[int]) -> Sequence[int]:
    """Return labels that are masked where one of two is."""
    return [IGNORED if other == IGNORED else label for label, other in zip(first, second, strict=False)]


def _last_answers(config: RunConfig, rows: Sequence[Numbered]) -> dict[int, Sequence[int]]:
    """Return labels that mark the last answer, found by giving it to TRL as the completion."""
    split = [(number, pair) for number, row in rows if (pair := _as_pair(row))]
    if not split:
        return {}
    options = {"completion_only_loss": True, "assistant_only_loss": False}
    marked = prepare_whole(config, split, **options)
    return {row[ROW]: row["labels"] for row in marked.select_columns([ROW, "labels"])}


def _as_pair(row: dict[str, Any]) -> dict[str, Any] | None:
    """Return a row as prompt and completion, the completion being the last answer; None where it has none."""
    if "prompt" in row:
        return row
    from trl.data_utils import maybe_convert_to_chatml

    messages = row.get("messages") or row.get("conversations")
    if not messages:
        return None
    messages = maybe_convert_to_chatml({"messages": [dict(message) for message in messages]})["messages"]
    if len(messages) < 2 or messages[-1]["role"] != "assistant":
        return None
    rest = {name: value for name, value in row.items() if name not in ("messages", "conversations")}
    return {**rest, "prompt": messages[:-1], "completion": messages[-1:]}


def _count(trainer: Any) -> tuple[int, int]:
    """Return how many tokens the batches hold, padding aside, and how many of them the loss counts."""
    dataset = trainer.train_dataset
    columns = [column for column in _COLLATED if column in dataset.column_names]
    seen = trained = 0
    for row in dataset.select_columns(columns):
        seen += len(row["input_ids"])
        trained += int((trainer.data_collator([row])["labels"] != IGNORED).sum())
    return seen, trained


def _trained(labels: Sequence[int]) -> int:
    return sum(label != IGNORED for label in labels)
