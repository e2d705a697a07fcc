"""adapter_config.json: read with suspicion, and the scaling that PEFT would compute from it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorabench.adapters.model import Finding
from lorabench.adapters.patterns import PatternMatcher
from lorabench.files import open_plain
from lorabench.json_text import parse_json
from lorabench.text import shorten, visible

CONFIG_NAME = "adapter_config.json"
_LARGEST_CONFIG = 16_000_000
# LoraConfig's own defaults: PEFT uses them where the file leaves a field out.
_PEFT_DEFAULTS = {"r": 8, "lora_alpha": 8}
UNKNOWN = "The scaling is unknown and counts as 1."


def read_config(folder: Path) -> tuple[dict[str, Any], list[Finding]]:
    """Read `folder`/adapter_config.json; a missing or damaged one is an empty dict and a finding."""
    path = folder / CONFIG_NAME
    try:
        with open_plain(path) as file:
            text = file.read(_LARGEST_CONFIG + 1)
        if len(text) > _LARGEST_CONFIG:
            raise ValueError("it is larger than 16 MB")
        config = parse_json(text)
    except FileNotFoundError:
        return {}, []
    except OSError as error:
        return {}, [_damaged(error.strerror)]
    except ValueError as error:
        return {}, [_damaged(error)]
    if not isinstance(config, dict):
        return {}, [_damaged("it is not a JSON object")]
    return config, []


def _damaged(reason: object) -> Finding:
    return Finding("warning", f"{CONFIG_NAME} cannot be read: {visible(reason)}. {UNKNOWN}")


def finite_number(value: object) -> float | None:
    """Return `value` where it is a finite number (a bool is none), else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # JSON may hold an integer of any length
        return None
    return number if math.isfinite(number) else None


def mapping(value: object) -> Mapping[str, Any]:
    """Return `value` where it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


@dataclass(frozen=True, slots=True)
class ModuleSettings:
    """What the configuration, or the module's own alpha, says of one module; None where it does not tell."""

    rank: int | None
    lora_alpha: float | None
    scaling: float | None
    finding: Finding | None = None


class LoraSettings:
    """A LoRA configuration's numbers, module by module, as PEFT reads them.

    scaling = lora_alpha / r, or lora_alpha / sqrt(r) with use_rslora, where rank_pattern and alpha_pattern
    override r and lora_alpha. `findings` says what was missing or nonsense.
    """

    def __init__(self, config: Mapping[str, Any], modules: list[str], matcher: PatternMatcher) -> None:
        self.findings: list[Finding] = []
        self._matcher = matcher
        self.rslora = config.get("use_rslora") is True
        self._rank = self._number(config, "r")
        self._lora_alpha = self._number(config, "lora_alpha")
        self._ranks = self._pattern(config, "rank_pattern", modules)
        self._alphas = self._pattern(config, "alpha_pattern", modules)

    def of(self, module: str) -> ModuleSettings:
        """Return rank, lora_alpha and scaling of a module, named as in the base model."""
        rank, lora_alpha = self._ranks.get(module, self._rank), self._alphas.get(module, self._lora_alpha)
        if rank is None or lora_alpha is None:
            return ModuleSettings(None if rank is None else int(rank), lora_alpha, None)
        scaling = lora_alpha / (math.sqrt(rank) if self.rslora else rank)
        return ModuleSettings(int(rank), lora_alpha, scaling)

    def _number(self, config: Mapping[str, Any], key: str) -> float | None:
        if key not in config:
            default = _PEFT_DEFAULTS[key]
            self._warn(f"The configuration has no {key}: PEFT's default, {default}, is used.")
            return default
        return self._checked(key, config[key])

    def _pattern(self, config: Mapping[str, Any], key: str, modules: list[str]) -> dict[str, float | None]:
        patterns = mapping(config.get(key))
        found, problem = self._matcher.match([str(pattern) for pattern in patterns], modules)
        if problem:
            self._warn(f"{key} cannot be applied: {problem}. {UNKNOWN}")
            return dict.fromkeys(modules)
        numbers = {
            pattern: self._checked(f"{key} of {visible(pattern)}", patterns[pattern])
            for pattern in dict.fromkeys(found.values())
        }
        return {module: numbers[pattern] for module, pattern in found.items()}

    def _checked(self, label: str, value: object) -> float | None:
        number = finite_number(value)
        is_rank = label.startswith(("r", "rank_pattern"))
        if number is None or (is_rank and (number < 1 or not number.is_integer())):
            written = shorten(visible(json.dumps(value, default=str)), 40)
            self._warn(f"{label} is {written}, which is no use. {UNKNOWN}")
            return None
        if number == 0:
            self._warn(f"{label} is 0: PEFT multiplies the update by zero.")
        return number

    def _warn(self, message: str) -> None:
        self.findings.append(Finding("warning", message))
