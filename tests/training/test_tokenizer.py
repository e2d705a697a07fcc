"""The tokenizer: it loses nothing, and its chat template marks what the assistant says."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from trl.chat_template_utils import has_generation_markers, is_chat_template_stop_token_trained

TURNS = [
    {"role": "user", "content": "What colour is the sky?"},
    {"role": "assistant", "content": "The colour of the sky is blue."},
    {"role": "user", "content": "What is 2 plus 3?"},
    {"role": "assistant", "content": "2 plus 3 is 5."},
]


@pytest.fixture(scope="module")
def tokenizer(samples: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(samples / "demo-model")


def test_text_survives_encoding_whatever_it_holds(tokenizer: PreTrainedTokenizerBase) -> None:
    text = "  ΔW = s·B·A\tcafé 🏴‍☠️ 10 plus 7\n"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_assistant_mask_covers_the_answers_and_the_tokens_that_end_them(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    encoded = tokenizer.apply_chat_template(TURNS, return_dict=True, return_assistant_tokens_mask=True)
    pairs = zip(encoded["input_ids"], encoded["assistant_masks"], strict=True)
    spoken = tokenizer.decode([token for token, mask in pairs if mask])
    assert spoken == "The colour of the sky is blue.<|im_end|>2 plus 3 is 5.<|im_end|>"


def test_trl_takes_the_template_as_it_is(tokenizer: PreTrainedTokenizerBase) -> None:
    assert has_generation_markers(tokenizer.chat_template)
    assert is_chat_template_stop_token_trained(tokenizer)


def test_the_template_renders_chatml_and_keeps_prefixes(tokenizer: PreTrainedTokenizerBase) -> None:
    prompt = tokenizer.apply_chat_template(TURNS[:1], tokenize=False, add_generation_prompt=True)
    assert prompt == "<|im_start|>user\nWhat colour is the sky?<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.apply_chat_template(TURNS, tokenize=False).startswith(prompt)
