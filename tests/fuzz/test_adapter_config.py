"""adapter_config.json made to harm: a value of any type in any field, deep, long, or no JSON at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from lorabench.adapters.locate import find_adapters
from lorabench.cli.analyze import Options, analyze
from lorabench.cli.describe import describe
from lorabench.cli.output import Page
from tests.fuzz.bounds import examples, sentence_or
from tests.fuzz.test_adapter_files import JUNK, STYLES, described

FIELDS = (
    *("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "target_modules", "peft_type"),
    *("base_model_name_or_path", "target_parameters", "modules_to_save", "fan_in_fan_out", "use_dora"),
    *("init_lora_weights", "lora_parameters", "kasa_config", "use_qalora", "model", "exclude_modules"),
)
NUMBERS = st.sampled_from([0, -1, 1, 2, 10**400, -(10**400), 1e308, 1e-308, float("nan"), float("inf"), True])
DEEP = st.integers(1, 3000).map(lambda depth: json.loads("[" * min(depth, 900) + "]" * min(depth, 900)))
PATTERNS = st.dictionaries(
    st.sampled_from(["q_proj", ".*", "(", "(a+)+$", "layers.0", "[", "\\", "x" * 9999, "^", "a{9}{9}"]),
    NUMBERS,
)
VALUES = st.one_of(JUNK, NUMBERS, DEEP, PATTERNS)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("configured")
    tensors = {}
    for module in ("layers.0.q_proj", "layers.1.mlp.experts", "layers.1.mlp.experts.base_layer"):
        tensors[f"base_model.model.{module}.lora_A.weight"] = np.ones((4, 6), np.float32)
        tensors[f"base_model.model.{module}.lora_B.weight"] = np.ones((6, 4), np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def told(folder: Path, style: str = "text") -> str:
    listed = (f"{location} {location.findings}" for location in find_adapters(folder))
    assert "".join(listed)
    return described(folder, style)


@given(config=st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=6), style=STYLES)
@examples(80, 8_000)
def test_any_value_in_any_field(adapter: Path, config: dict[str, Any], style: str) -> None:
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4} | config))
    sentence_or(lambda: told(adapter, style))


@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
@examples(40, 2_000)
def test_any_bytes(adapter: Path, content: bytes) -> None:
    (adapter / "adapter_config.json").write_bytes(content)
    sentence_or(lambda: told(adapter))


DEEP_TEXTS = {
    "deep lists": "[" * 200_000,
    "deep objects": '{"r":' * 200_000,
    "just not too deep": '{"r":' + "[" * 950 + "]" * 950 + "}",
    "a long number": '{"r":' + "9" * 100_000 + "}",
    "many targets": json.dumps({"r": 4, "target_parameters": [f"x{n}.experts.y" for n in range(300_000)]}),
    "many patterns": json.dumps({"r": 4, "rank_pattern": {f"x{n}": 2 for n in range(300_000)}}),
    "a long text": json.dumps({"r": 4, "base_model_name_or_path": "\x1b[2J" * 500_000}),
}


@pytest.mark.parametrize("text", DEEP_TEXTS.values(), ids=DEEP_TEXTS.keys())
def test_deep_and_long_configurations(adapter: Path, text: str) -> None:
    (adapter / "adapter_config.json").write_text(text)
    sentence_or(lambda: str(find_adapters(adapter)))
    sentence_or(lambda: describe(adapter, Page(), factors=False, style="text"))
    sentence_or(lambda: analyze(adapter, Page(), Options()))
