"""What a forward pass keeps for the backward pass: the terms, and an estimate by formula."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True, slots=True)
class Pass:
    """One micro-batch: its shape in rows and tokens, and the arithmetic.

    `dtype` is that of the weights, `autocast` that of the matrix products (None: the same), both by torch's
    names; `trained` what the trainer casts trained weights to (None: they stay as PEFT made them). `gpu` says
    that dropout keeps masks of a byte, as CUDA does, not of a float; `flash`, that PyTorch's flash attention
    runs on it; `int8`, that the frozen products keep their inputs, as bitsandbytes' MatMul8bitLt does.
    """

    batch: int
    length: int
    dtype: str
    autocast: str | None
    attention: str | None = None
    trained: str | None = None
    gpu: bool = True
    flash: bool = True
    int8: bool = False


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
        "heads": int(getattr(text, "num_attention_heads", 0)),
    }
