"""LoRA on the experts of a mixture: PEFT's target_parameters, whose names and layout are its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lorabench.adapters.pairs import Pair

_WRAPPED = ".base_layer"
_DEEPEST = 64
"""Parts of a path that are looked at: a hostile one has thousands."""
_REGISTERED = {frozenset(("gate_up_proj", "down_proj")): ("gate_up_proj", "down_proj")}


def name_targets(pairs: Sequence[Pair], config: Mapping[str, Any]) -> None:
    """Give each PEFT pair the name of what it adapts, where the wrappers that PEFT nests hide it.

    A ParamWrapper adapts one parameter and may wrap another: `experts.lora_A` is the outermost,
    `experts.base_layer.lora_A` the next. PEFT wraps them in the order in which the base model registers
    them, which is not in the file; the fused experts of transformers have gate_up_proj before down_proj.
    """
    listed = config.get("target_parameters")
    targets = [str(target) for target in listed] if isinstance(listed, list | tuple | set) else []
    by_owner: dict[str, list[str]] = {}
    for target in targets:
        owner, _, name = target.rpartition(".")
        by_owner.setdefault(owner, []).append(name)
    nests: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        nests.setdefault((pair.module.replace(_WRAPPED, ""), pair.adapter), []).append(pair)
    for (module, _), nest in nests.items():
        nest.sort(key=lambda pair: pair.module.count(_WRAPPED), reverse=True)
        parameters = _targeted(module, by_owner)
        in_order = _REGISTERED.get(frozenset(parameters), tuple(parameters))
        for position, pair in enumerate(nest):
            pair.stacked = bool(parameters)
            if len(nest) == len(in_order) and (len(nest) == 1 or frozenset(parameters) in _REGISTERED):
                pair.module = pair.target = f"{module}.{in_order[position]}"
            elif len(nest) == 1:
                pair.target = pair.module.partition(_WRAPPED)[0]
                pair.module = module


def _targeted(module: str, by_owner: Mapping[str, Sequence[str]]) -> list[str]:
    """The names of the parameters of `module` that the configuration targets, by their owners' paths."""
    parts = module.split(".")
    owners = ["", *(".".join(parts[start:]) for start in range(max(0, len(parts) - _DEEPEST), len(parts)))]
    return [name for owner in dict.fromkeys(owners) for name in by_owner.get(owner, ())]
