"""Measure what a forward pass keeps for the backward pass, on tensors that have a shape but no memory."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorabench.training.preflight.meta_model import MetaModel, base_model, inject

if TYPE_CHECKING:
    from peft import LoraConfig
    from torch import Tensor, nn
    from transformers import PretrainedConfig


@dataclass(frozen=True, slots=True)
class Pass:
    """One micro-batch: its shape in rows and tokens, and the arithmetic.

    `dtype` is that of the weights, `autocast` that of the matrix products (None: the same), both by torch's
    names. `gpu` says that dropout keeps masks of a byte, as CUDA does, not of a float.
    """

    batch: int
    length: int
    dtype: str
    autocast: str | None
    attention: str | None = None
    gpu: bool = True


@dataclass(frozen=True, slots=True)
class Activations:
    """Bytes kept for the backward pass: by all layers, the largest one, at their borders, around them."""

    layers: int
    largest_layer: int
    borders: int
    around: int
    hidden: int

    def kept(self, checkpointing: bool) -> int:
        """Bytes at the peak. With checkpointing each layer keeps its input, and one at a time the rest.

        Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", https://arxiv.org/abs/1604.06174
        """
        return self.around + (self.borders + self.largest_layer if checkpointing else self.layers)


def trace(
    config: PretrainedConfig, lora: LoraConfig | None, model: MetaModel, run: Pass
) -> Activations | None:
    """Run the decoder's forward pass on fake tensors and add up what autograd saves; None where that fails.

    Counts each storage once, parameters not at all; all that is exact, whatever the architecture. Of layers
    that are alike, as the kinds of weights and adapters tell, the second is run and stands for all. A
    mixture's routing may depend on values, which fake tensors lack: then it fails.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.func import functional_call

    kinds = _layer_kinds(config, model)
    shown = _enough(kinds)
    decoder = _decoder(_first_layers(config, shown), lora, run)
    layers = decoder.get_submodule("layers")
    counter = _Counter()
    for layer in layers.children():
        layer.register_forward_pre_hook(counter.at_layer)
    autocast = torch.autocast("cpu", getattr(torch, run.autocast)) if run.autocast else nullcontext()
    try:
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
            with autocast, torch.autograd.graph.saved_tensors_hooks(counter.save, lambda tensor: tensor):
                hidden = functional_call(decoder, values | buffers, (tokens,), {"use_cache": False})[0]
            return counter.result(kinds, shown, hidden.untyped_storage().nbytes())
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return None  # the caller says that it estimates by a formula instead


class _Counter:
    """Adds up the storages that autograd saves, and notes how many bytes there were before each layer."""

    def __init__(self) -> None:
        self._seen: dict[int, Any] = {}
        self._before: list[int] = []
        self.bytes = 0

    def leave_out(self, tensors: Any) -> None:
        for tensor in tensors:
            self._seen[tensor.untyped_storage()._cdata] = tensor

    def save(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:
            self._seen[storage._cdata] = storage  # held, so that its address is not used again
            self.bytes += storage.nbytes()
        return tensor

    def at_layer(self, _module: nn.Module, _inputs: Any) -> None:
        self._before.append(self.bytes)

    def result(self, kinds: Sequence[object], shown: int, hidden: int) -> Activations:
        ends = [*self._before[1:], self.bytes]
        of_layer = [end - begin for begin, end in zip(self._before, ends, strict=True)]
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
            around=max(0, self._before[0] + of_layer[-1] - each[kinds[shown - 1]]),
            hidden=hidden,
        )


def _layer_kinds(config: PretrainedConfig, model: MetaModel) -> list[object]:
    """Tell for each decoder layer what it is made of: type, weights' shapes, adapters' ranks."""
    text = config.get_text_config()
    count = int(text.num_hidden_layers)
    types: Sequence[str] = getattr(text, "layer_types", None) or [""] * count
    parts: list[list[object]] = [[layer_type] for layer_type in types]
    for name, facts in [*_shapes(model), *model.adapted.items(), *((name, 0) for name in model.experts)]:
        before, _, rest = name.partition(".layers.")
        number, _, inner = rest.partition(".")
        if "vision" not in before and number.isdecimal() and int(number) < count:
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


def by_formula(
    layers: int, hidden: int, feed_forward: int, heads: int, run: Pass
) -> tuple[Activations, Activations]:
    """Estimate by formula, the least and the most, for a model that cannot be traced.

    Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer Models",
    https://arxiv.org/abs/2205.05198, equation 1: a layer keeps s·b·h·(34 + 5·a·s/h) bytes in 16 bits, the
    second term being the attention scores, which flash attention does not keep. The feed-forward part,
    19·s·b·h for a width of 4h, is scaled to the width at hand; a gated one keeps half as much again.
    """
    width = 2.0 if (run.autocast or run.dtype) == "float32" else 1.0
    tokens = run.batch * run.length
    least = width * tokens * (15 * hidden + 19 * feed_forward / 4)
    most = width * tokens * (15 * hidden + 1.5 * 19 * feed_forward / 4) * 1.5
    if run.attention == "eager":
        most += width * 5 * heads * run.batch * run.length**2
    border = int(2 * width * tokens * hidden)

    def of(layer: float) -> Activations:
        return Activations(int(layer * layers), int(layer), border * layers, border, border)

    return of(least), of(most)


def dimensions(config: PretrainedConfig) -> Mapping[str, int]:
    """The numbers that the formula needs: layers, hidden and feed-forward width, attention heads."""
    text = config.get_text_config()
    hidden = int(text.hidden_size)
    feed_forward = int(getattr(text, "intermediate_size", None) or 4 * hidden)
    chosen = getattr(text, "num_experts_per_tok", None) or 1
    return {
        "layers": int(text.num_hidden_layers),
        "hidden": hidden,
        "feed_forward": feed_forward * int(chosen),
        "heads": int(text.num_attention_heads),
    }
