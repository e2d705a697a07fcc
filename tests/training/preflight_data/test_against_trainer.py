"""What the preflight shows of the rows is what the real trainer's batches hold."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lorabench.training.config.run_config import RunConfig
from lorabench.training.preflight.mask import mask_rows, token_texts
from lorabench.training.preflight.measure import measure
from lorabench.training.preflight.preparation import FIELDS
from tests.training.preflight_data.conftest import Configure, Rows

Tokens = tuple[tuple[str, bool], ...]


def real_trainer(config: RunConfig) -> Any:
    """The trainer that `trl sft` would build: the demo model with its weights, the data by load_dataset."""
    from datasets import load_dataset
    from trl import SFTConfig, SFTTrainer

    arguments = SFTConfig(
        output_dir=config.get("output_dir"),
        use_cpu=True,
        bf16=False,
        report_to="none",
        **{name: config.get(name) for name in FIELDS},
    )
    return SFTTrainer(
        model=config.get("model_name_or_path"),
        args=arguments,
        train_dataset=load_dataset(config.get("dataset_name"))["train"],
    )


def real_sequences(trainer: Any) -> list[Tokens]:
    """Every sequence of the training batches, padding taken off: token texts, trained or masked."""
    sequences = []
    for batch in trainer.get_train_dataloader():
        for at, ids in enumerate(batch["input_ids"].tolist()):
            labels = batch["labels"][at].tolist()
            if "position_ids" in batch:
                starts = [n for n, place in enumerate(batch["position_ids"][at].tolist()) if place == 0]
                spans = list(zip(starts, [*starts[1:], len(ids)], strict=True))
            else:
                spans = [(0, int(batch["attention_mask"][at].sum()))]
            for start, stop in spans:
                texts = token_texts(trainer.processing_class, ids[start:stop])
                trained = [label != -100 for label in labels[start:stop]]
                sequences.append(tuple(zip(texts, trained, strict=True)))
    return sequences


ROW_BY_ROW = [
    ("messages", {}),
    ("messages", {"assistant_only_loss": True}),
    ("messages", {"assistant_only_loss": True, "max_length": 40}),
    ("messages", {"assistant_only_loss": True, "max_length": 18}),
    ("messages", {"assistant_only_loss": True, "max_length": 30, "truncation_mode": "keep_end"}),
    ("messages", {"completion_only_loss": True}),
    ("messages", {"max_length": 40, "pad_to_multiple_of": 32}),
    ("messages", {"assistant_only_loss": True, "padding_free": True, "max_length": None}),
    ("messages", {"assistant_only_loss": True, "packing": True, "max_length": 64}),
    ("chat-pairs", {}),
    ("chat-pairs", {"completion_only_loss": False}),
    ("chat-pairs", {"assistant_only_loss": True}),
    ("chat-pairs", {"assistant_only_loss": True, "completion_only_loss": False}),
    ("chat-pairs", {"max_length": 24}),
    ("chat-pairs", {"packing": True, "max_length": 64}),
    ("text-pairs", {}),
    ("text-pairs", {"completion_only_loss": False}),
    ("text-pairs", {"max_length": 12}),
    ("text-pairs", {"padding_free": True, "max_length": None}),
    ("text", {}),
    ("text", {"completion_only_loss": True, "max_length": 20}),
    ("text", {"packing": True, "max_length": 64}),
]


@pytest.mark.parametrize(("kind", "fields"), ROW_BY_ROW)
def test_rows_are_masked_as_in_the_trainers_batches(
    configure: Configure, rows: Rows, kind: str, fields: dict[str, Any]
) -> None:
    config = configure(rows[kind], **fields)

    shown = mask_rows(config, range(40))

    real = real_sequences(real_trainer(config))
    assert sorted(row.tokens for row in shown if not row.dropped) == sorted(real)
    measured = measure(config)
    assert len(real) == len(measured.lengths) - sum(row.dropped for row in shown)
    assert measured.seen == sum(map(len, real))
    assert measured.trained == sum(trained for tokens in real for _, trained in tokens)


@pytest.mark.parametrize("strategy", ["bfd_split", "wrapped"])
def test_rows_that_packing_splits_keep_every_token_and_its_mask(
    configure: Configure, rows: Rows, strategy: str
) -> None:
    config = configure(
        rows["messages"], assistant_only_loss=True, packing=True, packing_strategy=strategy, max_length=50
    )

    shown = mask_rows(config, range(40))

    trainer = real_trainer(config)
    real = real_sequences(trainer)
    assert Counter(token for row in shown for token in row.tokens) == Counter(
        token for row in real for token in row
    )
    assert all(row.cut == 0 for row in shown)
    assert measure(config).sequences == len(trainer.train_dataset)


def test_lengths_are_those_of_the_real_trainer(configure: Configure, rows: Rows) -> None:
    config = configure(rows["messages"], max_length=None)

    lengths = list(measure(config).lengths.values())

    assert lengths == [len(row["input_ids"]) for row in real_trainer(config).train_dataset]


def test_a_real_model_with_another_tokenizer_is_masked_alike(
    configure: Configure, rows: Rows, shared_data: Path
) -> None:
    config = configure(rows["text-pairs"], model_name_or_path=str(shared_data / "models" / "stories260K"))

    shown = mask_rows(config, range(40))

    assert sorted(row.tokens for row in shown) == sorted(real_sequences(real_trainer(config)))
    assert "".join(text for text, _ in shown[0].tokens).startswith("<s> What is the child of a pig")
