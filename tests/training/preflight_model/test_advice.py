"""Advice: opinions with a source, and only where there is something to say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lorabench.training.preflight.advice import advice_findings
from tests.training.preflight_model.conftest import Configure

CALM: dict[str, Any] = {"learning_rate": 2e-4}


def test_a_usual_configuration_gets_no_advice(configure: Configure, samples: Path) -> None:
    assert advice_findings(configure(samples / "demo-model", **CALM), rows=500) == []


@pytest.mark.parametrize(
    ("fields", "rows", "words"),
    [
        ({"learning_rate": 2e-5}, None, "learning_rate 2e-05 is one for full fine-tuning"),
        ({"lora_target_modules": ["q_proj", "v_proj"]}, None, "in the attention alone"),
        ({"lora_r": 8, "lora_alpha": 128}, None, "lora_alpha / r = 16 is unusually large"),
        ({"lora_r": 16, "lora_alpha": 1}, None, "lora_alpha / r = 0.0625 is unusually small"),
        ({"lora_r": 256, "lora_alpha": 16}, None, "rsLoRA divides by √r"),
        ({"lora_r": 64, "lora_alpha": 64}, 200, "r = 64 for 200 rows"),
    ],
)
def test_what_is_unusual_is_said_with_its_source_and_mended(
    configure: Configure, samples: Path, fields: dict[str, Any], rows: int | None, words: str
) -> None:
    config = configure(samples / "demo-model", **(CALM | fields))
    (found,) = advice_findings(config, rows=rows)
    assert found.level == "advice"
    assert words in found.message
    assert "https://" in found.detail
    assert found.mend is not None
    config.apply(found.mend.changes)
    assert advice_findings(config, rows=rows) == []


def test_a_large_batch_is_said(configure: Configure, samples: Path) -> None:
    config = configure(
        samples / "demo-model", **CALM, per_device_train_batch_size=32, gradient_accumulation_steps=8
    )
    (found,) = advice_findings(config)
    assert "effective batch of 256" in found.message
