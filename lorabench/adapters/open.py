"""Open an adapter: a folder, a file, a state dict, or a PEFT model in memory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from lorabench.adapters.config import read_config
from lorabench.adapters.experts import name_targets
from lorabench.adapters.kinds import check_peft_type, check_tensor_names
from lorabench.adapters.layers import build_layers, depth
from lorabench.adapters.locate import locate
from lorabench.adapters.model import Adapter, Finding, Format, LoraLayer, Tensor
from lorabench.adapters.others import classify, notice
from lorabench.adapters.pairs import Pair, pair_tensors
from lorabench.adapters.patterns import PatternMatcher
from lorabench.adapters.pickles import read_pickle
from lorabench.adapters.scaling import NO_CONFIG, scalings
from lorabench.adapters.tensors import memory_tensors, read_safetensors
from lorabench.errors import Malformed, NotFound
from lorabench.files import at_home
from lorabench.text import visible

Config = Mapping[str, Any]

# What diffusers calls the blocks and the attention's layers of its transformers (Flux, SD 3, Wan, …).
_OF_A_DIT = re.compile(r"transformer_blocks\.|\.attn\d?\.(to|add)_")


class PeftModel(Protocol):
    """What is used of a peft.PeftModel, or of any model with PEFT adapters injected."""

    peft_config: Mapping[str, Any]

    def state_dict(self) -> Mapping[str, Any]: ...


Source = str | os.PathLike[str] | Mapping[str, Any] | PeftModel | Adapter


def open_adapter(source: Source, *, config: Config | object | None = None) -> Adapter:
    """Open an adapter and read its headers alone; values are read when a layer's `factors()` are asked for.

    `source` is a folder or file, a state dict (torch tensors or numpy arrays, by name), or a model with
    PEFT adapters in memory, whose values are copied from its device when read. `config` (a mapping or a
    LoraConfig) tells the scaling of a state dict, or stands in for a file's adapter_config.json. An adapter
    that is open already is given back as it is.

    Raises:
        NotFound: no LoRA weights there, or several adapters to choose from.
        NotLora: an adapter of another kind (IA³, prompt tuning, …).
        Malformed: a damaged file.
        Refused: a pickle that would run code on loading.
    """
    if isinstance(source, Adapter):
        if config is not None:
            raise TypeError("an open adapter has its configuration already")
        return source
    given = None if config is None else _as_mapping(config)
    if isinstance(source, str | os.PathLike):
        return _open_path(at_home(source), given)
    if isinstance(source, Mapping):
        return _interpret("state dict", memory_tensors(source), {"": given or {}})
    if not hasattr(source, "peft_config"):
        raise TypeError(f"a path, a state dict or a model with PEFT adapters, not {type(source).__name__}")
    return _open_model(source, given)


def _open_path(path: Path, given: Config | None) -> Adapter:
    location = locate(path)
    config, damage = read_config(location.files[0].parent) if given is None else (given, [])
    name = location.name
    check_peft_type(config, visible(name))
    findings = list(location.findings if given is None else ())
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for file in location.files:
        if file.name.endswith(".safetensors"):
            content, of_file = read_safetensors(file)
        else:
            content, of_file = read_pickle(file)
            findings.extend(_skipped(of_file.pop("skipped")))
        twice = next((name for name in content if name in tensors), None)
        if twice is not None:
            raise Malformed(f"{visible(twice)} is in two shards of {visible(name)}.")
        tensors |= content
        metadata |= of_file
    adapter = _interpret(
        name,
        tensors,
        {"": config},
        metadata,
        path=location.path,
        files=location.files,
        findings=findings,
        written_by="diffusers" if location.format == "diffusers" else None,
    )
    if not damage:
        return adapter
    return replace(adapter, findings=tuple(found for found in adapter.findings if found != NO_CONFIG))


def _skipped(count: str) -> Iterable[Finding]:
    if count != "0":
        what = (
            "1 value in the pickle is no tensor"
            if count == "1"
            else f"{count} values in the pickle are no tensors"
        )
        yield Finding("info", f"{what}.")


def _open_model(model: PeftModel, given: Config | None) -> Adapter:
    configs = {name: _as_mapping(config) for name, config in model.peft_config.items()}
    kept = ("lora_", "modules_to_save.", "token_adapter.")
    state = {name: value for name, value in model.state_dict().items() if any(k in name for k in kept)}
    active = configs.get(str(getattr(model, "active_adapter", None)), next(iter(configs.values()), {}))
    return _interpret("model in memory", memory_tensors(state), {"": given or active} | configs)


def _as_mapping(config: Any) -> dict[str, Any]:
    """Take a mapping, or a PeftConfig by its own `to_dict`."""
    return dict(config if isinstance(config, Mapping) else config.to_dict())


def _interpret(
    name: str,
    tensors: Mapping[str, Tensor],
    configs: Mapping[str, Config],
    metadata: Mapping[str, str] | None = None,
    *,
    path: Path | None = None,
    files: Iterable[Path] = (),
    findings: Iterable[Finding] = (),
    written_by: Format | None = None,
) -> Adapter:
    """Make an adapter of named tensors; `configs` has one for each adapter by name, a default under ""."""
    label, default, metadata = visible(name), configs[""], metadata or {}
    for config in configs.values():
        check_peft_type(config, label)
    pairs, strays = pair_tensors(tensors)
    check_tensor_names([key for key in tensors if ".lora_E" in key or not any(p.whole for p in pairs)], label)
    if not pairs:
        raise NotFound(
            f"None of the {len(tensors)} tensors in {label} is half of a LoRA pair.", _looks_like(tensors)
        )
    if "lora_adapter_metadata" in metadata or any(map(_of_diffusers, pairs)):
        written_by = "diffusers"
    noticed, matcher = list(findings), PatternMatcher()
    layers: list[LoraLayer] = []
    for (adapter, form), members in _groups(pairs, configs, written_by).items():
        config = configs.get(adapter, default)
        name_targets(members, config)
        settings, said = scalings(members, form, config, metadata, matcher)
        layers.extend(build_layers(members, settings, config))
        noticed.extend(said)
    layers.sort(key=depth)
    others = classify(strays, default)
    noticed.extend(notice(layers, others, default))
    return Adapter(
        name=name,
        path=path,
        format=_written_by(pairs[0], default, written_by),
        config=default,
        layers=tuple(layers),
        others=others,
        findings=tuple(dict.fromkeys(noticed)),
        files=tuple(files),
        metadata=metadata,
    )


def _groups(
    pairs: Iterable[Pair], configs: Mapping[str, Config], written_by: Format | None
) -> dict[tuple[str, Format], list[Pair]]:
    """Put together the pairs whose scaling is told in the same place: one adapter's, of one format."""
    groups: dict[tuple[str, Format], list[Pair]] = {}
    for pair in pairs:
        form = _written_by(pair, configs.get(pair.adapter, configs[""]), written_by)
        groups.setdefault((pair.adapter, form), []).append(pair)
    return groups


def _of_diffusers(pair: Pair) -> bool:
    """Tell a module of a pipeline's component; `transformer.` alone could as well be GPT-2's."""
    return (
        "alpha" in pair.parts
        or pair.module.startswith(("unet.", "text_encoder"))
        or (pair.module.startswith("transformer.") and _OF_A_DIT.search(pair.module) is not None)
    )


def _written_by(pair: Pair, config: Config, written_by: Format | None) -> Format:
    """Tell PEFT's own files from those that diffusers writes in PEFT's names, without a configuration."""
    return "diffusers" if pair.format == "PEFT" and written_by == "diffusers" and not config else pair.format


def _looks_like(tensors: Iterable[str]) -> str:
    names = list(tensors)
    if any(name.endswith(".weight") for name in names):
        return "It looks like a whole model, or a part of one."
    return f"The first is {visible(names[0])}." if names else "It is empty."
