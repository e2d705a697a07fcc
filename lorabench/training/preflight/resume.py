"""What already lies in the output folder, and whether a run can go on from it."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lorabench.adapters.config import finite_number
from lorabench.adapters.model import Adapter
from lorabench.adapters.open import open_adapter
from lorabench.errors import AdapterError
from lorabench.text import natural_path, visible
from lorabench.training.preflight.finding import Finding, Level, Mend
from lorabench.training.preflight.meta_model import described

if TYPE_CHECKING:
    from lorabench.training.config.run_config import RunConfig

CHECK = "resume"
_NEEDED = ("trainer_state.json", "optimizer.pt", "scheduler.pt")
_TORN = {
    "trainer_state.json": "it was not saved to its end",
    "optimizer.pt": "the Trainer would go on silently, with a fresh optimizer and a learning rate of 0",
    "scheduler.pt": "the Trainer would go on silently, with a fresh optimizer and a learning rate of 0",
}


def resume_findings(config: RunConfig) -> list[Finding]:
    """Say what an earlier run left behind, and each thing in which it differs from this configuration."""
    found = list(_adapter_as_base(config))
    checkpoints = _checkpoints(config.folder)
    wanted = config.values.get("resume_from_checkpoint")  # a path, or true for the newest
    if wanted:
        return found + _resumed(config, wanted, checkpoints)
    if checkpoints:
        last = checkpoints[-1]
        differing = _differences(config, last, "warning")
        able = not differing and _missing(last) is None
        mend = Mend(f"go on from {last.name}", {"resume_from_checkpoint": str(last)}) if able else None
        message = (
            f"The output folder already holds {visible(last.name)}: this run starts anew, and writes over it."
        )
        return [*found, Finding(CHECK, "warning", message, mend=mend), *differing]
    if (config.folder / "adapter_config.json").is_file():
        message = "The output folder already holds an adapter, which this run writes over at its end."
        return [*found, Finding(CHECK, "warning", message), *_differences(config, config.folder, "warning")]
    return found


def _adapter_as_base(config: RunConfig) -> Iterator[Finding]:
    """A base model that already carries an adapter: LoRA is injected once, by SFTTrainer."""
    folder = Path(str(config.get("model_name_or_path") or "")).expanduser()
    if not config.get("use_peft") or not (folder / "adapter_config.json").is_file():
        return
    try:
        base = open_adapter(folder).base_model
    except AdapterError:
        base = None
    mend = Mend(f"train on {visible(base)}", {"model_name_or_path": base}) if base else None
    message = f"{visible(folder.name)} already is a PEFT model; this would put a second LoRA on it."
    detail = "SFTTrainer takes a PEFT model or a peft_config, not both. Merge it first, or train on its base."
    yield Finding(CHECK, "error", message, detail, mend)


def _checkpoints(folder: Path) -> list[Path]:
    """The folders that the Trainer takes for checkpoints, the newest last."""
    if not folder.is_dir():
        return []
    named = [path for path in folder.glob("checkpoint-*") if path.name.partition("-")[2].isdecimal()]
    return sorted((path for path in named if path.is_dir()), key=natural_path)


def _resumed(config: RunConfig, wanted: object, checkpoints: list[Path]) -> list[Finding]:
    if wanted is True or str(wanted).lower() == "true":
        if not checkpoints:
            message = "resume_from_checkpoint is true, but the output folder holds no checkpoint."
            return [
                Finding(CHECK, "error", message, mend=Mend("start anew", {"resume_from_checkpoint": None}))
            ]
        checkpoint = checkpoints[-1]
    else:
        checkpoint = Path(str(wanted)).expanduser()
    if not checkpoint.is_dir():
        return [Finding(CHECK, "error", f"There is no checkpoint {visible(checkpoint)} to go on from.")]
    missing = _missing(checkpoint)
    if missing is not None:
        message = f"{visible(checkpoint.name)} has no {missing}: {_TORN[missing]}."
        return [Finding(CHECK, "error", message)]
    found = _differences(config, checkpoint, "error") + list(_ignored(config, checkpoint))
    if not found:
        found.append(Finding(CHECK, "ok", f"Goes on from {visible(checkpoint.name)}."))
    return found


def _missing(checkpoint: Path) -> str | None:
    return next((name for name in _NEEDED if not (checkpoint / name).is_file()), None)


def _differences(config: RunConfig, folder: Path, level: Level) -> list[Finding]:
    """Say in what an adapter differs from the one to be made; `level` is for what will not load."""
    try:
        adapter = open_adapter(folder)
    except AdapterError as error:
        return [
            Finding(CHECK, level, f"{visible(folder.name)} cannot be opened: {error.message}", error.hint)
        ]
    found = list(_shapes(config, adapter, folder.name, level))
    found += _base(config, adapter, folder.name, level)
    for name, ours, theirs in (
        ("lora_alpha", config.get("lora_alpha"), adapter.config.get("lora_alpha")),
        ("use_rslora", bool(config.get("use_rslora")), bool(adapter.config.get("use_rslora"))),
    ):
        if theirs is not None and ours != theirs:
            message = f"{name} = {visible(ours)} here, {visible(theirs)} in {visible(folder.name)}: "
            applied = "the update would be scaled anew without a word, from the first step."
            found.append(
                Finding(CHECK, "warning", message + applied, mend=Mend(f"{name} {theirs}", {name: theirs}))
            )
    return found


def _shapes(config: RunConfig, adapter: Adapter, name: str, level: Level) -> Iterator[Finding]:
    """Compare rank and targets module by module; a change of any is an error of the Trainer's on loading."""
    model = described(config)
    if model is None or not model.adapted:
        return
    theirs = {layer.module: layer.rank for layer in adapter.layers if layer.expert is None}
    label = visible(name)
    ranks = Counter((rank, theirs[m]) for m, rank in model.adapted.items() if theirs.get(m, rank) != rank)
    for (ours, other), count in ranks.items():
        of = "" if count == len(model.adapted.keys() & theirs.keys()) else f" for {count} modules"
        everywhere = len(ranks) == 1 and not of
        mend = Mend(f"r {other}", {"lora_r": other}) if everywhere else None
        message = f"r = {ours} here, {other} in {label}{of}: shapes will not match."
        yield Finding(CHECK, level, message, mend=mend)
    only_ours = _kinds(set(model.adapted) - set(theirs))
    only_theirs = _kinds(set(theirs) - set(model.adapted))
    if only_ours:
        yield Finding(CHECK, level, f"Targets here, not in {label}: {only_ours}; it has no weights for them.")
    if only_theirs:
        yield Finding(
            CHECK, level, f"Targets in {label}, not here: {only_theirs}; their weights have no place."
        )
    dora = any(layer.dora for layer in adapter.layers)
    if dora != bool(config.get("use_dora")):
        told = "DoRA in {}, not here" if dora else "DoRA here, not in {}"
        message = f"{told.format(label)}: the magnitudes will not match."
        yield Finding(CHECK, level, message, mend=Mend(f"use_dora {dora}", {"use_dora": dora}))


def _kinds(modules: set[str]) -> str:
    kinds = Counter(module.rpartition(".")[2] for module in sorted(modules))
    return ", ".join(f"{visible(kind)} ({count} modules)" for kind, count in kinds.items())


def _base(config: RunConfig, adapter: Adapter, name: str, level: Level) -> Iterator[Finding]:
    ours, theirs = str(config.get("model_name_or_path") or ""), adapter.base_model
    if not theirs or not ours or ours == theirs or Path(ours).absolute() == Path(theirs).absolute():
        return
    message = f"The base model is {visible(ours)} here, {visible(theirs)} in {visible(name)}."
    yield Finding(
        CHECK, level, message, mend=Mend(f"train on {visible(theirs)}", {"model_name_or_path": theirs})
    )


def _ignored(config: RunConfig, checkpoint: Path) -> Iterator[Finding]:
    """The Trainer goes on with the scheduler's own learning rate, whatever the configuration says."""
    import torch

    try:
        state = torch.load(checkpoint / "scheduler.pt", map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
        yield Finding(CHECK, "error", f"scheduler.pt in {visible(checkpoint.name)} cannot be read.")
        return
    rates = state.get("base_lrs") if isinstance(state, dict) else None
    theirs = finite_number(rates[0]) if isinstance(rates, list) and rates else None
    ours = float(config.get("learning_rate"))
    if theirs is not None and theirs != ours:
        message = (
            f"learning_rate {ours:g} will be ignored: {visible(checkpoint.name)} goes on with {theirs:g}."
        )
        yield Finding(
            CHECK, "warning", message, mend=Mend(f"learning_rate {theirs:g}", {"learning_rate": theirs})
        )
