"""Prepare rows as TRL's SFTTrainer prepares them: by SFTTrainer itself, around a model of no size."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from lorabench.errors import LorabenchError
from lorabench.files import is_there
from lorabench.text import visible
from lorabench.training.config.run_config import RunConfig
from lorabench.training.preflight import slow_template
from lorabench.training.preflight.data_scan import Numbered
from lorabench.training.preflight.model_source import ModelNotFound, find_model, own_code

ROW = "lorabench_row"
"""A column that rides through TRL's preparation, so that a row is still known when others were dropped."""

IGNORED = -100

FIELDS = (
    "assistant_only_loss",
    "chat_template_path",
    "completion_only_loss",
    "dataset_kwargs",
    "dataset_text_field",
    "eos_token",
    "max_length",
    "packing",
    "packing_strategy",
    "pad_to_multiple_of",
    "pad_token",
    "padding_free",
    "per_device_train_batch_size",
    "seed",
    "truncation_mode",
)
"""The fields of SFTConfig that decide what the rows become."""


class PreparationError(LorabenchError):
    """What TRL itself raises on these rows; `row` is the number of the first one that it refuses."""

    def __init__(self, message: str, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row


class EndlessTemplate(PreparationError):
    """A chat template that renders for longer than anyone waits."""


@dataclass(slots=True)
class Prepared:
    """Rows after TRL's preparation.

    `whole` has `input_ids` and `labels` of every row before anything is cut, under its number (ROW);
    `trainer` holds TRL's collator and, as `train_dataset`, the rows as they reach it: cut, without
    those that have no trained token left, and packed where packing is on. `warnings` are TRL's own.
    """

    whole: Any
    trainer: Any
    warnings: list[str] = field(default_factory=list)


def prepare(config: RunConfig, rows: Sequence[Numbered]) -> Prepared:
    """Let SFTTrainer prepare `rows` under this configuration.

    First without max_length and packing, which gives whole rows; then, from their tokens, as configured.

    Raises:
        PreparationError: TRL refuses the configuration or a row.
        LorabenchError: the tokenizer is not here.
    """
    _find_template(str(config.get("chat_template_path") or ""))
    tokenizer = load_tokenizer(config)
    with tempfile.TemporaryDirectory() as folder, overheard() as heard, _in_time(config):
        whole = _first_pass(config, tokenizer, rows, folder)
        try:
            trainer = _trainer(config, tokenizer, whole, folder)
        except Exception as error:
            raise PreparationError(reason(error)) from error
    return Prepared(whole, trainer, list(dict.fromkeys(heard)))


def _find_template(place: str) -> None:
    """Refuse a chat_template_path that is not there: TRL would look for it on the hub, for minutes.

    Raises:
        PreparationError: no such file; no such model here, nor on a hub that can be reached.
    """
    if not place or is_there(Path(place)):
        return
    if place.endswith((".jinja", ".jinja2", ".txt")):
        raise PreparationError(f"There is no chat_template_path {visible(place)}.")
    try:
        find_model(place)
    except ModelNotFound as error:
        raise PreparationError(f"chat_template_path: {error.message}") from error


def prepare_whole(config: RunConfig, rows: Sequence[Numbered], **options: Any) -> Any:
    """Return `rows` as a dataset of whole token rows with labels, under other `options` of SFTConfig."""
    with tempfile.TemporaryDirectory() as folder, overheard(), _in_time(config):
        return _first_pass(config, load_tokenizer(config), rows, folder, **options)


@contextmanager
def _in_time(config: RunConfig) -> Iterator[None]:
    try:
        with slow_template.templates_bounded():
            yield
    except slow_template.SlowTemplate:
        raise EndlessTemplate(slow_template.endless(config, "the rows that are measured")) from None


def load_tokenizer(config: RunConfig) -> Any:
    """Return the processing class that SFTTrainer would load for this model, a new one each time.

    Raises:
        LorabenchError: no such model here, or it has no tokenizer that can be read.
    """
    name = str(config.get("model_name_or_path") or "")
    revision = str(config.get("model_revision") or "main")
    source = find_model(name, revision)
    from transformers import AutoProcessor

    try:
        with overheard():
            return AutoProcessor.from_pretrained(  # type: ignore[no-untyped-call]
                name,
                revision=revision,
                trust_remote_code=False,
                local_files_only=source.place != "hub",
            )
    except (OSError, ValueError, KeyError, ImportError) as error:
        if "trust_remote_code" in str(error):
            raise own_code(name) from error
        raise LorabenchError(f"The tokenizer of {visible(name)} cannot be read: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """Return what an exception says, on one line."""
    text = " ".join(str(error).split())
    if not isinstance(error, ValueError | RuntimeError):
        text = f"{type(error).__name__}: {text}"
    return visible(text)


def _first_pass(
    config: RunConfig, tokenizer: Any, rows: Sequence[Numbered], folder: str, **options: Any
) -> Any:
    whole = {**options, "max_length": None, "packing": False, "padding_free": False}
    try:
        return _trainer(config, tokenizer, _dataset(rows), folder, **whole).train_dataset
    except Exception as error:
        first = _first_refused(config, tokenizer, rows, folder, whole)
        raise PreparationError(reason(error), first) from error


def _first_refused(
    config: RunConfig, tokenizer: Any, rows: Sequence[Numbered], folder: str, options: dict[str, Any]
) -> int | None:
    """Return the number of the first row that TRL refuses; None where it refuses them all alike."""

    def refused(some: Sequence[Numbered]) -> bool:
        try:
            _trainer(config, tokenizer, _dataset(some), folder, **options)
        except Exception:  # noqa: BLE001  the caller tells what it was
            return True
        return False

    if refused(rows[:1]):
        return rows[0][0] if len(rows) > 1 and not refused(rows[1:]) else None
    good, bad = 1, len(rows)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (good, middle) if refused(rows[:middle]) else (middle, bad)
    return rows[bad - 1][0]


def _dataset(rows: Sequence[Numbered]) -> Any:
    """Return rows as `load_dataset` types them: what one row leaves out is null, what differs is JSON."""
    from datasets import Dataset

    columns = dict.fromkeys(column for _, row in rows for column in row)
    whole = [{**{column: row.get(column) for column in columns}, ROW: number} for number, row in rows]
    return Dataset.from_list(whole, on_mixed_types="use_json")


def _trainer(config: RunConfig, tokenizer: Any, dataset: Any, folder: str, **options: Any) -> Any:
    """Return an SFTTrainer that has prepared `dataset` and could train nothing worth having."""
    from trl.trainer.sft_config import SFTConfig

    fields = {name: config.get(name) for name in FIELDS}
    arguments = SFTConfig(
        **{**fields, **options}, output_dir=folder, use_cpu=True, bf16=False, report_to="none"
    )
    return _trainer_class()(
        model=_stub(len(tokenizer.tokenizer if hasattr(tokenizer, "tokenizer") else tokenizer)),
        args=arguments,
        train_dataset=dataset,
        processing_class=tokenizer,
    )


@lru_cache(maxsize=1)
def _trainer_class() -> Any:
    from trl.trainer.sft_trainer import SFTTrainer

    class Preparation(SFTTrainer):
        """An SFTTrainer that tells nobody that it was made."""

        def _send_telemetry(self) -> None:
            return

    return Preparation


def _stub(vocabulary: int) -> Any:
    """Return the smallest model that SFTTrainer accepts; what it prepares depends on the tokenizer alone."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
        )
    )


class _Listener(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage().removeprefix("[RANK 0] ")
        self.heard.append(visible(" ".join(message.split())))


@contextmanager
def overheard() -> Iterator[list[str]]:
    """Keep the libraries quiet, and note what TRL's trainer warns of."""
    import datasets
    from trl.trainer import sft_trainer

    logger = logging.getLogger("trl")
    others = [logging.getLogger(name) for name in ("transformers", "datasets", "accelerate")]
    levels = [other.level for other in others]
    propagated, bars = logger.propagate, datasets.is_progress_bar_enabled()
    listener = _Listener()
    logger.addHandler(listener)
    logger.propagate = False
    for other in others:
        other.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    # TRL says some things once in a process; here each configuration wants to hear them.
    type(sft_trainer.logger).warning_once.cache_clear()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield listener.heard
    finally:
        logger.removeHandler(listener)
        logger.propagate = propagated
        for other, level in zip(others, levels, strict=True):
            other.setLevel(level)
        if bars:
            datasets.enable_progress_bars()
