"""Which modules the adapters will sit on, by PEFT's own matching."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

from lorabench.text import natural, visible
from lorabench.training.preflight.finding import Finding, Level, Mend
from lorabench.training.preflight.meta_model import MetaModel, described
from lorabench.training.preflight.narrowing import listed, narrowing_findings

if TYPE_CHECKING:
    from lorabench.training.config.run_config import RunConfig

CHECK = "coverage"
SEVEN = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_NARROWING = ("layers_to_transform", "layers_pattern", "exclude_modules")
_NUMBERED = re.compile(r"^(?P<stack>.*?)\.(?P<layer>\d+)\.")


def coverage_findings(config: RunConfig) -> list[Finding]:
    """Say for each target how many modules it matches, in which layers, and what PEFT stays silent on.

    A target that matches nothing is an error, and so is a modules_to_save that does not: PEFT itself
    raises only where nothing at all matches.
    """
    model = described(config) if config.get("use_peft") else None
    if model is None:
        return []
    if not model.asked:
        return [Finding(CHECK, "error", model.problem)]
    findings = list(_targets(config, model))
    findings += _modules_to_save(config, model)
    findings += _lm_head(config, model)
    findings += _tied(model)
    findings += _experts(model)
    if model.problem and (_of_experts(model) or all(finding.level != "error" for finding in findings)):
        mend = Mend("lora_dropout 0", {"lora_dropout": 0.0}) if "lora_dropout" in model.problem else None
        findings.append(
            Finding(CHECK, "error", f"PEFT refuses: {_shortened(model.problem)}", model.problem, mend)
        )
    return [*findings, *narrowing_findings(config, model, CHECK)]


def _of_experts(model: MetaModel) -> bool:
    """Whether PEFT refused what was to go on a mixture's experts, which are parameters and no modules."""
    return model.problem.startswith(("Cannot convert PEFT target", "lora.ParamWrapper"))


def _targets(config: RunConfig, model: MetaModel) -> Iterator[Finding]:
    written = listed(config.get("lora_target_modules"))
    if not model.matches and not config.get("lora_target_parameters"):
        mend = Mend("target all linear modules", {"lora_target_modules": ["all-linear"]})
        message = "No lora_target_modules, and PEFT knows no usual ones for this architecture."
        yield Finding(CHECK, "error", message, mend=mend, field="lora_target_modules")
        return
    alike: dict[tuple[Level, str], list[str]] = {}
    order = {target: at for at, target in enumerate(written)}
    for target, modules in sorted(model.matches.items(), key=lambda item: order.get(item[0], 0)):
        if target.lower() == "all-linear":
            kinds = Counter(name.rpartition(".")[2] for name in modules)
            each = ", ".join(f"{visible(kind)} {count}" for kind, count in kinds.items())
            yield Finding(CHECK, "ok", f"all-linear matches {len(modules)} modules: {each}.")
        elif not modules and (target in model.fused or _of_experts(model)):
            continue
        elif not modules:
            yield replace(_nothing(config, model, target, written), field="lora_target_modules")
        else:
            alike.setdefault(_where(config, model, modules), []).append(visible(target))
    usual = "" if written else "No lora_target_modules: PEFT's usual ones are taken. "
    for (level, where), targets in alike.items():
        verb = f"{', '.join(targets)} " + ("match" if len(targets) > 1 else "matches")
        each = " each" if len(targets) > 1 else ""
        count, _, layers = where.partition("|")
        noun = "module" if count == "1" else "modules"
        yield Finding(CHECK, level, f"{usual}{verb} {count} {noun}{each} {layers}.")


def _nothing(config: RunConfig, model: MetaModel, target: str, written: Sequence[str]) -> Finding:
    """A target that reaches no module, with what was likely meant."""
    names = list(dict.fromkeys(name.rpartition(".")[2] for name in model.modules))
    alone = isinstance(getattr(config.peft_config(), "target_modules", None), str)
    if alone and target in names:
        pattern = rf".*\.{re.escape(target)}"
        return Finding(
            CHECK,
            "error",
            f"{visible(target)} matches nothing: a single target is a regular expression, "
            "and has to match a module's whole path.",
            "TRL makes a list of one a string, and PEFT reads a string as a regular expression (fullmatch).",
            Mend(f"write {pattern}", {"lora_target_modules": [pattern]}),
        )
    several = re.split(r"[\s,]+", target.strip())
    if alone and len(several) > 1 and any(name in names for name in several):
        return Finding(
            CHECK,
            "error",
            f"{visible(target)} matches nothing: one text is one regular expression, not a list of names.",
            mend=Mend("write a list", {"lora_target_modules": several}),
        )
    held_back = _held_back(config, model, target)
    if held_back:
        return Finding(
            CHECK, "error", f"{visible(target)} matches nothing: {held_back} takes all of it away."
        )
    near = get_close_matches(target.rpartition(".")[2], names, n=1, cutoff=0.5)
    if not near:
        usual = ", ".join(_adaptable(model))
        return Finding(CHECK, "error", f"{visible(target)} matches nothing; this model has {visible(usual)}.")
    mended = list(dict.fromkeys(near[0] if name == target else name for name in written))
    if len(mended) == 1:
        mended = [rf".*\.{re.escape(mended[0])}"]
    return Finding(
        CHECK,
        "error",
        f"{visible(target)} matches nothing — did you mean {visible(near[0])}?",
        mend=Mend(f"target {visible(near[0])}", {"lora_target_modules": mended}),
    )


def _held_back(config: RunConfig, model: MetaModel, target: str) -> str:
    """Name the setting that keeps a target from modules that carry its name."""
    if not any(name == target or name.endswith(f".{target}") for name in model.modules):
        return ""
    narrowing = [name for name in _NARROWING if config.lora_extra.get(name)]
    if config.get("lora_modules_to_save"):
        narrowing.append("lora_modules_to_save")
    return " or ".join(narrowing)


def _where(config: RunConfig, model: MetaModel, modules: Sequence[str]) -> tuple[Level, str]:
    """Say how many and in which layers; a warning where some layers lack it and nobody asked for that."""
    hit = _by_stack(modules)
    if not hit:
        return "ok", f"{len(modules)}|(outside the layers)"
    stacks = _by_stack(model.modules)
    places, lacking = [], []
    for stack, layers in hit.items():
        label = f"{visible(stack)} " if len(hit) > 1 else ""
        places.append(f"{label}layers {ranges(layers)}")
        if missing := stacks[stack] - layers:
            lacking.append(f"not {label}layers {ranges(missing)}")
    asked = any(config.lora_extra.get(name) for name in _NARROWING)
    text = f"{len(modules)}|({'; '.join(places)})"
    if not lacking or asked:
        return "ok", text
    return "warning", f"{text}, {'; '.join(lacking)}"


def _by_stack(names: Iterable[str]) -> dict[str, set[int]]:
    stacks: dict[str, set[int]] = {}
    for name in names:
        if found := _NUMBERED.match(f"{name}."):
            stacks.setdefault(found["stack"], set()).add(int(found["layer"]))
    return stacks


def ranges(numbers: Iterable[int]) -> str:
    """Write numbers as ranges: {0, 1, 2, 5} → `0–2, 5`."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}–{high}" for low, high in runs)


def _modules_to_save(config: RunConfig, model: MetaModel) -> Iterator[Finding]:
    wanted = listed(config.get("lora_modules_to_save"))
    names = list(dict.fromkeys(name.rpartition(".")[2] for name in model.modules))
    for each in wanted:
        found = [name for name in model.modules if name.endswith(each)]  # as PEFT's _set_trainable
        if found:
            message = (
                f"{visible(each)} is trained in full: {len(found)} modules."
                if len(found) > 1
                else (f"{visible(each)} is trained in full.")
            )
            yield Finding(CHECK, "ok", message)
            continue
        near = get_close_matches(each, names, n=1, cutoff=0.5)
        meant = f" — did you mean {visible(near[0])}?" if near else "."
        mended = [near[0] if near and name == each else name for name in wanted]
        mend = Mend(f"save {visible(near[0])}", {"lora_modules_to_save": mended}) if near else None
        yield Finding(
            CHECK, "error", f"lora_modules_to_save: {visible(each)} matches nothing{meant}", mend=mend
        )


def _lm_head(config: RunConfig, model: MetaModel) -> Iterator[Finding]:
    """TRL computes the loss from lm_head.weight itself, and SFTTrainer refuses an adapter there."""
    head = model.output_embeddings
    if head is None or head not in model.adapted:
        return
    written = listed(config.get("lora_target_modules"))
    kept = [name for name in written if head not in model.matches.get(name, ())]
    mend = Mend(f"leave out {head}", {"lora_target_modules": kept}) if len(kept) > 1 else None
    message = f"SFTTrainer refuses an adapter on {head}: it computes the loss from the weight alone."
    yield Finding(CHECK, "error", message, "lora_modules_to_save trains it in full instead.", mend)


def _tied(model: MetaModel) -> Iterator[Finding]:
    touched = [*model.adapted, *model.saved]
    for names in model.tied:
        owners = [name.rpartition(".")[0] for name in names]
        ours = [owner for owner in owners if owner in touched]
        if ours:
            others = ", ".join(owner for owner in owners if owner not in ours) or "each other"
            yield Finding(
                CHECK,
                "warning",
                f"{', '.join(ours)} shares its weight with {others}: training one of them unties them.",
                "Merging and serving it then need care. ensure_weight_tying keeps them together.",
            )
    embeddings = model.input_embeddings
    if embeddings in touched and not model.tied:
        yield Finding(CHECK, "ok", f"{embeddings}, the embedding, is trained too.")


def _experts(model: MetaModel) -> Iterator[Finding]:
    """Say whether a mixture's experts are adapted: their weights are parameters, not modules."""
    held = {
        name: weight for name, weight in model.weights.items() if len(weight.shape) == 3 and "expert" in name
    }
    if not held or model.problem:
        return
    kinds = sorted({re.sub(r"^.*\.\d+\.", "", name) for name in held})
    experts = next(iter(held.values())).shape[0]
    if model.experts:
        layers = ranges(set().union(*_by_stack(model.experts).values()))
        said = f"{', '.join(model.fused)}: PEFT adapts " if model.fused else "Adapts "
        message = f"{said}all {experts} experts of {len(model.experts)} tensors (layers {layers})."
        yield Finding(CHECK, "ok", message)
    else:
        share = sum(weight.size for weight in held.values()) / model.total
        yield Finding(
            CHECK,
            "ok",
            f"The {experts} experts of each layer, {share:.0%} of all weights, are not adapted.",
            f"They are parameters, which lora_target_parameters reaches: {', '.join(kinds)}.",
        )


def _adaptable(model: MetaModel) -> list[str]:
    kinds = {
        name.rpartition(".")[2] for name, owner in model.modules.items() if owner in ("Linear", "Conv1D")
    }
    return sorted(kinds, key=natural)[:8]


def _shortened(problem: str) -> str:
    """Cut a module's whole printed structure out of what PEFT says."""
    return re.sub(r"\(␊.*␊\)", "", problem).split("␊")[0]
