"""The regular expressions of a LoRA configuration, tried before PEFT is asked, which might take years."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lorabench.adapters.config import mapping
from lorabench.adapters.patterns import Expression, unknowable, why_not

if TYPE_CHECKING:
    from peft import LoraConfig


def patterns_problem(lora: LoraConfig, modules: Sequence[str]) -> str:
    """Say which expression cannot be matched with these modules within seconds; "" where all can."""
    return why_not(list(_expressions(lora)), modules)


def unlisted_problem(lora: LoraConfig) -> str:
    """Say which expression is not to be tried on a model whose modules cannot be listed; "" where none is."""
    return unknowable(list(_expressions(lora)))


def _expressions(lora: LoraConfig) -> Iterator[Expression]:
    """Yield what PEFT 0.21 compiles (`check_target_module_exists`, `get_pattern_key`)."""
    for field, pattern in (
        ("lora_target_modules", lora.target_modules),
        ("exclude_modules", lora.exclude_modules),
    ):
        if isinstance(pattern, str):
            yield Expression(field, pattern, pattern, whole=True)
    for pattern in map(str, lora.modules_to_save or ()):
        yield Expression("lora_modules_to_save", pattern, rf"(^|.*\.){pattern}($|\..*)")
    layers = lora.layers_pattern or ()
    for pattern in map(str, [layers] if isinstance(layers, str) else layers):
        yield Expression("layers_pattern", pattern, rf"(?:^|.*?\.){pattern}\.(?P<idx>\d+)\.")
    for name in ("rank_pattern", "alpha_pattern"):
        for pattern in map(str, mapping(getattr(lora, name))):
            yield Expression(name, pattern, rf"(.*\.)?({pattern})$")
