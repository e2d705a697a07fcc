"""`auto` chooses what the device computes well, and says why."""

import pytest

from lorabench.training.config.precision import choose_precision
from lorabench.training.config.run_config import RunConfig


@pytest.mark.parametrize(
    ("capability", "name", "why"),
    [
        (None, "fp32", "no GPU"),
        ((6, 1), "fp32", "6.1 < 7.0"),
        ((7, 0), "fp16", "7.0 < 8.0"),  # V100
        ((7, 5), "fp16", "7.5 < 8.0"),  # T4
        ((8, 0), "bf16", "8.0 ≥ 8.0"),  # A100
        ((8, 9), "bf16", "8.9 ≥ 8.0"),  # L4, RTX 4090
        ((9, 0), "bf16", "9.0 ≥ 8.0"),  # H100
        ((12, 0), "bf16", "12.0 ≥ 8.0"),  # RTX 5090
    ],
)
def test_auto_chooses_by_compute_capability(capability, name, why):
    precision = choose_precision(capability)
    assert precision.name == name
    assert (precision.bf16, precision.fp16) == (name == "bf16", name == "fp16")
    assert precision.reason.startswith(f"{name}: ")
    assert why in precision.reason


@pytest.mark.parametrize("wanted", ["bf16", "fp16", "fp32"])
def test_what_the_file_asks_for_is_taken(wanted):
    precision = choose_precision(None, wanted)
    assert (precision.name, precision.reason) == (wanted, f"{wanted}, as the file says.")


@pytest.mark.parametrize(
    ("text", "precision"),
    [
        ("lora_r: 8", "auto"),
        ("bf16: true", "bf16"),
        ("fp16: true", "fp16"),
        ("bf16: false", "fp32"),
        ("fp16: false", "auto"),  # TRL takes bf16
        ("bf16: null", "auto"),
        ("bf16: false\nenv: {LORABENCH: {precision: auto}}", "auto"),
        ("bf16: true\nenv: {LORABENCH: {precision: auto}}", "bf16"),
        ("fp16: 'true'\nenv: {LORABENCH: {precision: auto}}", "fp16"),
    ],
)
def test_a_file_asks_for_a_precision(text, precision):
    assert RunConfig(text).precision == precision


@pytest.mark.parametrize("wanted", ["auto", "bf16", "fp16", "fp32"])
@pytest.mark.parametrize(
    "before", ["lora_r: 8\n", "bf16: true\n", "env: {LORABENCH: {precision: auto}, A: b}\n"]
)
def test_a_precision_that_is_set_is_what_is_read(before, wanted):
    config = RunConfig(before)
    config.set("precision", wanted)
    assert config.get("precision") == wanted
    assert not config.problems
    assert config.values["bf16"] is (wanted == "bf16")
    if "A:" in before:
        assert config.values["env"]["A"] == "b"
