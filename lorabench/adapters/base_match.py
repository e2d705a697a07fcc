"""Which tensors of a base model a LoRA layer updates: by the module's path, whatever stands before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from lorabench.adapters.base_model import UNQUANTISED_HINT, BaseModel
from lorabench.adapters.model import FloatArray, LoraLayer, path_parts
from lorabench.errors import Malformed, NonFiniteWeights, NotFound
from lorabench.text import visible

# What a fused weight stacks, from its first row on; Mixtral calls its experts' halves w1, w3 and w2.
_FUSED: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "qkv_proj": (("q_proj", "k_proj", "v_proj"),),
    "gate_up_proj": (("gate_proj", "up_proj"), ("w1", "w3")),
    "down_proj": (("down_proj",), ("w2",)),
}
_MIXTRAL = "block_sparse_moe"
"""What Mixtral's files call the module that transformers 5 calls mlp."""
_INTERLEAVED = ("query_key_value", "c_attn", "Wqkv")
_WRAPPERS = ("base_model", "model")
_EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings", "shared")
_QUANTISED = {
    ".qweight": "in four or fewer bits (GPTQ or AWQ)",
    ".weight.absmax": "in four bits (bitsandbytes)",
    ".weight_packed": "packed (compressed-tensors)",
}


@dataclass(frozen=True, slots=True)
class BaseWeight:
    """The base weight of a LoRA layer, found by name and not yet read.

    Several `tensors` are stacked by rows. A part of one tensor's rows is as many as ΔW has: the first, or
    those `from_end` such blocks before the last. An `expert` is one matrix of a tensor of three axes.
    """

    layer: LoraLayer
    base: BaseModel
    tensors: tuple[str, ...]
    expert: int | None = None
    part: bool = False
    from_end: int = 0
    note: str = ""

    @property
    def key(self) -> str:
        """What tells this weight from others of the same files."""
        place = f"[{self.expert}]" if self.expert is not None else ""
        rows = f"[{self.from_end}/{self.layer.shape}]" if self.part else ""
        return "+".join(self.tensors) + place + rows

    @property
    def identity(self) -> str:
        """What tells the files that hold it from all others.

        Raises:
            NotFound: a file is not there.
        """
        return " ".join(dict.fromkeys(self.base.identity(name) for name in self.tensors))

    def read(self) -> FloatArray:
        """Read W as ΔW is oriented, shape `layer.shape`, float32 (float64 where stored so).

        Raises:
            Malformed: the weight has another shape, or is quantised, or its file is damaged.
            NotFound: its shard is missing.
            NonFiniteWeights: it holds a NaN or an infinity.
        """
        pieces = [self._piece(name) for name in self.tensors]
        weight = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        name = visible(" + ".join(self.tensors))
        if weight.shape != self.layer.shape:
            raise Malformed(f"{name} is {_sides(weight.shape)} where ΔW is {_sides(self.layer.shape)}.")
        if not np.isfinite(weight.sum(dtype=np.float64)):
            raise NonFiniteWeights(f"{name} holds a NaN or an infinity.")
        return weight

    def _piece(self, name: str) -> FloatArray:
        out_features, in_features = self.layer.shape
        shape = self.base.tensor(name).shape
        if self.expert is not None and len(shape) == 3:
            if self.expert >= shape[0]:
                raise Malformed(f"{visible(name)} has {shape[0]} experts, none of number {self.expert}.")
            matrix = self.base.values(name, slice(self.expert, self.expert + 1))[0]
        elif self.part:
            start = shape[0] - self.from_end * out_features if self.from_end else 0
            return self.base.values(name, slice(max(start, 0), start + out_features))
        else:
            matrix = self.base.values(name)
        if len(shape) > 2 and self.expert is None:
            matrix = matrix.reshape(shape[0], -1)
        # The shape tells which way it is stored; of a square one the adapter's configuration does.
        fits = matrix.shape == self.layer.shape and (not self.layer.transposed or out_features != in_features)
        is_turned = matrix.shape == (in_features, out_features) and not fits
        return np.asarray(matrix.T if is_turned else matrix)


def find_weight(layer: LoraLayer, base: BaseModel) -> BaseWeight:
    """Return the base weight that a layer updates.

    PEFT names modules from the model that was trained; files are often saved from within it, or around it.
    So what stands before may differ, up to the number of the layer; the weight's note says so.

    Raises:
        NotFound: no tensor, or several, of that name; says which.
        Malformed: it is quantised in a way that is not read here, or its rows lie mixed in a fused weight.
    """
    module = layer.module.replace(".base_layer", "")
    for name in (module, module.replace(".mlp.", f".{_MIXTRAL}.")):
        parts = path_parts(name)
        for tail in _tails(parts):
            found = _ending_in(tail, layer, base)
            if len(found) == 1:
                return _noted(found[0], parts, tail)
            if found:
                places = ", ".join(visible(weight.key) for weight in found[:3])
                raise NotFound(f"The base model has {visible('.'.join(tail))} in several places: {places}.")
    tied = _tied(layer, base)
    if tied is None:
        raise NotFound(f"The base model has no {visible(module)}.")
    return tied


def _noted(weight: BaseWeight, parts: list[str], tail: list[str]) -> BaseWeight:
    """Say in the note where another module stands before than in the adapter: it may be another tower's."""
    owner = ".".join(tail[:-1])
    name = weight.tensors[0].removesuffix(".weight")
    theirs = name.rpartition(f"{owner}.")[0] if owner else name.rpartition(".")[0]
    prefixes = [_beyond_wrappers(each) for each in (theirs.split("."), parts[: len(parts) - len(tail)])]
    if prefixes[0] == prefixes[1]:
        return weight
    said = "prefix {}, the adapter's {}".format(*(visible(each or "none") for each in prefixes))
    return replace(weight, note=f"{weight.note}; {said}" if weight.note else said)


def _beyond_wrappers(prefix: list[str]) -> str:
    """Return a prefix without what PEFT and transformers wrap models in, under which all models are saved."""
    named = [part for part in prefix if part]
    while named and named[0] in _WRAPPERS:
        named = named[1:]
    return ".".join(named)


def _tails(parts: list[str]) -> Iterator[list[str]]:
    """Yield ever shorter ends of a path, as long as they tell the layer's number, where the path does."""
    numbered = any(part.isdecimal() for part in parts)
    for start in range(len(parts)):
        tail = parts[start:]
        if not numbered or any(part.isdecimal() for part in tail):
            yield tail


def _ending_in(tail: list[str], layer: LoraLayer, base: BaseModel) -> list[BaseWeight]:
    """Return the weights whose path is `tail`, else those whose path ends in it."""
    *above, last = tail
    path = ".".join(tail)
    exact = _at(layer, base, path)
    if exact is not None:
        return [exact]
    if above:
        owners = base.endings.get(".".join(above), ())
    else:
        owners = [place.rpartition(".")[0] for place in base.endings.get(last, ())]
    found = (_at(layer, base, f"{owner}.{last}") for owner in owners if owner)
    return [weight for weight in found if weight is not None]


def _at(layer: LoraLayer, base: BaseModel, path: str) -> BaseWeight | None:
    """Return the weight at exactly this path: one tensor, part of a fused one, or several stacked."""
    for ending, how in _QUANTISED.items():
        if path + ending in base:
            raise Malformed(f"The base weight {visible(path)} is quantised {how}.", UNQUANTISED_HINT)
    for name in (f"{path}.weight", path):
        if name in base:
            return BaseWeight(layer, base, (name,), expert=layer.expert)
    owner, _, last = path.rpartition(".")
    prefix = f"{owner}." if owner else ""
    expert = "" if layer.expert is None else f"{layer.expert}."
    for parts in _FUSED.get(last, ()):
        names = tuple(f"{prefix}{expert}{part}.weight" for part in parts)
        if all(name in base for name in names):
            return BaseWeight(layer, base, names, note=f"stacked of {', '.join(parts)}")
    for fused, variants in _FUSED.items():
        name = f"{prefix}{fused}.weight"
        stacked = variants[0]
        if last in stacked and last != fused and name in base:
            at = stacked.index(last)
            from_end = len(stacked) - at if at else 0
            return BaseWeight(layer, base, (name,), part=True, from_end=from_end, note=f"rows of {fused}")
    for fused in _INTERLEAVED:
        if last in ("q_proj", "k_proj", "v_proj") and f"{prefix}{fused}.weight" in base:
            raise Malformed(
                f"{visible(path)} lies in {fused}, whose rows are in an order that its name does not tell."
            )
    return None


def _tied(layer: LoraLayer, base: BaseModel) -> BaseWeight | None:
    """Return the embedding for a head that shares its weights, and the head for such an embedding."""
    if not base.tied or layer.layer_index is not None:
        return None
    others = [n for n in base.names if n.removesuffix(".weight").rpartition(".")[2] in _TIED_NAMES]
    if len(others) != 1 or layer.module_type not in _TIED_NAMES:
        return None
    return BaseWeight(layer, base, (others[0],), note=f"tied to {others[0].removesuffix('.weight')}")


_TIED_NAMES = (*_EMBEDDINGS, "lm_head", "embed_out", "output")


def _sides(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
