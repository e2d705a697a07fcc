"""Ask a model a question, with or without an adapter."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from peft import PeftConfig, get_peft_model
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from lorabench.errors import AdapterError, NotFound
from lorabench.text import visible
from lorabench.training.demo.quiet import quiet

MAX_ANSWER_TOKENS = 64

_DOES_NOT_FIT = (OSError, ValueError, RuntimeError, TypeError, KeyError, SafetensorError, UnpicklingError)
"""What PEFT raises for other shapes, modules and kinds, and for files that it cannot read."""


def answer(model_folder: Path, adapter_folder: Path | None, question: str) -> str:
    """Return the model's greedy answer to one question, on the CPU in float32.

    Raises:
        NotFound: one of the folders holds no model or no adapter.
        AdapterError: the adapter was made for another model, or is damaged.
    """
    _require(model_folder / "config.json", "model")
    if adapter_folder is not None:
        _require(adapter_folder / "adapter_config.json", "PEFT adapter")
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(model_folder)
        model: Any = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
        if adapter_folder is not None:
            model = _adapted(model, adapter_folder)
        return greedy_answer(model, tokenizer, question)


def _adapted(model: Any, folder: Path) -> Any:
    try:
        adapted: Any = get_peft_model(model, PeftConfig.from_pretrained(str(folder)))
        loaded: Any = adapted.load_adapter(folder, "default")
    except _DOES_NOT_FIT as error:
        raise _does_not_load(folder, str(error).strip().partition("\n")[0]) from error
    # PEFT leaves what is missing as it was initialised, which changes nothing, and drops what is too much.
    if loaded.missing_keys:
        raise _does_not_load(folder, f"it has no {_some(loaded.missing_keys)}.")
    if loaded.unexpected_keys:
        raise _does_not_load(folder, f"the model has no place for {_some(loaded.unexpected_keys)}.")
    return adapted


def _does_not_load(folder: Path, reason: str) -> AdapterError:
    return AdapterError(
        f"{visible(folder)} does not load on this model: {visible(reason)}",
        "The demo model takes only adapters that were trained on it.",
    )


def _some(keys: list[str]) -> str:
    return f"{keys[0]} and {len(keys) - 1} more" if len(keys) > 1 else keys[0]


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
        raise NotFound(f"{visible(file.parent)} holds no {what}.", f"{file.name} should be in it.")
