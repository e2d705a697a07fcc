"""From pairs of tensors to layers: shapes, kinds, and what is wrong with a pair."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from lorabench.adapters.config import ModuleSettings
from lorabench.adapters.model import Finding, Kind, LoraLayer, MissingTensor, Tensor
from lorabench.adapters.pairs import Pair
from lorabench.adapters.scaling import Settings
from lorabench.adapters.tensors import FLOAT_DTYPES
from lorabench.text import shorten, visible

_EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embedding", "tok_embeddings")
_DORA = "DoRA: ΔW here is the direction part s·B·A, before the magnitude vector rescales W + ΔW."
# Options of LoraConfig that make the update something else than s·B·A of the stored tensors.
_OTHER_UPDATES = {
    "kasa_config": "KaSA puts a learned diagonal between B and A, so ΔW is not B·A.",
    "use_qalora": "QALoRA's A works on the means of groups of inputs, so ΔW is not B·A.",
    "use_bdlora": "BD-LoRA stores only the blocks of a block-diagonal factor, so ΔW is not B·A.",
}


OTHER_RANK = "The scaling is by the configuration's r, as PEFT computes it."
"""The hint of layers whose tensors have another rank than the configuration says."""
_MOST_EXPERTS = 4096
_MOST_SPREAD = 1 << 24
"""Entries of a block-diagonal B written out: a file of some kilobytes could ask for any number."""


@dataclass(frozen=True, slots=True)
class _Measures:
    """What the two shapes say: ranks by A and by B, ΔW's (out, in), and how many experts share them."""

    rank: int
    rank_b: int
    shape: tuple[int, int]
    experts: int = 1
    groups: int = 1


def build_layers(pairs: Iterable[Pair], settings: Settings, config: Mapping[str, Any]) -> list[LoraLayer]:
    """Turn pairs into layers; one that does not fit has an "error" finding."""
    layers: list[LoraLayer] = []
    for pair in pairs:
        layers.extend(_layers_of(pair, settings[pair.target], config))
    return layers


def _layers_of(pair: Pair, settings: ModuleSettings, config: Mapping[str, Any]) -> Iterable[LoraLayer]:
    measures = _measure(pair, settings)
    kind = _kind(pair, measures)
    out_features, in_features = measures.shape
    transposed = kind == "embedding" or (kind == "linear" and config.get("fan_in_fan_out") is True)
    weight_shape: tuple[int, ...] = (in_features, out_features) if transposed else measures.shape
    if kind == "conv":
        weight_shape = (out_features, *pair.a.shape[1:])
    layer = LoraLayer(
        module=pair.module,
        adapter=pair.adapter,
        kind=kind,
        rank=measures.rank,
        scaling=settings.scaling,
        lora_alpha=settings.lora_alpha,
        shape=measures.shape,
        source_a=pair.a,
        source_b=pair.b,
        experts=measures.experts,
        transposed=transposed,
        transposed_factors=pair.format == "MLX" and measures.experts == 1,
        dora="magnitude" in pair.parts,
        rslora=config.get("use_rslora") is True,
        weight_shape=weight_shape,
        findings=tuple(_findings(pair, measures, settings, config)),
    )
    if not 1 < measures.experts <= _MOST_EXPERTS:
        return [layer]
    return [replace(layer, expert=expert) for expert in range(measures.experts)]


def _measure(pair: Pair, settings: ModuleSettings) -> _Measures:
    a, b = pair.a.shape, pair.b.shape
    if not pair.whole:
        return _measure_alone(pair, settings)
    if len(a) < 2 or len(b) < 2 or 0 in a or 0 in b:
        return _Measures(0, 0, (b[0] if b else 0, a[-1] if a else 0))
    if pair.format == "MLX" and len(b) == 3:
        return _Measures(prod(a[:-1]) // b[0], b[2], (b[1], a[-1]), experts=b[0])
    if pair.format == "MLX":
        a, b = a[::-1], b[::-1]
    rank, rank_b, shape = a[0], prod(b[1:]), (b[0], prod(a[1:]))
    if pair.stacked and settings.rank and rank % settings.rank == 0:
        experts = rank // settings.rank
        return _Measures(settings.rank, rank_b // experts, shape, experts)
    groups = rank // rank_b if len(b) > 2 and rank % rank_b == 0 else 1
    return _Measures(rank, rank_b * groups, shape, groups=groups if b[0] % groups == 0 else 1)


def _measure_alone(pair: Pair, settings: ModuleSettings) -> _Measures:
    """Take the rank and one side of ΔW from the factor that is there; the other side is 0."""
    a_is_there = isinstance(pair.b, MissingTensor)
    there = (pair.a if a_is_there else pair.b).shape
    if len(there) < 2 or 0 in there:
        return _Measures(0, 0, (0, 0))
    experts = 1
    if pair.format == "MLX":
        experts, there = (there[0], there[1:]) if len(there) == 3 else (1, there[::-1])
    rank, side = (there[0], prod(there[1:])) if a_is_there else (prod(there[1:]), there[0])
    if pair.stacked and settings.rank and rank % settings.rank == 0:
        rank, experts = settings.rank, rank // settings.rank
    return _Measures(rank, rank, (0, side) if a_is_there else (side, 0), experts)


def _kind(pair: Pair, measures: _Measures) -> Kind:
    if measures.experts > 1:
        return "expert"
    if pair.embedding or (pair.format == "MLX" and pair.module.rpartition(".")[2] in _EMBEDDINGS):
        return "embedding"
    factor = pair.b if isinstance(pair.a, MissingTensor) else pair.a
    return "conv" if len(factor.shape) > 2 else "linear"


def _findings(
    pair: Pair, measures: _Measures, settings: ModuleSettings, config: Mapping[str, Any]
) -> Iterable[Finding]:
    problem = _misfit(pair, measures, settings, config)
    if problem:
        yield problem
        return
    if settings.finding:
        yield settings.finding
    if "magnitude" in pair.parts:
        yield Finding("info", _DORA)
    if measures.groups > 1:
        message = f"B is stored as the {measures.groups} blocks of a block-diagonal matrix, and read whole."
        yield Finding("info", message)
    expected = settings.rank or measures.rank
    if len(pair.a.shape) == 2:  # PEFT's early MergedLinear: a linear A with r rows for each block of B
        expected *= measures.groups
    if measures.rank != expected:
        message = f"The configuration says r = {expected}, the tensors have r = {measures.rank}."
        yield Finding("warning", message, OTHER_RANK)
    if measures.rank > min(measures.shape):
        message = f"r = {measures.rank} is larger than the smaller side of ΔW, {min(measures.shape)}."
        yield Finding("warning", message, "The surplus costs memory and adds no direction.")


def _misfit(
    pair: Pair, measures: _Measures, settings: ModuleSettings, config: Mapping[str, Any]
) -> Finding | None:
    """Say why ΔW cannot be formed, if so."""
    for tensor, there in ((pair.a, "B"), (pair.b, "A")):
        if isinstance(tensor, MissingTensor):
            return Finding("error", f"{tensor.name}: the layer has only its {there}.", "ΔW needs both.")
    for tensor in (pair.a, pair.b):
        if tensor.dtype not in FLOAT_DTYPES:
            message = f"{_label(tensor)} is stored as {visible(tensor.dtype)}, no float that lorabench reads."
            return Finding(
                "error", message, "Integers are no weights without the scale that they were divided by."
            )
    if measures.rank == 0:
        hint = "A model sharded by ZeRO-3 or FSDP must be gathered before it is saved."
        return Finding("error", f"{_both(pair)} are not two matrices with numbers in them.", hint)
    if "mid" in pair.parts:
        message = f"{_label(pair.parts['mid'])} stands between B and A (LoCon's Tucker form): ΔW is not B·A."
        return Finding("error", message)
    if pair.stacked and (settings.rank is None or pair.a.shape[0] % settings.rank):
        message = f"{_both(pair)} cannot be shared out to experts of rank r = {settings.rank}."
        return Finding("error", message, "adapter_config.json must say the r that was trained.")
    if measures.experts > _MOST_EXPERTS:
        return Finding("error", f"{_both(pair)} would be {measures.experts} experts: no model has so many.")
    if measures.groups > 1 and measures.rank * measures.shape[0] > _MOST_SPREAD:
        return Finding("error", f"{_both(pair)}: B has {measures.groups} blocks, too many to be read whole.")
    if measures.rank != measures.rank_b:
        return Finding(
            "error", f"{_both(pair)} do not fit: rank {measures.rank} by A, {measures.rank_b} by B."
        )
    for option, message in _OTHER_UPDATES.items():
        if config.get(option):
            return Finding("error", message)
    return None


def _label(tensor: Tensor) -> str:
    return shorten(visible(tensor.name), 100)


def _both(pair: Pair) -> str:
    return f"{_label(pair.a)} {pair.a.shape} and {_label(pair.b)} {pair.b.shape}"


def depth(layer: LoraLayer) -> tuple[Any, ...]:
    """Sort embeddings first, then by numbers as numbers, and heads, which have no depth, last."""
    words = re.split(r"(\d{1,9})", layer.module)
    natural = [(int(word), "") if position % 2 else (-1, word) for position, word in enumerate(words)]
    place = 0 if layer.kind == "embedding" else 1 if layer.layer_index is not None else 2
    return place, natural, layer.adapter, layer.expert or 0
