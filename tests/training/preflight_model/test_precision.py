"""Precision: what the trainer is told here, and what this device cannot do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lorabench.training.preflight.precision import precision_findings
from tests.training.preflight_model.conftest import Configure

GPU: dict[str, Any] = {"use_cpu": False, "precision": "auto", "dtype": "bfloat16"}


@pytest.mark.parametrize(
    ("capability", "begin"), [((9, 0), "bf16:"), ((7, 5), "fp16:"), ((6, 1), "fp32:"), (None, "fp32:")]
)
def test_auto_is_said_with_its_reason(
    configure: Configure, samples: Path, capability: tuple[int, int] | None, begin: str
) -> None:
    found = precision_findings(configure(samples / "demo-model", **GPU), capability, look=False)
    assert found[0].level == "ok"
    assert found[0].message.startswith(begin)


@pytest.mark.parametrize(
    ("fields", "capability", "level", "words"),
    [
        ({"use_cpu": False, "bf16": True, "dtype": "bfloat16"}, None, "warning", "without use_cpu"),
        (GPU | {"precision": "bf16"}, (7, 0), "warning", "this GPU has 7.0"),
        (GPU | {"dtype": "float32"}, (8, 0), "advice", "dtype is float32"),
        (GPU | {"load_in_4bit": True}, (7, 5), "warning", "dtype is bfloat16, in which 4-bit"),
        (GPU | {"use_cpu": True, "precision": "fp16"}, None, "error", "fp16 needs a GPU"),
        (GPU | {"use_cpu": True, "load_in_4bit": True}, None, "warning", "need a GPU"),
    ],
)
def test_what_this_device_cannot_do_is_said_and_mended(
    configure: Configure,
    samples: Path,
    fields: dict[str, Any],
    capability: tuple[int, int] | None,
    level: str,
    words: str,
) -> None:
    config = configure(samples / "demo-model", **fields)
    (found,) = precision_findings(config, capability, look=False)[1:]
    assert found.level == level
    assert words in found.message
    assert found.mend is not None
    config.apply(found.mend.changes)
    assert len(precision_findings(config, capability, look=False)) == 1


def test_a_fresh_run_has_nothing_to_mend_without_a_gpu(configure: Configure, samples: Path) -> None:
    assert len(precision_findings(configure(samples / "demo-model", **GPU), None, look=False)) == 1
