"""Measure what a forward pass keeps for the backward pass, on tensors that have a shape but no memory."""

from __future__ import annotations

import copy
import re
import warnings
import weakref
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from lorabench.training.preflight.activations import Activations, Pass, by_formula, dimensions
from lorabench.training.preflight.meta_model import MetaModel, base_model, inject

if TYPE_CHECKING:
    from peft import LoraConfig
    from torch import Tensor, nn
    from transformers import PretrainedConfig


def activations(
    config: PretrainedConfig, lora: LoraConfig | None, model: MetaModel, run: Pass
) -> tuple[Activations, Activations]:
    """Return the least and the most that a pass keeps.

    The most has all scores of the attention where CUDA may keep them: where rows are of one length
    transformers leaves it to PyTorch to share keys among heads, and of its kernels only flash attention does
    that without them: in 16 bits, on compute capability 8.0 or more. Padded rows go another way.
    """
    least, most = traced(config, lora, model, run)
    text = config.get_text_config()
    keys, heads = (getattr(text, name, None) for name in ("num_key_value_heads", "num_attention_heads"))
    shared = keys is not None and keys != heads
    flash = run.flash and (run.autocast or run.dtype) != "float32"
    if run.gpu and shared and run.attention is None and not flash:
        most = traced(config, lora, model, replace(run, attention="eager"))[1]
    return least, most


def traced(
    config: PretrainedConfig, lora: LoraConfig | None, model: MetaModel, run: Pass
) -> tuple[Activations, Activations]:
    """Return what a trace of the pass counts, twice; or the least and the most by formula, where it fails."""
    return _traced(config.to_json_string(use_diff=False), str(lora), run, _Uncounted(config, lora, model))


@dataclass(frozen=True, slots=True)
class _Uncounted:
    """What the cache need not look at, since the texts beside it tell it apart."""

    config: Any
    lora: Any
    model: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Uncounted)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=64)
def _traced(_config: str, _lora: str, run: Pass, held: _Uncounted) -> tuple[Activations, Activations]:
    found = trace(held.config, held.lora, held.model, run)
    return (found, found) if found else by_formula(**dimensions(held.config), run=run)


def trace(
    config: PretrainedConfig, lora: LoraConfig | None, model: MetaModel, run: Pass
) -> Activations | None:
    """Run the decoder's forward pass on fake tensors and add up what autograd keeps; None where that fails.

    Counts each storage once, parameters not at all; all that is exact, whatever the architecture. Of layers
    that are alike, as the kinds of weights and adapters tell, the second is run and stands for all. A
    mixture's routing may depend on values, which fake tensors lack: then it fails.
    """
    kinds = _layer_kinds(config, model)
    shown = _enough(kinds)
    try:
        counter, hidden = _forward(_decoder(_first_layers(config, shown), lora, run), shown, run)
    except (AttributeError, LookupError, RuntimeError, NotImplementedError, TypeError, ValueError):
        return None  # the caller says that it estimates by a formula instead
    return counter.result(kinds, shown, hidden)


def _forward(decoder: nn.Module, shown: int, run: Pass) -> tuple[_Counter, int]:
    """Run the decoder, of so many layers; return what was counted, and the bytes of its hidden states."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.func import functional_call

    counter = _Counter()
    for layer in _layers(decoder, shown):
        layer.register_forward_pre_hook(counter.at_layer)
    inputs: list[Any] = []
    for module in decoder.modules() if run.int8 else ():
        if type(module) is torch.nn.Linear and not module.weight.requires_grad:
            module.register_forward_pre_hook(lambda _, given: inputs.append(counter.save(given[0])))
    autocast = torch.autocast("cpu", getattr(torch, run.autocast)) if run.autocast else nullcontext()
    with FakeTensorMode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = {
            name: torch.empty(p.shape, dtype=p.dtype, device="cpu", requires_grad=p.requires_grad)
            for name, p in decoder.named_parameters()
        }
        buffers = {
            name: torch.empty(b.shape, dtype=b.dtype, device="cpu") for name, b in decoder.named_buffers()
        }
        counter.leave_out(values.values())
        tokens = torch.zeros(run.batch, run.length, dtype=torch.long)
        with autocast, torch.autograd.graph.saved_tensors_hooks(counter.save, lambda kept: kept.tensor):
            hidden = functional_call(decoder, values | buffers, (tokens,), {"use_cache": False})[0]
        counter.finish()  # while there is the graph
        return counter, int(hidden.untyped_storage().nbytes())


def _layers(decoder: nn.Module, count: int) -> Sequence[nn.Module]:
    """Return the decoder's layers, whatever they are called there: `layers`, `h`, …"""
    import torch

    lists = (each for each in decoder.modules() if isinstance(each, torch.nn.ModuleList))
    found = next((each for each in lists if len(each) == count), None)
    if found is None:
        raise LookupError("there is no list of so many layers")
    return list(found)


@dataclass(eq=False, slots=True, weakref_slot=True)
class _Kept:
    """A tensor that autograd holds for as long as the graph that needs it: DoRA's norm drops its own."""

    tensor: Tensor


class _Counter:
    """Adds up the storages that autograd holds, and notes how many bytes there were before each layer."""

    def __init__(self) -> None:
        self._kept: weakref.WeakSet[_Kept] = weakref.WeakSet()
        self._parameters: set[int] = set()
        self._at: list[int] = []

    def leave_out(self, tensors: Iterable[Tensor]) -> None:
        self._parameters = {tensor.untyped_storage()._cdata for tensor in tensors}

    def save(self, tensor: Tensor) -> _Kept:
        kept = _Kept(tensor.detach())  # or an output would hold the graph, which holds it
        self._kept.add(kept)
        return kept

    def bytes(self) -> int:
        storages = [kept.tensor.untyped_storage() for kept in self._kept]
        sizes = {storage._cdata: storage.nbytes() for storage in storages}
        return sum(size for address, size in sizes.items() if address not in self._parameters)

    def at_layer(self, _module: nn.Module, _inputs: Any) -> None:
        self._at.append(self.bytes())

    def finish(self) -> None:
        self._at.append(self.bytes())

    def result(self, kinds: Sequence[object], shown: int, hidden: int) -> Activations:
        of_layer = [end - begin for begin, end in pairwise(self._at)]
        each: dict[object, int] = {}
        met: dict[object, int] = {}
        for kind, size in zip(kinds[:shown], of_layer, strict=True):
            met[kind] = met.get(kind, 0) + 1
            if met[kind] <= 2:  # the last one shown also counts the final norm
                each[kind] = size
        # The first layer counts what all share, and less of its own: no gradient goes below it.
        layers = of_layer[0] + sum(each[kind] for kind in kinds[1:])
        return Activations(
            layers=layers,
            largest_layer=max(each.values()),
            borders=hidden * len(kinds),
            around=max(0, self._at[0] + of_layer[-1] - each[kinds[shown - 1]]),
            hidden=hidden,
        )


def _layer_kinds(config: PretrainedConfig, model: MetaModel) -> list[object]:
    """Tell for each decoder layer what it is made of: type, weights' shapes, adapters' ranks."""
    text = config.get_text_config()
    count = int(text.num_hidden_layers)
    types: Sequence[str] = getattr(text, "layer_types", None) or [""] * count
    parts: list[list[object]] = [[layer_type] for layer_type in types]
    for name, facts in [*_shapes(model), *model.adapted.items(), *((name, 0) for name in model.experts)]:
        before, number, inner = [*re.split(r"\.(\d+)\.", name, maxsplit=1), "", ""][:3]
        if number and "vision" not in before and int(number) < count:
            parts[int(number)].append((inner, facts))
    return [tuple(part) for part in parts]


def _shapes(model: MetaModel) -> list[tuple[str, object]]:
    return [(name, weight.shape) for name, weight in model.weights.items()]


def _enough(kinds: Sequence[object]) -> int:
    """How many first layers hold each kind twice (once, where it is there but once), and one to spare."""
    seen: dict[object, int] = {}
    last = 0
    for at, kind in enumerate(kinds):
        seen[kind] = seen.get(kind, 0) + 1
        if seen[kind] <= 2:
            last = at
    return min(last + 2, len(kinds))


def _first_layers(config: PretrainedConfig, count: int) -> PretrainedConfig:
    short = copy.deepcopy(config)
    text = short.get_text_config()
    text.num_hidden_layers = count
    if getattr(text, "layer_types", None):
        text.layer_types = list(text.layer_types)[:count]
    return short


def _decoder(config: PretrainedConfig, lora: LoraConfig | None, run: Pass) -> nn.Module:
    import torch

    if run.attention:
        config._attn_implementation = run.attention
    model = base_model(config, getattr(torch, run.dtype))
    if lora is not None:
        inject(model, lora)
    if run.trained is not None:
        for parameter in filter(lambda each: each.requires_grad, model.parameters()):
            parameter.data = parameter.data.to(getattr(torch, run.trained))
    decoder: nn.Module = model.get_decoder()  # type: ignore[no-untyped-call]
    if run.gpu:
        _drop_as_cuda_does(decoder)
    return decoder.train()


def _drop_as_cuda_does(decoder: nn.Module) -> None:
    import torch

    class CudaDropout(torch.nn.Dropout):
        def forward(self, values: Tensor) -> Tensor:
            return torch.native_dropout(values, self.p, self.training)[0]

    for module in decoder.modules():
        if type(module) is torch.nn.Dropout:
            module.__class__ = CudaDropout
