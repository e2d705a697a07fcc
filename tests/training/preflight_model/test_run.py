"""The first check of all: what is wrong with the fields, and what `trl sft` would pass by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lorabench.training.config.run_config import RunConfig
from lorabench.training.preflight.finding import Finding
from lorabench.training.preflight.run import CHECKS, findings_of
from tests.training.preflight_model.conftest import Configure


def of_config(config: RunConfig) -> list[Finding]:
    return list(findings_of(CHECKS[0], config))


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"rank_pattern": {"o_proj": 16}}, "rank_pattern"),
        ({"bias": "lora_only", "layers_to_transform": [0]}, "bias, layers_to_transform"),
        ({"lora_bias": True}, "lora_bias"),
    ],
)
def test_what_trl_sft_would_train_without_is_a_warning_with_what_to_do(
    configure: Configure, samples: Path, fields: dict[str, Any], names: str
) -> None:
    fine, told = of_config(configure(samples / "demo-model", **fields))
    assert fine.level == "ok"
    assert told.level == "warning"
    assert told.message == f"`trl sft` would train without {names} (under env: LORABENCH: lora:)."
    assert "Start the run with lorabench train" in told.detail


def test_trl_gives_peft_a_configuration_without_them_as_the_warning_says(
    configure: Configure, samples: Path
) -> None:
    from trl import ModelConfig, get_peft_config

    config = configure(samples / "demo-model", rank_pattern={"o_proj": 16}, lora_r=4)
    ours = config.peft_config()
    theirs = get_peft_config(ModelConfig(use_peft=True, lora_r=4))
    assert ours is not None
    assert (ours.rank_pattern, theirs.rank_pattern) == ({"o_proj": 16}, {})


@pytest.mark.parametrize(
    "fields",
    [{}, {"bias": "none", "init_lora_weights": True}, {"rank_pattern": {"q": 1}, "use_peft": False}],
)
def test_where_both_train_the_same_nothing_is_said(
    configure: Configure, samples: Path, fields: dict[str, Any]
) -> None:
    assert [found.level for found in of_config(configure(samples / "demo-model", **fields))] == ["ok"]
