"""The data of a run: are they there, what is in them, and what does max_length take away?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lorabench.errors import LorabenchError
from lorabench.text import visible
from lorabench.training.config.run_config import RunConfig
from lorabench.training.preflight.data_scan import Scan, Tally, scan
from lorabench.training.preflight.data_sources import DataError, evaluation_source, train_sources
from lorabench.training.preflight.finding import Finding, Level, Mend
from lorabench.training.preflight.mask import row_count, row_list
from lorabench.training.preflight.measure import Measured, measure, text_field
from lorabench.training.preflight.preparation import PreparationError
from lorabench.training.preflight.row_checks import Fault

CHECK = "data"


def data_findings(config: RunConfig) -> Iterator[Finding]:
    """Count the rows, name those that are wrong, and measure them; that comes last, for it takes longest."""
    try:
        found = scan(train_sources(config), text_field(config))
    except DataError as error:
        yield Finding(CHECK, "error", error.message, error.hint, error.mend)
        return
    yield from _contents(config, found, "")
    yield from _test_rows(config)
    if found.format == "images":
        what = "rows with images are prepared batch by batch, so they were not measured"
        yield Finding(CHECK, "warning", what)
    elif found.format and found.kept:
        yield from _lengths(config, found)


def train_row_count(config: RunConfig) -> int:
    """Return how many rows the trainer will have, before packing: those that TRL drops are not counted.

    Of data too large to measure, the share that is dropped is taken from the rows that were measured.

    Raises:
        LorabenchError: the rows cannot be found, read or prepared; says why.
    """
    sources = train_sources(config)
    count = _training_share(config, scan(sources, text_field(config)).count)
    measured = measure(config)
    if config.get("packing") or config.get("max_length") is None:
        return count
    return round(count * (1 - len(measured.untrained) / len(measured.lengths)))


def _training_share(config: RunConfig, count: int) -> int:
    """Return what a mixture's test_split_size leaves for training, rounded as `train_test_split` does."""
    held_out = config.get("test_split_size") if config.get("datasets") else None
    if held_out is None:
        return count
    return count - int(np.ceil(held_out * count) if held_out < 1 else held_out)


def _contents(config: RunConfig, found: Scan, what: str) -> Iterator[Finding]:
    """Say how many rows of which kind there are, and what is wrong with them."""
    if found.count == 0:
        yield Finding(CHECK, "error", f"{what}there are no rows")
        return
    detail = ""
    if found.sampled:
        detail = f"The data are large: one row in {found.stride}, {found.looked_at:,} in all, was looked at."
    if found.format is None:
        yield _unknown_format(config, found, what)
    elif not what:
        yield Finding(CHECK, "ok", f"{row_count(found.count)}, {found.format}", detail)
    if found.broken.count:
        yield _broken(found, what)
    for fault, tally in sorted(found.faults.items(), key=lambda item: (not item[0].fatal, -item[1].count)):
        yield _fault(config, found, fault, tally, what)
    if found.duplicates.count and not what:
        count = found.duplicates.count
        verb = "repeats" if count == 1 else "repeat"
        where = row_list(found.duplicates.rows, count)
        yield Finding(CHECK, "warning", f"{row_count(count)} {verb} an earlier one exactly: {where}")


def _unknown_format(config: RunConfig, found: Scan, what: str) -> Finding:
    columns = ", ".join(found.columns)
    texts = [name for name in found.columns if found.kept and isinstance(found.kept[0][1].get(name), str)]
    lone = len(texts) == 1 and "prompt" not in found.columns
    return Finding(
        CHECK,
        "error",
        f"{what}the columns {visible(columns)} are not what TRL trains on"
        if "prompt" not in found.columns
        else f"{what}there are prompts, but no completion: the columns are {visible(columns)}",
        f"It takes messages, prompt and completion, or {visible(text_field(config))}."
        + _alpaca(found.columns),
        Mend(f"train on {visible(texts[0])}", {"dataset_text_field": texts[0]}) if lone else None,
    )


def _alpaca(columns: Sequence[str]) -> str:
    if not {"instruction", "output"} <= set(columns):
        return ""
    return " These are Alpaca's: write instruction and input as prompt, output as completion."


def _broken(found: Scan, what: str) -> Finding:
    first, *others = found.broken_messages
    more = f" (and {found.broken.count - 1:,} more)" if found.broken.count > 1 else ""
    return Finding(CHECK, "error", f"{what}{first}{more}", "\n".join(others))


def _fault(config: RunConfig, found: Scan, fault: Fault, tally: Tally, what: str) -> Finding:
    level: Level = "error" if fault.fatal else "warning"
    detail = "TRL stops there before the first step." if fault.fatal else ""
    if fault.kind == "have no assistant turn" and config.get("assistant_only_loss"):
        level, detail = "error", "With assistant_only_loss TRL refuses rows that hold nothing to train on."
    if fault.kind.startswith("have the unknown role"):
        detail = (
            "Chat templates know system, user, assistant and tool: write user for human, assistant for gpt."
        )
    verb, _, rest = fault.kind.partition(" ")
    words = f"{_SINGULAR[verb] if tally.count == 1 else verb} {rest}"
    sample = f" of the {found.looked_at:,} looked at" if found.sampled else ""
    where = row_list(tally.rows, tally.count)
    return Finding(CHECK, level, f"{what}{row_count(tally.count)}{sample} {visible(words)}: {where}", detail)


_SINGULAR = {"have": "has", "hold": "holds", "begin": "begins", "end": "ends", "mix": "mixes"}


def _test_rows(config: RunConfig) -> Iterator[Finding]:
    try:
        source = evaluation_source(config)
        if source is not None:
            yield from _contents(config, scan((source,), text_field(config)), f"{visible(source.split)}: ")
    except DataError as error:
        yield Finding(CHECK, "error", error.message, error.hint, error.mend)


def _lengths(config: RunConfig, found: Scan) -> Iterator[Finding]:
    try:
        measured = measure(config)
    except PreparationError:
        return  # the loss check says what TRL refuses
    except LorabenchError as error:
        yield Finding(CHECK, "warning", f"the rows could not be measured: {error.message}", error.hint)
        return
    yield _length_finding(config, found, measured)


def _length_finding(config: RunConfig, found: Scan, measured: Measured) -> Finding:
    lengths = list(measured.lengths.values())
    middle, most = (int(np.percentile(lengths, at, method="inverted_cdf")) for at in (50, 95))
    detail = []
    if not found.measured_all:
        detail.append(f"Measured on {len(lengths):,} rows, evenly spaced over the {found.count:,}.")
    level: Level = "ok"
    mend = None
    if measured.cut:
        detail.append(f"Cut: {row_list(measured.cut)}.")
        mend = Mend(f"max_length {max(lengths)}", {"max_length": max(lengths)})
    for numbers, what in ((measured.lost, "the last answer is lost"), (measured.shortened, "it is cut")):
        if numbers:
            level = "warning"
            detail.append(f"Where {what}: {row_list(numbers)}.")
    message = f"tokens p50 {middle:,} p95 {most:,} max {max(lengths):,}; {_cut(config, measured)}"
    return Finding(CHECK, level, message, "\n".join(detail), mend)


def _cut(config: RunConfig, measured: Measured) -> str:
    limit = config.get("max_length")
    if limit is None:
        return "no max_length, so none is cut"
    if not measured.cut:
        return f"none is cut at {limit:,}"
    answers = f"the last answer is lost in {len(measured.lost):,}, cut in {len(measured.shortened):,}"
    return f"{row_count(len(measured.cut))} cut at {limit:,}: {answers}"
