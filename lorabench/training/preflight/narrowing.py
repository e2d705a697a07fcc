"""Which of the fields that narrow the targets, or set some modules apart, reach nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from lorabench.text import natural, visible
from lorabench.training.preflight.finding import Finding, Mend
from lorabench.training.preflight.meta_model import MetaModel

if TYPE_CHECKING:
    from lorabench.training.config.run_config import RunConfig

PATTERNS = ("rank_pattern", "alpha_pattern")


def narrowing_findings(config: RunConfig, model: MetaModel, check: str) -> Iterator[Finding]:
    """Yield a warning for each key, name or layer in these fields that PEFT silently passes over."""
    extra = config.lora_extra
    for field in PATTERNS:
        for key in _ignored(model, field, extra.get(field)):
            yield _unmatched(check, field, extra[field], key, model.adapted)
    for name in listed(extra.get("exclude_modules")):
        if not _reaches(model, exclude_modules=name if extra["exclude_modules"] == name else [name]):
            yield _unmatched(check, "exclude_modules", extra["exclude_modules"], name, model.modules)
    if extra.get("layers_to_transform") is not None and not model.fused:
        yield from _layers(extra, model, check)


def _ignored(model: MetaModel, field: str, pattern: Any) -> list[str]:
    """The keys of a pattern that PEFT warned of when it put the adapters in."""
    if not isinstance(pattern, dict) or model.fused:
        return []
    told = [text for text in model.warnings if f"{field} keys did not match" in text]
    return [key for key in pattern if any(visible(repr(key)) in text for text in told)]


def _layers(extra: Any, model: MetaModel, check: str) -> Iterator[Finding]:
    patterns = listed(extra.get("layers_pattern"))
    for pattern in patterns:
        if not _reaches(model, layers_to_transform=range(len(model.modules)), layers_pattern=[pattern]):
            stacks = [name.rpartition(".")[0] for name in model.modules if name.rpartition(".")[2].isdigit()]
            yield _unmatched(check, "layers_pattern", extra["layers_pattern"], pattern, stacks)
    wanted = extra["layers_to_transform"]
    lacking = [
        str(layer)
        for layer in ([wanted] if isinstance(wanted, int) else wanted)
        if not _reaches(model, layers_to_transform=[layer], layers_pattern=patterns)
    ]
    if lacking:
        numbers = ", ".join(sorted(lacking, key=natural))
        message = f"layers_to_transform: no target is in layer {numbers}."
        yield Finding(check, "warning", message, "Layers are counted from 0.")


def _reaches(model: MetaModel, **fields: Any) -> bool:
    """Ask PEFT whether any module is reached, or left out, by one such field alone."""
    from peft.tuners.tuners_utils import _ExcludedModule, check_target_module_exists

    targets = {"target_modules": set(model.matches), "target_parameters": None, "modules_to_save": None}
    alone = SimpleNamespace(**targets, **fields)
    found = (check_target_module_exists(alone, name) for name in model.modules)
    return any(isinstance(each, _ExcludedModule) if "exclude_modules" in fields else each for each in found)


def _unmatched(check: str, field: str, value: Any, key: str, names: Iterable[str]) -> Finding:
    kinds = list(dict.fromkeys(name.rpartition(".")[2] for name in names))
    last = key.rpartition(".")[2]
    near = get_close_matches(last, kinds, n=1, cutoff=0.5)
    said = f"{field}: {visible(key)} matches nothing, and changes nothing"
    if not near:
        return Finding(check, "warning", f"{said}.")
    meant = key.removesuffix(last) + near[0]
    if isinstance(value, dict):
        mended: Any = {meant if name == key else name: each for name, each in value.items()}
    else:
        mended = meant if value == key else [meant if name == key else name for name in value]
    mend = Mend(f"{field}: {visible(meant)}", {field: mended})
    return Finding(check, "warning", f"{said} — did you mean {visible(meant)}?", mend=mend)


def listed(value: Any) -> list[str]:
    """Return the names in a field that holds one, several or none."""
    return [] if not value else [value] if isinstance(value, str) else [str(each) for each in value]
