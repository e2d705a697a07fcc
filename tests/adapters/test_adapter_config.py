"""adapter_config.json: PEFT's own scaling where it is sound, a finding where it is not."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig
from peft.utils.other import get_pattern_key
from safetensors.numpy import save_file

from lorabench.adapters import patterns
from lorabench.adapters.model import Adapter
from lorabench.adapters.open import open_adapter
from lorabench.adapters.patterns import PatternMatcher

MODULES = [
    "model.layers.0.q_proj",
    "model.layers.10.q_proj",
    "model.layers.1.mlp.up_proj",
    "q_proj",
    "lm_head",
]


def state(*modules: str) -> dict[str, np.ndarray]:
    found = {}
    for module in modules or ("layers.0.q_proj",):
        found[f"base_model.model.{module}.lora_A.weight"] = np.ones((4, 8), np.float32)
        found[f"base_model.model.{module}.lora_B.weight"] = np.ones((8, 4), np.float32)
    return found


def opened(config: dict[str, Any], *modules: str) -> Adapter:
    return open_adapter(state(*modules), config=config)


def test_the_scaling_is_lora_alpha_over_r() -> None:
    assert opened({"r": 4, "lora_alpha": 6}).layers[0].scaling == 1.5
    assert opened({"r": 4, "lora_alpha": 6, "use_rslora": True}).layers[0].scaling == 3.0


def test_without_a_configuration_the_scaling_is_unknown() -> None:
    adapter = open_adapter(state())
    assert adapter.layers[0].scaling is None
    assert "scaling is unknown" in adapter.findings[0].message
    np.testing.assert_array_equal(adapter.layers[0].delta_weight(), np.full((8, 8), 4.0))


@pytest.mark.parametrize("value", ["16", None, math.nan, math.inf, True, [], {}, 10**400])
@pytest.mark.parametrize("key", ["lora_alpha", "r"])
def test_nonsense_is_a_finding_that_names_it(key: str, value: object) -> None:
    adapter = opened({"r": 4, "lora_alpha": 8} | {key: value})
    assert adapter.layers[0].scaling is None
    (finding,) = adapter.findings
    assert finding.message.startswith(f"{key} is ")
    assert "scaling is unknown" in finding.message


@pytest.mark.parametrize("r", [0, -4, 2.5])
def test_a_rank_that_is_none(r: object) -> None:
    assert opened({"r": r, "lora_alpha": 8}).layers[0].scaling is None


def test_a_missing_field_is_what_peft_makes_of_it() -> None:
    adapter = opened({"r": 4, "peft_type": "LORA"})
    assert adapter.layers[0].scaling == 8 / 4
    assert adapter.findings[0].message == "The configuration has no lora_alpha: PEFT's default, 8, is used."


def test_a_lora_alpha_of_zero_is_zero_as_in_peft() -> None:
    adapter = opened({"r": 4, "lora_alpha": 0})
    assert adapter.layers[0].scaling == 0.0
    assert "multiplies the update by zero" in adapter.findings[0].message


def test_a_rank_that_differs_is_told_with_both_numbers() -> None:
    layer = opened({"r": 16, "lora_alpha": 8}).layers[0]
    assert (layer.rank, layer.scaling) == (4, 0.5)
    assert layer.findings[0].message == "The configuration says r = 16, the tensors have r = 4."


@pytest.mark.parametrize("text", ["{", "[]", "3", "", "\xff\xfe", "[" * 100_000, '{"r": ' + "9" * 5000 + "}"])
def test_a_damaged_file_opens_with_a_finding(text: str, tmp_path: Path) -> None:
    save_file(state(), tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(text, encoding="latin1")
    adapter = open_adapter(tmp_path)
    assert adapter.layers[0].scaling is None
    assert ["adapter_config.json cannot be read" in f.message for f in adapter.findings] == [True]


@pytest.mark.parametrize("key", ["rank_pattern", "alpha_pattern"])
@pytest.mark.parametrize("value", [None, [], "x", {"q_proj": "8"}, {"q_proj": None}, {"(": 3}, {"*": 3}])
def test_a_pattern_that_is_nonsense_is_no_traceback(key: str, value: object) -> None:
    adapter = opened({"r": 4, "lora_alpha": 8, key: value}, "layers.0.q_proj")
    useless = isinstance(value, dict)
    assert (adapter.layers[0].scaling is None) == useless
    assert any(key in finding.message for finding in adapter.findings) == useless


PATTERNS = [
    ["q_proj"],
    ["layers.1.q_proj", "layers.0.q_proj", "q_proj"],
    ["up_proj", "mlp.up_proj"],
    [r"model\.layers\.(0|1)\..*", "q_proj"],
    [r".*\.1.*_proj"],
    ["^lm_head$", "lm"],
    ["ayers.10.q_proj", "layers.?.q_proj", r"layers.\d+.q_proj"],
    ["proj"],
    [],
]


@pytest.mark.parametrize("keys", PATTERNS, ids=str)
def test_patterns_match_as_in_peft(keys: list[str]) -> None:
    ours, problem = PatternMatcher().match(keys, MODULES)
    assert problem == ""
    assert {module: ours.get(module, module) for module in MODULES} == {
        module: get_pattern_key(keys, module) for module in MODULES
    }


NAME = st.text("ab.01-_", max_size=8)


@given(st.lists(NAME.filter(bool), max_size=4), st.lists(NAME, max_size=4))
def test_plain_patterns_match_as_in_peft(keys: list[str], modules: list[str]) -> None:
    ours, _ = PatternMatcher().match(keys, modules)
    for module in modules:
        expected = get_pattern_key(keys, module)
        assert ours.get(module, module) == expected


def test_a_regular_expression_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "_SECONDS", 0.3)
    start = time.perf_counter()
    adapter = opened({"r": 4, "lora_alpha": 8, "rank_pattern": {"(a+)+b": 4}}, "layers.0." + "a" * 60)
    assert time.perf_counter() - start < 5
    assert adapter.layers[0].scaling is None
    assert "took longer than" in adapter.findings[0].message


def test_many_patterns_for_many_modules_are_quick() -> None:
    modules = [f"model.layers.{layer}.self_attn.{name}_proj" for layer in range(80) for name in "qkvo"]
    start = time.perf_counter()
    found, _ = PatternMatcher().match(modules, modules)
    assert time.perf_counter() - start < 1.0
    assert found == {module: module for module in modules}


def test_a_file_that_json_wrote_is_read_as_peft_reads_it(tmp_path: Path) -> None:
    LoraConfig(r=4, lora_alpha=6, rank_pattern={"layers.1": 2}).save_pretrained(str(tmp_path))
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert opened(config).layers[0].scaling == 1.5


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 40) | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("q_proj.*(", max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = [
    "r", "lora_alpha", "use_rslora", "use_dora", "fan_in_fan_out", "init_lora_weights", "modules_to_save",
    "target_parameters", "target_modules", "base_model_name_or_path", "lora_parameters", "model",
]  # fmt: skip


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_no_configuration_can_provoke_a_traceback(config: dict[str, Any]) -> None:
    for tensors in (
        state(),
        {"m.lora_a": np.ones((8, 4)), "m.lora_b": np.ones((4, 8)), "score.weight": np.ones(3)},
    ):
        adapter = open_adapter(tensors, config=config)
        assert adapter.target_modules
        for layer in adapter.layers:
            assert layer.scaling is None or math.isfinite(layer.scaling)
            assert layer.findings or np.abs(layer.delta_weight()).max() >= 0
