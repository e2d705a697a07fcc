"""What already lies in the output folder, and whether a run can go on from it."""

from __future__ import annotations

import pickle
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lorabench.adapters.config import finite_number
from lorabench.adapters.model import Adapter
from lorabench.adapters.open import open_adapter
from lorabench.errors import AdapterError
from lorabench.files import at_home, is_file, is_folder
from lorabench.runs.checkpoints import SCHEDULER, Checkpoint, newest_whole, why_torn
from lorabench.text import visible
from lorabench.training.preflight.finding import Finding, Level, Mend
from lorabench.training.preflight.meta_model import described

if TYPE_CHECKING:
    from lorabench.training.config.run_config import RunConfig

CHECK = "resume"
_PICKLED = re.compile(r"(optimizer|scheduler|scaler|rng_state(_\d+)?)\.(pt|pth|bin)")


_ANEW = (
    "A run that starts anew moves what is there to a folder earlier-N; nothing is lost. "
    "`trl sft` starts anew without asking, and writes over it."
)


def wanted_checkpoint(config: RunConfig) -> Path | bool:
    """Return what the file wants to go on from: a checkpoint, True for the newest whole one, or False."""
    wanted = config.values.get("resume_from_checkpoint")
    if not wanted:
        return False
    return True if str(wanted).lower() == "true" else at_home(str(wanted))


def resume_findings(config: RunConfig) -> list[Finding]:
    """Say what an earlier run left behind, and each thing in which it differs from this configuration."""
    found = list(_adapter_as_base(config))
    wanted = wanted_checkpoint(config)
    if wanted is True:
        return found + _newest(config)
    if wanted:
        return found + _named(config, wanted)
    return found + _anew(config)


def _anew(config: RunConfig) -> list[Finding]:
    newest, torn = newest_whole(config.folder)
    if newest is not None:
        differing = _differences(config, newest.path, "warning")
        name = visible(newest.path.name)
        mend = Mend(f"go on from {name}", {"resume_from_checkpoint": str(newest.path)})
        message = (
            f"The output folder already holds {name}: on the screen `t` asks whether to go on from it, "
            "`lorabench train` wants --resume or --anew"
        )
        detail = "\n".join([*map(_passed_over, torn), _ANEW])
        return [Finding(CHECK, "warning", message, detail, None if differing else mend), *differing]
    if torn:
        message = (
            f"The output folder already holds {visible(torn[0].path.name)}, from which no run can go on "
            f"({torn[0].torn}): a run starts anew, `lorabench train` with --anew"
        )
        return [Finding(CHECK, "warning", message, _ANEW), *_differences(config, torn[0].path, "warning")]
    if is_file(config.folder / "adapter_config.json"):
        message = "The output folder already holds an adapter, which this run moves to a folder earlier-N"
        return [Finding(CHECK, "warning", message), *_differences(config, config.folder, "warning")]
    return []


def _newest(config: RunConfig) -> list[Finding]:
    """Going on from the newest whole checkpoint: torn ones are passed over, as `train` does."""
    newest, torn = newest_whole(config.folder)
    passed = [Finding(CHECK, "warning", _passed_over(checkpoint)) for checkpoint in torn]
    if newest is None:
        message = "resume_from_checkpoint is true, but the output folder holds no whole checkpoint."
        mend = Mend("start anew", {"resume_from_checkpoint": None})
        return [Finding(CHECK, "error", message, mend=mend), *passed]
    return passed + _going_on(config, newest.path)


def _passed_over(checkpoint: Checkpoint) -> str:
    return f"{visible(checkpoint.path.name)} is passed over: {checkpoint.torn}."


def _named(config: RunConfig, checkpoint: Path) -> list[Finding]:
    if not is_folder(checkpoint):
        return [Finding(CHECK, "error", f"There is no checkpoint {visible(checkpoint)} to go on from.")]
    why = why_torn(checkpoint)
    if why is not None:
        mend = Mend("go on from the newest whole one", {"resume_from_checkpoint": True})
        able = newest_whole(config.folder)[0] is not None
        message = f"No run can go on from {visible(checkpoint.name)}: {why}."
        return [Finding(CHECK, "error", message, mend=mend if able else None)]
    return _going_on(config, checkpoint)


def _going_on(config: RunConfig, checkpoint: Path) -> list[Finding]:
    unloadable = list(_unloadable(checkpoint))
    found = _differences(config, checkpoint, "error") + (unloadable or list(_ignored(config, checkpoint)))
    return found or [Finding(CHECK, "ok", f"Goes on from {visible(checkpoint.name)}.")]


def _adapter_as_base(config: RunConfig) -> Iterator[Finding]:
    """A base model that already carries an adapter: LoRA is injected once, by SFTTrainer."""
    folder = at_home(str(config.get("model_name_or_path") or ""))
    if not config.get("use_peft") or not is_file(folder / "adapter_config.json"):
        return
    try:
        base = open_adapter(folder).base_model
    except AdapterError:
        base = None
    mend = Mend(f"train on {visible(base)}", {"model_name_or_path": base}) if base else None
    message = f"{visible(folder.name)} already is a PEFT model; this would put a second LoRA on it."
    detail = "SFTTrainer takes a PEFT model or a peft_config, not both. Merge it first, or train on its base."
    yield Finding(CHECK, "error", message, detail, mend)


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
        yield Finding(CHECK, level, message, mend=Mend(f"use_dora {str(dora).lower()}", {"use_dora": dora}))


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


def _unloadable(checkpoint: Path) -> Iterator[Finding]:
    """The Trainer loads its pickles as is done here, running nothing; but only after all else is loaded."""
    import torch
    from transformers.trainer_pt_utils import safe_globals

    for path in sorted(path for path in checkpoint.iterdir() if _PICKLED.fullmatch(path.name)):
        label = f"{visible(path.name)} in {visible(checkpoint.name)}"
        try:
            with safe_globals():  # type: ignore[no-untyped-call]
                torch.load(path, map_location="meta", mmap=True, weights_only=True)
        except pickle.UnpicklingError:
            hint = "Do not go on from this checkpoint unless you trust who made it; nothing of it was run."
            yield Finding(CHECK, "error", f"{label} would run code on loading, and is refused.", hint)
        except (OSError, RuntimeError, EOFError, ValueError) as error:
            yield Finding(CHECK, "error", f"{label} cannot be read.", visible(error))


def _ignored(config: RunConfig, checkpoint: Path) -> Iterator[Finding]:
    """The Trainer goes on with the scheduler's own learning rate, whatever the configuration says."""
    import torch

    if not is_file(checkpoint / SCHEDULER):  # saved in pieces, by several processes
        return
    state = torch.load(checkpoint / SCHEDULER, map_location="cpu", weights_only=True)
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
