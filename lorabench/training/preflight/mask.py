"""The loss mask: which tokens the loss counts, as TRL's preparation and collator leave them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lorabench.text import visible
from lorabench.training.config.run_config import RunConfig
from lorabench.training.preflight.data_scan import Numbered
from lorabench.training.preflight.data_sources import DataError
from lorabench.training.preflight.finding import Finding, Mend
from lorabench.training.preflight.measure import Measured, kept_slice, measure, scan_of
from lorabench.training.preflight.preparation import (
    IGNORED,
    ROW,
    EndlessTemplate,
    PreparationError,
    Prepared,
    overheard,
)

CHECK = "loss"
_TEXT = "Give the text itself as content, or a chat_template_path that takes both."


@dataclass(frozen=True, slots=True)
class MaskedRow:
    """A row as the trainer will see it.

    `number` is its place in the data, from 1. `tokens` are texts with whether the loss counts them; line
    feeds are left in, every other control character is visible. `cut` tokens were thrown away by max_length.
    `dropped` says that no trained token is left and TRL leaves the row out; its tokens are still here.
    """

    number: int
    tokens: tuple[tuple[str, bool], ...]
    cut: int
    dropped: bool = False


def mask_rows(config: RunConfig, rows: range) -> list[MaskedRow]:
    """Return rows as the trainer will see them; `rows` counts the measured ones from 0.

    Raises:
        LorabenchError: the rows cannot be found, read or prepared; says why.
    """
    prepared = measure(config).prepared
    whole = prepared.whole
    chosen = whole.select([at for at in rows if 0 <= at < len(whole)])
    return [_masked(config, prepared, row) for row in chosen.select_columns([ROW, "input_ids", "labels"])]


def _masked(config: RunConfig, prepared: Prepared, row: dict[str, Any]) -> MaskedRow:
    limit = kept_slice(config)
    ids, labels = row["input_ids"][limit], row["labels"][limit]
    counted = _collated(config, prepared.trainer, ids, labels)
    texts = token_texts(prepared.trainer._tokenizer, ids)
    nothing = not any(counted)
    return MaskedRow(
        number=row[ROW],
        tokens=tuple(zip(texts, counted, strict=True)),
        cut=len(row["input_ids"]) - len(ids),
        dropped=nothing and config.get("max_length") is not None and not config.get("packing"),
    )


def _collated(config: RunConfig, trainer: Any, ids: Sequence[int], labels: Sequence[int]) -> list[bool]:
    """Return which tokens the loss counts after TRL's packing (of this row alone) and collator."""
    if not ids:
        return []
    batch = [{"input_ids": list(ids), "labels": list(labels)}]
    if config.get("packing"):
        from datasets import Dataset
        from trl.data_utils import pack_dataset

        with overheard():
            batch = list(
                pack_dataset(
                    Dataset.from_list(batch), config.get("max_length"), config.get("packing_strategy")
                )
            )
    collated = [trainer.data_collator([part])["labels"][0, : len(part["input_ids"])] for part in batch]
    return [label != IGNORED for part in collated for label in part.tolist()]


def token_texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Return the text that each token adds, so that together they are the rendered row.

    A token that is only a part of a character is shown by its name in the vocabulary.
    """
    texts = []
    before = ""
    for at, token in enumerate(ids):
        pair = tokenizer.decode(ids[max(0, at - 1) : at + 1], skip_special_tokens=False)
        text = pair.removeprefix(before) if at else pair
        before = tokenizer.decode([token], skip_special_tokens=False)
        if "\ufffd" in text or not text:
            text = str(tokenizer.convert_ids_to_tokens(token))
        texts.append("\n".join(visible(line) for line in text.split("\n")))
    return texts


def mask_findings(config: RunConfig) -> Iterator[Finding]:
    """Say which tokens are trained on, what share of all, and which rows have none."""
    try:
        found = scan_of(config)
        conversational = bool(found.kept) and _is_conversational(found.kept[0][1])
        yield from _ignored_switch(config, found.format, conversational)
        measured = measure(config)
    except PreparationError as error:
        yield _refused(config, error)
        return
    except DataError as error:
        yield Finding(CHECK, "warning", "what is trained on cannot be said yet", error.message)
        return
    share = _share(config, measured, found.format, conversational)
    yield _untrained(config, measured, share) if measured.untrained else share
    yield from _written_out(found.kept, measured)
    for warning in measured.prepared.warnings:
        yield Finding(CHECK, "warning", f"TRL warns: {warning}")


def _ignored_switch(config: RunConfig, kind: str | None, conversational: bool) -> Iterator[Finding]:
    if config.get("completion_only_loss") and kind in ("messages", "text"):
        better = conversational and not config.get("assistant_only_loss")
        changes = {"completion_only_loss": None} | ({"assistant_only_loss": True} if better else {})
        yield Finding(
            CHECK,
            "warning",
            f"completion_only_loss does nothing: rows of {kind} have no completion, and TRL is silent",
            mend=Mend("train on the answers only" if better else "leave it out", changes),
        )


def _refused(config: RunConfig, error: PreparationError) -> Finding:
    if isinstance(error, EndlessTemplate):
        return Finding(CHECK, "error", error.message)
    where = "" if error.row is None else f"row {error.row}: "
    mend, detail = None, ""
    if "padding_free" in error.message:
        mend = Mend("pad the batches", {"padding_free": False})
    elif config.get("assistant_only_loss"):
        mend = Mend("train on every token", {"assistant_only_loss": False})
    elif "chat_template is not set" in error.message:
        detail = (
            "A base model often has none: set chat_template_path to a Jinja file or to a model that has one, "
            "such as its chat variant."
        )
    in_parts = _first_in_parts(scan_of(config).kept)
    if in_parts is not None and error.message.startswith(("TypeError", "AttributeError", "TemplateError")):
        mend = None
        detail = (
            f"The content of row {in_parts} is a list of parts. This chat template takes text alone. {_TEXT}"
        )
    return Finding(CHECK, "error", f"TRL refuses: {where}{error.message}", detail, mend)


def _written_out(rows: Sequence[Numbered], measured: Measured) -> Iterator[Finding]:
    """A template that prints what it is given makes Python's spelling of a list of parts; TRL is silent."""
    number = _first_in_parts(rows)
    if number is None:
        return
    whole = measured.prepared.whole
    at = list(whole[ROW]).index(number)
    if "{'type':" in measured.prepared.trainer._tokenizer.decode(whole[at]["input_ids"]):
        message = f"The template spells the parts of a content out, as in row {number}: [{{'type': 'text', …"
        yield Finding(CHECK, "error", message, f"TRL would train on that. {_TEXT}")


def _first_in_parts(rows: Sequence[Numbered]) -> int | None:
    return next((number for number, row in rows if _in_parts(row)), None)


def _in_parts(row: dict[str, Any]) -> bool:
    """Whether a message of this row has a list as its content, as models of pictures have it."""
    columns = (row.get(name) for name in ("messages", "conversations", "prompt", "completion"))
    messages = [message for column in columns if isinstance(column, list) for message in column]
    return any(isinstance(message, dict) and isinstance(message.get("content"), list) for message in messages)


def _share(config: RunConfig, measured: Measured, kind: str | None, conversational: bool) -> Finding:
    share = 100 * measured.trained / measured.seen if measured.seen else 0.0
    what = _trained_on(config, kind)
    detail = []
    if measured.prepared.trainer.chat_template is not None:
        detail.append("TRL replaces the chat template by its own for training, which marks the answers.")
    if config.get("packing"):
        detail.append(f"Packed: {len(measured.lengths):,} rows become {measured.sequences:,} sequences.")
    mend = None
    if what == "all tokens" and conversational:
        detail.append("The questions are trained on as well; assistant_only_loss leaves them out.")
        mend = Mend("train on the answers only", {"assistant_only_loss": True})
    message = f"{what}: {share:.0f} % of tokens trained; 0 rows with none"
    return Finding(CHECK, "ok", message, "\n".join(detail), mend)


def _trained_on(config: RunConfig, kind: str | None) -> str:
    completions = kind == "prompt-completion" and config.get("completion_only_loss") in (None, True)
    if config.get("assistant_only_loss"):
        return "assistant tokens of completions only" if completions else "assistant tokens only"
    if kind == "tokens":
        return "the labels of the data"
    return "completion tokens only" if completions else "all tokens"


def _untrained(config: RunConfig, measured: Measured, share: Finding) -> Finding:
    """Say of the share that there are rows without any, which is an error."""
    numbers = measured.untrained
    dropped = config.get("max_length") is not None and not config.get("packing")
    mend = None
    if set(numbers) <= set(measured.cut):
        longest = max(measured.lengths[number] for number in numbers)
        mend = Mend(f"max_length {longest}", {"max_length": longest})
    trained = share.message.removesuffix("0 rows with none")
    none = f"{len(numbers):,} of {len(measured.lengths):,} rows with none: {row_list(numbers)}"
    told = "TRL drops them without a word." if dropped else "They take time and teach nothing."
    return Finding(CHECK, "error", f"{trained}{none}", "\n".join(filter(None, (told, share.detail))), mend)


def row_count(count: int) -> str:
    """Return `1 row`, or `2,000 rows`."""
    return "1 row" if count == 1 else f"{count:,} rows"


def row_list(numbers: Sequence[int], count: int | None = None, most: int = 8) -> str:
    """Return `row 3` or `rows 3, 8, 21, …`; `count` is how many there are where `numbers` are the first."""
    count = len(numbers) if count is None else count
    shown = ", ".join(str(number) for number in numbers[:most])
    return f"{'row' if count == 1 else 'rows'} {shown}{', …' if count > min(len(numbers), most) else ''}"


def _is_conversational(row: dict[str, Any]) -> bool:
    from trl.data_utils import is_conversational, is_conversational_from_value

    return bool(is_conversational(row) or is_conversational_from_value(row))
