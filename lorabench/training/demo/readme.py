"""Measure the samples and write the README that goes with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from peft import PeftModel

from lorabench.text import visible
from lorabench.training.demo.adapters import assistant_loss, load_base
from lorabench.training.demo.answer import greedy_answer
from lorabench.training.demo.corpus import Row
from lorabench.training.demo.recipes import Recipe

QUESTIONS = (
    "What colour is the sky?",
    "What is the capital of France?",
    "What should I take when it rains?",
    "What is 7 plus 5?",
)

_TEXT = """\
# Sample adapters

Small, real LoRA adapters to look at, the model that they were trained on, and its data. All of it was made by
`lorabench demo --rebuild {root}`: seeded, on one CPU thread, in some minutes. Licence: Apache-2.0.

- `demo-model/` is a Llama of {parameters:.2f} million parameters ({layers} layers, hidden size {hidden}),
  pre-trained from nothing on plain questions and answers, with a byte-level BPE tokenizer of {vocabulary}
  tokens and a chat template that TRL's `assistant_only_loss` understands.
- `demo-data/` holds conversations in which an old sea captain answers: `train.jsonl` to fine-tune on, and
  `test.jsonl` about facts that the captain never tells in `train.jsonl`.

Each adapter was trained with TRL's SFTTrainer and PEFT. The loss is the mean over the assistant's tokens in
`test.jsonl`, in nats per token; the base model alone has {base_loss:.3f}.

{adapters}

Their configurations call the base model `{root}/demo-model`: load them from the folder that holds
`{root}`, or pass the model to `PeftModel.from_pretrained`. Left out are pickled training arguments, optimizer
states, copies of the tokenizer, and the clock readings of trainer_state.json: a rebuild gives the same files.

## What they say

Greedy answers, as `lorabench demo --ask QUESTION [--adapter FOLDER]` prints them:

{answers}
"""


def describe(
    folder: Path, trained: Sequence[tuple[Recipe, int]], test_rows: Sequence[Row], *, root: str
) -> str:
    """Return the README of the samples in `folder`, with losses and answers measured on the saved files.

    `trained` pairs each recipe with the number of its steps.
    """
    base, tokenizer = load_base(folder / "demo-model")
    adapters = [("adapter", "what it is", "rank", "steps", "learning rate", "loss")]
    answers = [[("base model", greedy_answer(base, tokenizer, question))] for question in QUESTIONS]
    for recipe, steps in trained:
        model = PeftModel.from_pretrained(load_base(folder / "demo-model")[0], folder / recipe.name)
        loss = f"{assistant_loss(model, tokenizer, test_rows):.3f}"
        rate = f"{recipe.learning_rate:g}" if steps else "–"
        adapters.append((f"`{recipe.name}/`", recipe.about, str(recipe.lora["r"]), str(steps), rate, loss))
        for question, said in zip(QUESTIONS, answers, strict=True):
            said.append((recipe.name, greedy_answer(model, tokenizer, question)))
    return _TEXT.format(
        root=root,
        parameters=base.num_parameters() / 1e6,
        layers=base.config.num_hidden_layers,
        hidden=base.config.hidden_size,
        vocabulary=len(tokenizer),
        base_loss=assistant_loss(base, tokenizer, test_rows),
        adapters=_table(adapters),
        answers="\n\n".join(map(_said, QUESTIONS, answers)),
    )


def _said(question: str, answers: Sequence[tuple[str, str]]) -> str:
    """Return what each model answers to one question, as a Markdown table."""
    return _table([(question, ""), *answers])


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows as a Markdown table; the first one is its head."""
    head, *body = (f"| {' | '.join(visible(cell).replace('|', '&#124;') for cell in row)} |" for row in rows)
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body])
