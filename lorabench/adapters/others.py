"""What else an adapter holds: tensors outside the pairs, and what a user should know of the whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lorabench.adapters.model import Finding, LoraLayer, OtherTensor, Role
from lorabench.text import shorten, visible

_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|lm_head|word_embeddings|shared|token_adapter)\.|^<.*>$")
# Initialisations that take a part of the base weight into A and B, and it out of the base model.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
_LISTED = 3


def classify(others: Iterable[OtherTensor], config: Mapping[str, Any]) -> tuple[OtherTensor, ...]:
    """Give each tensor of unknown role its own, as far as its name and the configuration tell."""
    saved = config.get("modules_to_save")
    modules = {str(module) for module in saved} if isinstance(saved, list | tuple | set) else set()
    return tuple(
        OtherTensor(_role(other.tensor.name, modules), other.tensor) if other.role == "unknown" else other
        for other in others
    )


def _role(name: str, modules_to_save: set[str]) -> Role:
    if ".modules_to_save." in name or not modules_to_save.isdisjoint(name.split(".")):
        return "modules_to_save"
    if name.endswith(".bias"):
        return "bias"
    return "embedding" if _EMBEDDING.search(name) else "unknown"


def notice(
    layers: Sequence[LoraLayer], others: Sequence[OtherTensor], config: Mapping[str, Any]
) -> Iterable[Finding]:
    """Say what concerns the adapter as a whole."""
    adapters = dict.fromkeys(layer.adapter for layer in layers)
    if len(adapters) > 1:
        names = ", ".join(visible(name) for name in adapters)
        yield Finding("info", f"{len(adapters)} adapters in one: {names}.")
    start = str(config.get("init_lora_weights")).lower()
    if start.startswith(_CHANGES_BASE):
        message = (
            f"Initialised by {visible(start)}: ΔW is relative to the base weight without what A and B took."
        )
        yield Finding(
            "warning", message, "PEFT can save it as plain LoRA: path_initial_model_for_weight_conversion."
        )
    if config.get("use_dora") and layers and not any(layer.dora for layer in layers):
        yield Finding("warning", "use_dora is set, but there is no magnitude vector.")
    halves = sum(not layer.whole for layer in layers)
    if halves:
        yield Finding(
            "warning", f"{'1 layer has' if halves == 1 else f'{halves} layers have'} only A or only B."
        )
    unpaired = [other.tensor.name for other in others if other.role == "unpaired"]
    if unpaired:
        message = f"{_count(unpaired, 'tensor has', 'tensors have')} no partner: {_some(unpaired)}."
        yield Finding("warning", message, "Nothing of theirs is shown.")
    unknown = [other.tensor.name for other in others if other.role == "unknown"]
    if unknown:
        yield Finding("info", f"{_count(unknown, 'tensor is', 'tensors are')} no LoRA: {_some(unknown)}.")
    saved = [other.tensor.name for other in others if other.role in ("modules_to_save", "bias", "embedding")]
    if saved:
        message = (
            f"{_count(saved, 'tensor was', 'tensors were')} saved whole beside the LoRA: {_some(saved)}."
        )
        belong = "It belongs" if len(saved) == 1 else "They belong"
        yield Finding("info", message, f"{belong} to the update, but not to any ΔW shown here.")


def _count(names: Sequence[str], one: str, many: str) -> str:
    return f"{len(names)} {one if len(names) == 1 else many}"


def _some(names: Sequence[str]) -> str:
    rest = len(names) - _LISTED
    return ", ".join(shorten(visible(name), 100) for name in names[:_LISTED]) + (
        f" and {rest} more" if rest > 0 else ""
    )
