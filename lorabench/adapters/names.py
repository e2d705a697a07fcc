"""What a tensor's name says: which module, which adapter, and which part of the update it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lorabench.adapters.model import Format

Part = Literal["A", "B", "mid", "alpha", "magnitude"]

_ADAPTER = r"(?:\.(?P<adapter>(?!(?:weight|bias)$)[^.]+))?(?:\.weight)?"
# In the order in which they are tried. `part` is in each format's own words; _PARTS translates.
_PATTERNS: tuple[tuple[Format, re.Pattern[str]], ...] = (
    (
        "PEFT",
        re.compile(r"(?:(?P<module>.+)\.)?lora_(?P<part>(?:embedding_)?[AB]|magnitude_vector)" + _ADAPTER),
    ),
    ("kohya", re.compile(r"(?P<module>.+)\.(?:lora_(?P<part>down|up|mid)\.weight|(?P<scalar>dora_scale))")),
    ("diffusers", re.compile(r"(?P<module>.+?)(?:\.lora_linear_layer|[._]lora)\.(?P<part>down|up)\.weight")),
    ("MLX", re.compile(r"(?P<module>.+)\.lora_(?P<part>[ab])")),
    ("torchtune", re.compile(r"(?P<module>.+)\.lora_(?P<part>[ab])\.weight")),
    ("cloneofsimo", re.compile(r"(?P<module>(?:unet|text_encoder):\d+):(?P<part>up|down)")),
    ("unnamed pairs", re.compile(r"w_(?P<part>[ab])_(?P<module>\d{1,9})")),
    ("kohya", re.compile(r"(?P<module>.+?)(?:_lora)?\.(?P<scalar>alpha)")),
)
_PARTS: dict[str, Part] = {
    "A": "A", "embedding_A": "A", "down": "A", "a": "A",
    "B": "B", "embedding_B": "B", "up": "B", "b": "B",
    "magnitude_vector": "magnitude", "dora_scale": "magnitude", "mid": "mid", "alpha": "alpha",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ParsedName:
    """A tensor's place in an adapter; `adapter` is PEFT's own default where the name tells none."""

    format: Format
    module: str
    adapter: str
    part: Part
    embedding: bool


def parse(name: str) -> ParsedName | None:
    """Return what a tensor's name says, or None where it is no part of a LoRA update in any known format."""
    for written_by, pattern in _PATTERNS:
        match = pattern.fullmatch(name)
        if match:
            return _parsed(written_by, match.groupdict())
    return None


def _parsed(written_by: Format, found: Mapping[str, str | None]) -> ParsedName:
    part = found.get("part") or found["scalar"] or ""
    return ParsedName(
        format=written_by,
        module=_module(written_by, found["module"] or ""),
        adapter=found.get("adapter") or "default",
        part=_PARTS[part],
        embedding=part.startswith("embedding"),
    )


def _module(written_by: Format, written: str) -> str:
    if written_by == "cloneofsimo":
        return written.replace(":", ".")
    if written_by == "unnamed pairs":
        return f"pair.{int(written)}"
    module = written.removeprefix("base_model.model.")
    if (
        ".processor." in module
    ):  # the attention processors of diffusers up to 0.21 held the LoRA of their attention
        module = module.replace(".processor.", ".")
        module = f"{module}.0" if module.endswith(".to_out") else module
    return module
