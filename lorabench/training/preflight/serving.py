"""What vLLM will need and refuse, for a configuration and for a finished adapter; no torch here.

From vLLM's reader of adapter_config.json (vllm/lora/peft_helper.py, lora_weights.py; 0.11 and later) and its
list of ranks (`MaxLoRARanks` in vllm/config/lora.py).
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorabench.adapters.config import finite_number, mapping
from lorabench.adapters.layers import OTHER_RANK
from lorabench.adapters.model import Adapter
from lorabench.files import at_home, is_folder
from lorabench.text import shorten, visible
from lorabench.training.preflight.finding import Finding, Level, Mend

if TYPE_CHECKING:
    from lorabench.training.config.run_config import RunConfig

CHECK = "serving"
MAX_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_MERGE = "Merged into its base (merge_and_unload of PEFT) it can be served as a whole model."
# Initialisations that move a part of the base weight into A and B: the adapter fits no unchanged base model.
_MOVES_THE_BASE = re.compile(r"pissa(_niter_\d+)?|olora|corda|loftq|lora_ga")


def max_lora_rank(ranks: Iterable[int]) -> int | None:
    """Return the smallest --max-lora-rank that vLLM takes for these ranks; None for more than its largest."""
    largest = max(ranks, default=1)
    return next((allowed for allowed in MAX_LORA_RANKS if allowed >= largest), None)


def serve_command(base: str, adapter: Path, rank: int) -> str:
    """Return the `vllm serve` command for an adapter, quoted for a shell; folders are absolute."""
    folder = at_home(base)
    model = str(folder.absolute()) if is_folder(folder) else base
    place = adapter.absolute()
    name = re.sub(r"[^\w.-]", "-", place.name)
    words = ["vllm", "serve", model, "--enable-lora", "--max-lora-rank", str(rank)]
    return shlex.join([*words, "--lora-modules", f"{name}={place}"])


def serving_findings(config: RunConfig) -> list[Finding]:
    """Say whether vLLM will serve what this configuration trains, and by which command.

    What it refuses is a warning here: the adapter may be meant for another server, or to be merged.
    """
    if not config.get("use_peft"):
        return []
    settings = {
        "r": config.get("lora_r"),
        "lora_alpha": config.get("lora_alpha"),
        "use_dora": config.get("use_dora"),
        "use_rslora": config.get("use_rslora"),
        "modules_to_save": config.get("lora_modules_to_save"),
        **config.lora_extra,
    }
    ranks = _ranks(settings)
    refused = list(_refusals(settings, "warning"))
    found = [*_with_rank(refused, ranks), *_scaling(settings)]
    base = str(config.get("model_name_or_path") or "BASE_MODEL")
    return found + _served(bool(refused), ranks, _command(base, config.folder, ranks), "warning")


def serve_findings(adapter: Adapter) -> list[Finding]:
    """Say whether vLLM will serve a finished adapter, and by which command; what it refuses is an error."""
    found: list[Finding] = []
    if adapter.format != "PEFT":
        message = f"vLLM reads adapters in PEFT's format; this one is in {adapter.format}'s."
        return [Finding(CHECK, "error", message)]
    if not adapter.config:
        return [Finding(CHECK, "error", "There is no usable adapter_config.json, which vLLM needs.")]
    found += _refusals(adapter.config, "error")
    if not any(finding.level == "error" for finding in found):
        stored = {other.role for other in adapter.others}
        if "bias" in stored:
            found.append(Finding(CHECK, "error", "The file holds biases, which vLLM does not take."))
        if "modules_to_save" in stored:
            message = "The file holds whole modules beside A and B, which vLLM does not take."
            found.append(Finding(CHECK, "error", message))
    found += _numbers(adapter)
    refused = bool(found)
    found = _with_rank(found, adapter.ranks)
    found += _scaling(adapter.config)
    place = adapter.path if adapter.path is None or is_folder(adapter.path) else adapter.path.parent
    base = adapter.base_model or "BASE_MODEL"
    command = _command(base, place, adapter.ranks) if place is not None else None
    if adapter.base_model is None:
        found.append(
            Finding(CHECK, "warning", "The adapter does not name its base model: fill in BASE_MODEL.")
        )
    return found + _served(refused, adapter.ranks, command, "error")


def _command(base: str, adapter: Path, ranks: Iterable[int]) -> str | None:
    """Return the command, or None where the rank is more than vLLM serves."""
    rank = max_lora_rank(ranks)
    return None if rank is None else serve_command(base, adapter, rank)


def _served(refused: bool, ranks: Iterable[int], command: str | None, level: Level) -> list[Finding]:
    rank = max_lora_rank(ranks)
    if rank is None:
        message = (
            f"r = {max(ranks)} is more than vLLM serves: its largest --max-lora-rank is {MAX_LORA_RANKS[-1]}."
        )
        return [Finding(CHECK, level, message)]
    if refused:
        return []
    return [Finding(CHECK, "ok", f"vLLM serves it, with --max-lora-rank {rank}.", visible(command or ""))]


def _with_rank(refused: list[Finding], ranks: Iterable[int]) -> list[Finding]:
    """Add to the first thing that vLLM refuses the rank that it would need, were that mended."""
    rank = max_lora_rank(ranks)
    if not refused or rank is None:
        return refused
    first, needed = refused[0], f"Without that vLLM needs --max-lora-rank {rank}."
    return [replace(first, detail=f"{needed}\n{first.detail}".strip()), *refused[1:]]


def _ranks(settings: Mapping[str, Any]) -> list[int]:
    numbers = [settings.get("r"), *mapping(settings.get("rank_pattern")).values()]
    return [int(number) for value in numbers if (number := finite_number(value)) is not None]


def _refusals(settings: Mapping[str, Any], level: Level) -> Iterator[Finding]:
    """What vLLM's `PEFTHelper.validate_legal` rejects, and what it would load and compute wrongly."""
    if settings.get("use_dora"):
        yield Finding(CHECK, level, "vLLM refuses DoRA.", _MERGE, Mend("use_dora false", {"use_dora": False}))
    if settings.get("modules_to_save"):
        names = ", ".join(visible(name) for name in settings["modules_to_save"])
        message = f"vLLM refuses modules_to_save ({names}): it takes A and B alone."
        yield Finding(CHECK, level, message, _MERGE, Mend("save none", {"lora_modules_to_save": None}))
    bias = settings.get("bias") or "none"
    if bias != "none":
        message = f"vLLM refuses trained biases (bias: {visible(bias)})."
        yield Finding(CHECK, level, message, _MERGE, Mend("train no biases", {"bias": "none"}))
    if settings.get("lora_bias"):
        message = "vLLM refuses biases in B (lora_bias)."
        yield Finding(CHECK, level, message, _MERGE, Mend("no lora_bias", {"lora_bias": False}))
    begun = str(settings.get("init_lora_weights", True)).lower()
    if _MOVES_THE_BASE.fullmatch(begun):
        yield Finding(
            CHECK,
            level,
            f"An adapter that began as {visible(begun)} fits a changed base model, not vLLM's.",
            "Save it with PEFT's path_initial_model_for_weight_conversion, which doubles r, or merge it.",
            Mend("begin as usual", {"init_lora_weights": True}),
        )
    if settings.get("trainable_token_indices"):
        message = "Trained tokens (trainable_token_indices) need a vLLM with --max-lora-trainable-tokens."
        yield Finding(CHECK, level, message)


def _numbers(adapter: Adapter) -> Iterator[Finding]:
    """What leaves vLLM's scaling without a value, or the tensors with another rank than the file says.

    It has no defaults for r and lora_alpha (`PEFTHelper`), and divides the one by the other.
    """
    for name, least in (("r", 1), ("lora_alpha", -math.inf)):
        number = finite_number(adapter.config.get(name))
        if number is None or number < least:
            written = shorten(visible(json.dumps(adapter.config.get(name), default=str)), 40)
            told = f"is {written}" if name in adapter.config else "is missing"
            message = f"{name} {told} in adapter_config.json: vLLM divides lora_alpha by r."
            yield Finding(CHECK, "error", message, "Write there what the adapter was trained with.")
    told_by: dict[str, list[str]] = {}
    for layer in adapter.layers:
        for finding in layer.findings:
            if finding.level == "error" or finding.hint == OTHER_RANK:
                told_by.setdefault(finding.message, []).append(visible(layer.name))
    for message, names in told_by.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield Finding(CHECK, "error", f"{names[0]}{more}: {visible(message)}")


def _scaling(settings: Mapping[str, Any]) -> Iterator[Finding]:
    """vLLM scales every module by the one lora_alpha and r of the file (`LoRALayerWeights.from_config`)."""
    r, lora_alpha = finite_number(settings.get("r")), finite_number(settings.get("lora_alpha"))
    if not r or lora_alpha is None:
        return
    power = 0.5 if settings.get("use_rslora") else 1.0
    alphas, others = mapping(settings.get("alpha_pattern")), mapping(settings.get("rank_pattern"))
    wrong = []
    for pattern in dict.fromkeys([*others, *alphas]):
        rank = finite_number(others.get(pattern, r))
        scaled = finite_number(alphas.get(pattern, lora_alpha))
        if rank and scaled is not None and scaled / rank**power != lora_alpha / r**power:
            wrong.append(f"{visible(pattern)} (trained with {scaled / rank**power:g})")
    if wrong:
        yield Finding(
            CHECK,
            "warning",
            f"vLLM scales all modules by {lora_alpha / r**power:g}, and so wrongly: {', '.join(wrong)}.",
            "It reads lora_alpha and r, not alpha_pattern nor rank_pattern. Choose an alpha_pattern that "
            "gives the same scaling everywhere, or merge the adapter.",
        )
