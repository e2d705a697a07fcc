"""Which tensors belong together: A with B, module by module and adapter by adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lorabench.adapters.model import Format, MissingTensor, OtherTensor, Tensor
from lorabench.adapters.names import ParsedName, Part, parse


@dataclass(slots=True)
class Pair:
    """The tensors of one module in one adapter, not yet known to fit.

    `target` is what PEFT matches its patterns against: mostly the module. `stacked` says that A and B hold
    the factors of several experts.
    """

    module: str
    adapter: str
    format: Format
    embedding: bool
    target: str
    stacked: bool = False
    parts: dict[Part, Tensor] = field(default_factory=dict)

    @property
    def a(self) -> Tensor:
        return self.parts["A"]

    @property
    def b(self) -> Tensor:
        return self.parts["B"]

    @property
    def whole(self) -> bool:
        return MissingTensor not in map(type, (self.a, self.b))


def pair_tensors(tensors: Mapping[str, Tensor]) -> tuple[list[Pair], list[OtherTensor]]:
    """Gather each module's tensors; return the pairs, whole ones first, and the tensors of no pair.

    A pair that has only A or only B has a `MissingTensor` for the other.
    """
    pairs: dict[tuple[str, str], Pair] = {}
    others: list[OtherTensor] = []
    alphas: list[tuple[ParsedName, Tensor]] = []
    for name, tensor in tensors.items():
        parsed = parse(name)
        if parsed is None:
            others.append(OtherTensor("unknown", tensor))
        elif parsed.part == "alpha":
            alphas.append((parsed, tensor))
        elif not _add(pairs, parsed, tensor):
            others.append(OtherTensor("unpaired", tensor))
    # An alpha names no format of its own and may come before the pair that it belongs to.
    for parsed, tensor in alphas:
        if not ((parsed.module, parsed.adapter) in pairs and _add(pairs, parsed, tensor)):
            others.append(OtherTensor("unknown", tensor))
    found = []
    for pair in pairs.values():
        if "A" in pair.parts or "B" in pair.parts:
            pair.parts.setdefault("A", MissingTensor("A is missing"))
            pair.parts.setdefault("B", MissingTensor("B is missing"))
            found.append(pair)
        else:
            others.extend(OtherTensor("unpaired", tensor) for tensor in pair.parts.values())
    found.sort(key=lambda pair: not pair.whole)
    return found, _take_magnitudes(found, others)


def _add(pairs: dict[tuple[str, str], Pair], parsed: ParsedName, tensor: Tensor) -> bool:
    """Put a tensor in its place; False where another one has it already."""
    pair = pairs.setdefault(
        (parsed.module, parsed.adapter),
        Pair(parsed.module, parsed.adapter, parsed.format, parsed.embedding, target=parsed.module),
    )
    return pair.parts.setdefault(parsed.part, tensor) is tensor


def _take_magnitudes(pairs: list[Pair], others: list[OtherTensor]) -> list[OtherTensor]:
    """List DoRA's magnitudes among the others; MLX calls them `<module>.m`, which alone says nothing."""
    of_mlx = {f"{pair.module}.m": pair for pair in pairs if pair.format == "MLX"}
    kept = []
    for other in others:
        pair = of_mlx.get(other.tensor.name)
        if pair is None:
            kept.append(other)
        else:
            pair.parts["magnitude"] = other.tensor
    return kept + [
        OtherTensor("magnitude", pair.parts["magnitude"]) for pair in pairs if "magnitude" in pair.parts
    ]
