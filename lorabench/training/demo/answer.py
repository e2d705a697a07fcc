"""Ask a model a question, with or without an adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from lorabench.errors import NotFound

MAX_ANSWER_TOKENS = 64


def answer(model_folder: Path, adapter_folder: Path | None, question: str) -> str:
    """Return the model's greedy answer to one question, on the CPU in float32.

    Raises:
        NotFound: one of the folders holds no model or no adapter.
    """
    _require(model_folder / "config.json", "model")
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model: Any = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    if adapter_folder is not None:
        _require(adapter_folder / "adapter_config.json", "PEFT adapter")
        model = PeftModel.from_pretrained(model, adapter_folder)
    return greedy_answer(model, tokenizer, question)


def greedy_answer(model: Any, tokenizer: PreTrainedTokenizerBase, question: str) -> str:
    """Return what a loaded model of transformers or PEFT answers to one question, without special tokens."""
    prompt: Any = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    with torch.inference_mode():
        output = model.generate(**prompt, do_sample=False, max_new_tokens=MAX_ANSWER_TOKENS)
    spoken = output[0, prompt["input_ids"].shape[1] :]
    return str(tokenizer.decode(spoken, skip_special_tokens=True)).strip()


def _require(file: Path, what: str) -> None:
    if not file.is_file():
        raise NotFound(f"{file.parent} holds no {what}.", f"It should have a {file.name}.")
