"""The s of ΔW = s·B·A: each format tells it in a place of its own, or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from lorabench.adapters.config import UNKNOWN, LoraSettings, ModuleSettings, finite_number, mapping
from lorabench.adapters.model import Finding, Format, Tensor
from lorabench.adapters.pairs import Pair
from lorabench.adapters.patterns import PatternMatcher
from lorabench.errors import Malformed
from lorabench.json_text import parse_json
from lorabench.text import shorten, visible

Settings = dict[str, ModuleSettings]
_NOTHING = ModuleSettings(None, None, None)
_ONE = ModuleSettings(None, None, 1.0)
NO_CONFIG = Finding(
    "warning",
    f"There is no usable adapter_config.json. {UNKNOWN}",
    "Put the adapter_config.json that was saved with the weights beside them.",
)


def scalings(
    pairs: Sequence[Pair],
    written_by: Format,
    config: Mapping[str, Any],
    metadata: Mapping[str, str],
    matcher: PatternMatcher,
) -> tuple[Settings, list[Finding]]:
    """Find rank, lora_alpha and scaling for each pair's `target`, and say what is not known."""
    if written_by == "MLX":
        return _of_mlx(pairs, config)
    if written_by in ("kohya", "diffusers"):
        return _of_alphas(pairs, _diffusers_config(metadata), matcher)
    if written_by == "cloneofsimo":
        note = "cloneofsimo's files hold no scaling: its loader uses 1 unless it is told otherwise."
        return {pair.target: _ONE for pair in pairs}, [Finding("info", note)]
    if written_by == "unnamed pairs":
        message = "The names are numbers alone: which modules these pairs adapt is not in the file."
        return {pair.target: _NOTHING for pair in pairs}, [Finding("warning", f"{message} {UNKNOWN}")]
    if not config:
        return {pair.target: _NOTHING for pair in pairs}, [NO_CONFIG]
    settings = LoraSettings(config, [pair.target for pair in pairs], matcher)
    return {pair.target: settings.of(pair.target) for pair in pairs}, settings.findings


def _of_mlx(pairs: Sequence[Pair], config: Mapping[str, Any]) -> tuple[Settings, list[Finding]]:
    """mlx-lm computes y + scale · (x @ lora_a) @ lora_b: `scale` is the scaling as it stands."""
    parameters = mapping(config.get("lora_parameters"))
    scale, rank = finite_number(parameters.get("scale")), finite_number(parameters.get("rank"))
    alpha = finite_number(parameters.get("alpha"))
    findings = []
    if scale is None:
        findings.append(Finding("warning", f"No lora_parameters.scale in adapter_config.json. {UNKNOWN}"))
    elif alpha and rank and alpha != rank:
        message = f"lora_parameters.alpha is not used: mlx-lm scales by scale = {scale:g} alone."
        hint = f"Versions of early 2024 scaled by scale · alpha / rank, here {scale * alpha / rank:g}."
        findings.append(Finding("info", message, hint))
    settings = ModuleSettings(int(rank) if rank else None, None, scale)
    return {pair.target: settings for pair in pairs}, findings


def _of_alphas(
    pairs: Sequence[Pair], config: Mapping[str, Any], matcher: PatternMatcher
) -> tuple[Settings, list[Finding]]:
    """kohya and diffusers: alpha / r from a tensor for each module, or from the file's metadata, or 1."""
    findings: list[Finding] = []
    components: dict[str, list[Pair]] = {}
    found: Settings = {}
    untold = 0
    for pair in pairs:
        component = pair.module.partition(".")[0]
        if "alpha" in pair.parts:
            found[pair.target] = _of_alpha(pair.parts["alpha"], pair.a)
        elif mapping(config.get(component)):
            components.setdefault(component, []).append(pair)
        else:
            untold += 1
            found[pair.target] = _ONE
    for component, members in components.items():
        names = {pair.target: pair.module.partition(".")[2] for pair in members}
        settings = LoraSettings(config[component], list(names.values()), matcher)
        findings.extend(settings.findings)
        found.update({target: settings.of(name) for target, name in names.items()})
    if untold:
        message = (
            f"{untold} of {len(pairs)} modules have no alpha: as their loaders do, we count the scaling as 1."
        )
        findings.append(Finding("info", message))
    return found, findings


def _of_alpha(tensor: Tensor, a: Tensor) -> ModuleSettings:
    try:
        alpha = finite_number(tensor.read().item()) if prod(tensor.shape) == 1 else None
    except Malformed as error:
        return ModuleSettings(None, None, None, Finding("warning", f"{error.message} {UNKNOWN}", error.hint))
    if alpha is None:
        message = f"{shorten(visible(tensor.name), 100)} is no single finite number. {UNKNOWN}"
        return ModuleSettings(None, None, None, Finding("warning", message))
    rank = a.shape[0] if a.shape else 0
    return ModuleSettings(None, alpha, alpha / rank if rank else None)


def _diffusers_config(metadata: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Read lora_adapter_metadata: a JSON object whose keys are `<component>.<field of LoraConfig>`."""
    try:
        flat = parse_json(metadata.get("lora_adapter_metadata", "{}"))
    except ValueError:
        return {}
    components: dict[str, dict[str, Any]] = {}
    for key, value in mapping(flat).items():
        component, _, name = str(key).partition(".")
        components.setdefault(component, {})[name] = value
    return components
