"""What an adapter file holds: plain data, read lazily."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from lorabench.errors import Malformed

_ALL = slice(None)
FloatArray = npt.NDArray[np.floating[Any]]

Level = Literal["info", "warning", "error"]
Kind = Literal["linear", "conv", "embedding", "expert"]
Format = Literal["PEFT", "kohya", "diffusers", "MLX", "torchtune", "cloneofsimo", "unnamed pairs"]
Role = Literal["modules_to_save", "bias", "embedding", "magnitude", "unpaired", "unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a layer or an adapter that a user should know."""

    level: Level
    message: str
    hint: str = ""


class Tensor(Protocol):
    """A tensor in a file or in memory, known by its header until it is read.

    `read()` reads and converts the values each time it is called and keeps nothing: drop the array and
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

    def read(self, rows: slice = ..., columns: slice = ...) -> FloatArray:
        """Return the values in the stored shape, float32 (float64 where stored so).

        With `rows` (step 1) or `columns`, only that part of the first or second axis.
        """
        ...


@dataclass(frozen=True, slots=True)
class MissingTensor:
    """A factor that the file does not hold, though it holds the other one: it has no numbers to read."""

    name: str
    shape: tuple[int, ...] = (0,)
    dtype: str = "none"
    nbytes: int = 0

    def read(self, rows: slice = _ALL, columns: slice = _ALL) -> FloatArray:
        raise Malformed(f"{self.name}.")


@dataclass(frozen=True, slots=True)
class LoraLayer:
    """One module's update ΔW = s·B·A, whatever format it was stored in.

    `shape` is (out_features, in_features) of ΔW as the matrix product B·A gives it: a convolution is
    flattened to (out, in·kh·kw). `transposed` says that the base model stores this weight as (in, out):
    GPT-2's Conv1D (fan_in_fan_out) and embeddings. `scaling` is None where the file does not tell it.
    `weight_shape` is ΔW's as the base model stores it: (in, out) if transposed, (out, in, kh, kw) of a
    convolution.
    `transposed_factors` says that A is stored as (in, r) and B as (r, out), as MLX does. An expert's A and
    B are its share of tensors that hold those of all `experts`. A layer with an "error" finding has no
    factors that could be read; where one of them is not there at all it is a `MissingTensor`, and the side
    of `shape` that it would tell is 0.
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
    experts: int = 1
    transposed: bool = False
    transposed_factors: bool = False
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
        return next((int(part) for part in path_parts(self.module) if _is_number(part)), None)

    @property
    def module_type(self) -> str:
        """The last part of the module's path that is not a number: `q_proj`, `to_out`.

        A UNet's two attentions stay apart: `attn1.to_q`, `attn2.to_q`.
        """
        named = [part for part in path_parts(self.module) if not _is_number(part)]
        if len(named) > 1 and named[-2] in ("attn1", "attn2"):
            return ".".join(named[-2:])
        return named[-1] if named else self.module

    @property
    def whole(self) -> bool:
        """Whether both factors are there."""
        return MissingTensor not in map(type, (self.source_a, self.source_b))

    @property
    def parameters(self) -> int:
        """How many numbers A and B hold."""
        return (prod(self.source_a.shape) + prod(self.source_b.shape)) // self.experts

    def factors(self) -> tuple[FloatArray, FloatArray]:
        """Read (A, B): A is (r, in_features), B is (out_features, r); float32, or float64 if stored so.

        Raises:
            Malformed: the layer carries an "error" finding, which is the message; or its file changed.
        """
        for finding in self.findings:
            if finding.level == "error":
                raise Malformed(finding.message, finding.hint)
        a, b = self._stored_factors()
        if self.transposed_factors:
            a, b = a.T, b.T
        a, b = a.reshape(self.rank, -1), b.reshape(self.shape[0], -1)
        return a, b if b.shape[1] == self.rank else _block_diagonal(b, self.rank)

    def _stored_factors(self) -> tuple[FloatArray, FloatArray]:
        if self.expert is None:
            return self.source_a.read(), self.source_b.read()
        each = self.source_a.shape[0] // self.experts
        a = self.source_a.read(slice(self.expert * each, (self.expert + 1) * each))
        if len(self.source_b.shape) == 3:
            return a, self.source_b.read(slice(self.expert, self.expert + 1))
        # PEFT's ParamWrapper: A is (experts·r, in), expert by expert; B is (out, r·experts), interleaved.
        return a, self.source_b.read(columns=slice(self.expert, None, self.experts))

    def delta_weight(self) -> FloatArray:
        """Form ΔW densely, in the base weight's own shape and orientation, float64; scaling None counts as 1.

        For tests and small layers: everything else in lorabench works on the factors. An expert's is
        (out, in): whether the base model stores its experts transposed is not in the file.
        """
        a, b = self.factors()
        delta = b.astype(np.float64) @ a.astype(np.float64)
        delta *= 1.0 if self.scaling is None else self.scaling
        return delta.T if self.transposed else delta.reshape(self.weight_shape)


def path_parts(module: str) -> list[str]:
    """Split a module's path at its dots, or a kohya name, which has none, before and after its numbers."""
    if "." in module or not module.startswith("lora_"):
        return module.split(".")
    return [part.strip("_") for part in re.split(r"_(\d+)(?=_|$)", module) if part.strip("_")]


def _is_number(part: str) -> bool:
    return len(part) < 10 and part.isdecimal()


def _block_diagonal(b: FloatArray, rank: int) -> FloatArray:
    """Spread a grouped convolution's B, (out, r/groups), to (out, r): a group sees only its own r/groups."""
    out, width = b.shape
    groups = rank // width
    spread = np.zeros((groups, out // groups, groups, width), b.dtype)
    spread[np.arange(groups), :, np.arange(groups)] = b.reshape(groups, -1, width)
    return spread.reshape(out, rank)


@dataclass(frozen=True, slots=True)
class OtherTensor:
    """A tensor that is not A or B of a layer: a saved module, a bias, DoRA's magnitude, a stray."""

    role: Role
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
        value = self.config.get("base_model_name_or_path") or self.config.get("model")  # PEFT's, or MLX's
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
    def is_several(self) -> bool:
        """Whether there are layers of more than one adapter by name."""
        return len({layer.adapter for layer in self.layers}) > 1

    @property
    def parameters(self) -> int:
        """How many numbers all A and B hold together."""
        return sum(layer.parameters for layer in self.layers)
