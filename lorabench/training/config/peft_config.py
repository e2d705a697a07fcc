"""Build PEFT's LoraConfig from a configuration: the one place where that is done."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from peft import LoraConfig
from trl.trainer.model_config import ModelConfig
from trl.trainer.utils import get_peft_config

from lorabench.text import visible
from lorabench.training.config.field import ConfigError

if TYPE_CHECKING:
    from lorabench.training.config.run_config import RunConfig


def peft_config(config: RunConfig) -> LoraConfig | None:
    """Return what `trl sft` would give to PEFT, with the fields that TRL lacks added; None without use_peft.

    Raises:
        ConfigError: PEFT refuses it; says why.
    """
    names = (field.name for field in dataclasses.fields(ModelConfig))
    try:
        lora = get_peft_config(ModelConfig(**{name: config.get(name) for name in names}))
        return dataclasses.replace(lora, **config.lora_extra) if isinstance(lora, LoraConfig) else None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"PEFT refuses this LoRA configuration: {visible(error)}") from error
