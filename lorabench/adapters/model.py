"""What an adapter file holds: plain data, read lazily."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]

Level = Literal["info", "warning", "error"]
Kind = Literal["linear", "conv", "embedding", "expert"]
Format = Literal["PEFT", "kohya", "diffusers", "MLX"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a layer or an adapter that a user should know."""

    level: Level
    message: str
    hint: str = ""


class Tensor(Protocol):
    """A tensor in a file or in memory, known by its header until it is read.

    `read()` maps or converts the values each time it is called and keeps nothing: drop the array and
    its memory is gone.
    """

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> str:
        """The stored type as safetensors writes it: F64, F32, F16, BF16, F8_E4M3, I8, …"""
        ...

    @property
    def nbytes(self) -> int: ...

    def read(self) -> FloatArray:
        """Return the values in the stored shape, float32 (float64 where stored so)."""
        ...


@dataclass(frozen=True, slots=True)
class LoraLayer:
    """One module's update ΔW = s·B·A, whatever format it was stored in.

    `shape` is (out_features, in_features) of ΔW as the matrix product B·A gives it: a convolution is
    flattened to (out, in·kh·kw). `transposed` says that the base model stores this weight as (in, out):
    GPT-2's Conv1D (fan_in_fan_out) and embeddings. `scaling` is None where the file does not tell it.
    """

    module: str
    adapter: str
    kind: Kind
    rank: int
    scaling: float | None
    lora_alpha: float | None
    shape: tuple[int, int]
    source_a: Tensor
    source_b: Tensor
    expert: int | None = None
    transposed: bool = False
    dora: bool = False
    rslora: bool = False
    weight_shape: tuple[int, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def name(self) -> str:
        """The module's path, with the expert's number where there is one: unique within one adapter."""
        return self.module if self.expert is None else f"{self.module}[{self.expert}]"

    @property
    def layer_index(self) -> int | None:
        """The depth: the first number in the module's path, or None (`lm_head`, `embed_tokens`)."""
        return next((int(part) for part in self.module.split(".") if part.isdecimal()), None)

    @property
    def module_type(self) -> str:
        """The last part of the module's path that is not a number: `q_proj`, `to_out`."""
        named = [part for part in self.module.split(".") if not part.isdecimal()]
        return named[-1] if named else self.module

    @property
    def parameters(self) -> int:
        """How many numbers A and B hold."""
        return self.rank * (self.shape[0] + self.shape[1])

    def factors(self) -> tuple[FloatArray, FloatArray]:
        """Read (A, B): A is (r, in_features), B is (out_features, r); float32, or float64 if stored so."""
        raise NotImplementedError

    def delta_weight(self) -> FloatArray:
        """Form ΔW densely, in the base weight's own shape and orientation, float64; scaling None counts as 1.

        For tests and small layers: everything else in lorabench works on the factors.
        """
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class OtherTensor:
    """A tensor in the file that is not part of a LoRA pair: a saved module, a bias, a stray."""

    role: Literal["modules_to_save", "bias", "embedding", "unpaired", "unknown"]
    tensor: Tensor


@dataclass(frozen=True, slots=True)
class Adapter:
    """All that one adapter folder, file, state dict or model holds; opening it read headers only."""

    name: str
    path: Path | None
    format: Format
    config: Mapping[str, Any]
    layers: tuple[LoraLayer, ...]
    others: tuple[OtherTensor, ...] = ()
    findings: tuple[Finding, ...] = ()
    files: tuple[Path, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def base_model(self) -> str | None:
        """What the configuration calls the base model, or None."""
        value = self.config.get("base_model_name_or_path")
        return str(value) if value else None

    @property
    def ranks(self) -> tuple[int, ...]:
        """The different ranks in use, ascending."""
        return tuple(sorted({layer.rank for layer in self.layers}))

    @property
    def target_modules(self) -> tuple[str, ...]:
        """The different module types that carry an update, in the order of the layers."""
        return tuple(dict.fromkeys(layer.module_type for layer in self.layers))

    @property
    def parameters(self) -> int:
        """How many numbers all A and B hold together."""
        return sum(layer.parameters for layer in self.layers)
