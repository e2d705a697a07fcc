"""The demo's model: a Llama of 1.3 million parameters, pre-trained here on plain conversations."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lorabench.training.demo.corpus import Row
from lorabench.training.demo.tokenizer import MAX_LENGTH

Report = Callable[[str], None]

_IGNORED = -100


def new_model(tokenizer: PreTrainedTokenizerFast, *, hidden_size: int, layers: int) -> LlamaForCausalLM:
    """Return an untrained Llama for this tokenizer: grouped queries, heads of 32, tied embeddings."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=3 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=hidden_size // 32,
        num_key_value_heads=max(1, hidden_size // 64),
        head_dim=32,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def pretrain(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    rows: Sequence[Row],
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    report: Report,
) -> None:
    """Train `model` in place on all tokens of `rows`.

    AdamW with a cosine schedule after a warm-up of 5 % of the steps.
    """
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _cosine(step + 1, steps))
    batches = _batches([_encode(tokenizer, row) for row in rows], batch_size, random.Random(seed))
    model.train()
    for step in range(1, steps + 1):
        loss = model(**_pad(next(batches), tokenizer.pad_token_id)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        if step % max(1, steps // 20) == 0:
            report(f"pre-training: step {step} of {steps}, loss {loss.item():.3f}")
    model.train(False)


def _encode(tokenizer: PreTrainedTokenizerFast, row: Row) -> list[int]:
    return list(tokenizer.apply_chat_template(row["messages"], return_dict=False))


def _batches(rows: Sequence[list[int]], batch_size: int, rng: random.Random) -> Iterator[Sequence[list[int]]]:
    """Yield batches for ever, in a new order each epoch."""
    while True:
        order = rng.sample(rows, len(rows))
        for start in range(0, len(order) - batch_size + 1, batch_size):
            yield order[start : start + batch_size]


def _pad(rows: Sequence[list[int]], pad: int) -> dict[str, torch.Tensor]:
    length = max(map(len, rows))
    return {
        "input_ids": torch.tensor([row + [pad] * (length - len(row)) for row in rows]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows]),
        "labels": torch.tensor([row + [_IGNORED] * (length - len(row)) for row in rows]),
    }


def _cosine(step: int, steps: int) -> float:
    warmup = max(1, steps // 20)
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
