"""ΔW = s·B·A equals PEFT's own get_delta_weight, for every kind of module and every option that it has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers.pytorch_utils import Conv1D

from lorabench.adapters.open import open_adapter
from tests.adapters.peft_models import (
    KINDS,
    Everything,
    adapted,
    assert_equals_peft,
    assert_same,
    peft_delta_weights,
    randomize,
)

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "alpha of zero point three": {"lora_alpha": 0.3},
    "rank_pattern": {"rank_pattern": {"linear": 2, "conv[12]": 3, "^point$": 5}},
    "alpha_pattern": {"alpha_pattern": {"linear": 1, "conv.*": 7, "embed_tokens": 40}},
    "both patterns and rslora": {
        "rank_pattern": {"conv.": 2, "conv1": 7},
        "alpha_pattern": {"conv1": 3},
        "use_rslora": True,
    },
    "bias of all": {"bias": "all"},
    "bias of lora": {"bias": "lora_only"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_every_kind_of_module_equals_peft(options: dict[str, Any], saved: Any) -> None:
    config = {"r": 4, "lora_alpha": 12, "target_modules": list(KINDS)} | options
    model = adapted(Everything(), **config)
    adapter = open_adapter(saved(model))
    assert_equals_peft(adapter, model)
    assert {layer.name: layer.kind for layer in adapter.layers} == {
        "linear": "linear", "embed_tokens": "embedding",
        "conv1": "conv", "conv2": "conv", "conv3": "conv", "point": "conv",
    }  # fmt: skip
    assert not [finding for layer in adapter.layers for finding in layer.findings]


@pytest.mark.parametrize(
    ("dtype", "stored", "tolerance"),
    [
        (torch.float64, "F64", 1e-14),
        (torch.float32, "F32", 1e-6),
        (torch.float16, "F16", 2**-11),
        (torch.bfloat16, "BF16", 2**-8),
    ],
)
def test_every_type_is_read_exactly(dtype: torch.dtype, stored: str, tolerance: float, saved: Any) -> None:
    model = adapted(Everything(dtype), r=4, lora_alpha=8, target_modules=list(KINDS))
    for parameter in model.parameters():  # PEFT itself trains in float32 where the base is half
        parameter.data = parameter.data.to(dtype)
    adapter = open_adapter(saved(model))
    assert {layer.source_a.dtype for layer in adapter.layers} == {stored}
    # PEFT rounds its ΔW to the stored type, so that is how well it can agree; the factors agree exactly.
    assert_equals_peft(adapter, model, tolerance)
    layer = next(layer for layer in adapter.layers if layer.name == "linear")
    a, b = layer.factors()
    assert a.dtype == b.dtype == (np.float64 if dtype is torch.float64 else np.float32)
    module = model.base_model.model.linear
    assert np.array_equal(a, module.lora_A["default"].weight.detach().double().numpy())
    assert np.array_equal(b, module.lora_B["default"].weight.detach().double().numpy())


def test_gpt2_stores_its_weights_transposed(saved: Any) -> None:
    base = GPT2LMHeadModel(GPT2Config(n_embd=24, n_layer=2, n_head=2, vocab_size=40, n_positions=16))
    model = adapted(base, r=4, lora_alpha=8, target_modules=["c_attn", "wte"], fan_in_fan_out=True)
    adapter = open_adapter(saved(model))
    assert_equals_peft(adapter, model)
    attention = next(layer for layer in adapter.layers if layer.module_type == "c_attn")
    assert isinstance(base.transformer.h[0].attn.c_attn.base_layer, Conv1D)
    assert (attention.shape, attention.weight_shape, attention.transposed) == ((72, 24), (24, 72), True)
    assert adapter.layers[0].name == "transformer.wte"


def test_a_llama_is_in_the_order_of_its_layers(saved: Any) -> None:
    config = LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=11, num_attention_heads=2, vocab_size=30
    )
    model = adapted(LlamaForCausalLM(config), r=2, lora_alpha=4, target_modules=["q_proj", "lm_head"])
    adapter = open_adapter(saved(model))
    assert_equals_peft(adapter, model)
    assert [layer.layer_index for layer in adapter.layers] == [*range(11), None]
    assert adapter.target_modules == ("q_proj", "lm_head")
    assert adapter.ranks == (2,)


def test_dora_shows_the_direction_part_and_says_so(saved: Any) -> None:
    kinds = ["linear", "embed_tokens", "conv2"]
    model = adapted(Everything(), r=4, lora_alpha=8, target_modules=kinds, use_dora=True)
    adapter = open_adapter(saved(model))
    assert_equals_peft(adapter, model)
    assert all(layer.dora for layer in adapter.layers)
    assert {finding.message.split(":")[0] for layer in adapter.layers for finding in layer.findings} == {
        "DoRA"
    }
    assert [other.role for other in adapter.others] == ["magnitude"] * 3


class Experts(nn.Module):
    """The experts of a mixture as transformers fuses them; some base models store theirs transposed."""

    def __init__(self, is_transposed: bool) -> None:
        super().__init__()
        up, down = ((4, 10, 24), (4, 12, 10)) if is_transposed else ((4, 24, 10), (4, 10, 12))
        self.gate_up_proj = nn.Parameter(torch.randn(up))
        self.down_proj = nn.Parameter(torch.randn(down))
        self.is_transposed = is_transposed


class Mixture(nn.Module):
    def __init__(self, is_transposed: bool) -> None:
        super().__init__()
        self.experts = Experts(is_transposed)
        self.router = nn.Linear(10, 4)


@pytest.mark.parametrize("is_transposed", [False, True])
@pytest.mark.parametrize("targets", [["gate_up_proj"], ["down_proj"], ["down_proj", "gate_up_proj"]])
def test_each_expert_equals_peft(is_transposed: bool, targets: list[str], saved: Any) -> None:
    model = adapted(
        Mixture(is_transposed),
        r=3,
        lora_alpha=12,
        target_modules=["router"],
        target_parameters=[f"experts.{name}" for name in targets],
        rank_pattern={"experts.gate_up_proj": 2},
    )
    wrapper, expected = model.base_model.model.experts, {}
    while hasattr(wrapper, "parameter_name"):
        expected[wrapper.parameter_name] = wrapper.get_delta_weight("default").detach().double().numpy()
        wrapper = wrapper.base_layer
    adapter = open_adapter(saved(model))
    experts = [layer for layer in adapter.layers if layer.kind == "expert"]
    assert sorted({layer.module for layer in experts}) == sorted(f"experts.{name}" for name in targets)
    assert len(experts) == 4 * len(targets)
    for layer in experts:
        delta = expected[layer.module_type][layer.expert]
        assert_same(layer, delta.T if is_transposed else delta)
        assert layer.name == f"{layer.module}[{layer.expert}]"
        assert layer.rank == (2 if layer.module_type == "gate_up_proj" else 3)


def test_a_parameter_of_two_dimensions_is_a_linear_layer(saved: Any) -> None:
    model = adapted(Mixture(False), r=2, lora_alpha=4, target_modules=[], target_parameters=["router.weight"])
    adapter = open_adapter(saved(model))
    (layer,) = adapter.layers
    assert (layer.name, layer.kind, layer.shape) == ("router.weight", "linear", (4, 10))
    assert_same(layer, peft_delta_weights(model)["router"])


def test_experts_without_a_rank_are_named_as_unreadable(saved: Any) -> None:
    model = adapted(Mixture(False), r=3, lora_alpha=3, target_parameters=["experts.down_proj"])
    folder = saved(model)
    adapter = open_adapter(
        folder, config={"r": 5, "lora_alpha": 3, "target_parameters": ["experts.down_proj"]}
    )
    (layer,) = adapter.layers
    assert layer.findings[0].level == "error"
    assert "experts of rank r = 5" in layer.findings[0].message


def test_a_grouped_convolution_gives_what_its_two_convolutions_give(saved: Any) -> None:
    model = adapted(nn.Sequential(nn.Conv2d(8, 12, 3, groups=2)), r=4, lora_alpha=8, target_modules=["0"])
    (layer,) = open_adapter(saved(model)).layers
    assert layer.shape == (12, 72)
    module = model.base_model.model[0]
    image = torch.randn(1, 8, 7, 7)
    expected = module.lora_B["default"](module.lora_A["default"](image)) * module.scaling["default"]
    ours = nn.functional.conv2d(image, torch.tensor(layer.delta_weight(), dtype=torch.float32))
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    assert "2 blocks" in layer.findings[0].message


def test_attention_with_a_wrapped_output_projection(saved: Any) -> None:
    model = adapted(nn.Sequential(nn.MultiheadAttention(8, 2)), r=2, lora_alpha=4, target_modules=["0"])
    adapter = open_adapter(saved(model))
    assert [(layer.name, layer.shape) for layer in adapter.layers] == [("0", (24, 8)), ("0.out_proj", (8, 8))]
    attention = model.base_model.model[0]
    assert_same(adapter.layers[0], attention.get_delta_weight("default").detach().numpy())
    out = attention.base_layer.out_proj.get_delta_weight("default").detach().numpy()
    assert_same(adapter.layers[1], out)


def test_what_is_saved_beside_the_factors_has_a_role(saved: Any) -> None:
    model = adapted(
        Everything(), r=2, lora_alpha=4, target_modules=["linear"], modules_to_save=["conv1"], lora_bias=True
    )
    adapter = open_adapter(saved(model))
    roles = {other.tensor.name.removeprefix("base_model.model."): other.role for other in adapter.others}
    assert roles == {
        "linear.lora_B.bias": "bias",
        "conv1.weight": "modules_to_save",
        "conv1.bias": "modules_to_save",
    }
    assert [finding.message.split(" saved")[0] for finding in adapter.findings] == ["3 tensors were"]


def test_trained_tokens_are_an_embedding(saved: Any) -> None:
    config = LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, vocab_size=30
    )
    model = adapted(LlamaForCausalLM(config), r=2, target_modules=["q_proj"], trainable_token_indices=[1, 2])
    adapter = open_adapter(saved(model))
    assert [other.role for other in adapter.others] == ["embedding"]


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_an_initialisation_that_changes_the_base_is_named(start: str, saved: Any) -> None:
    base = nn.Sequential(nn.Linear(20, 12))
    model = adapted(base, r=4, lora_alpha=4, target_modules=["0"], init_lora_weights=start)
    (finding,) = open_adapter(saved(model)).findings
    assert (finding.level, start in finding.message) == ("warning", True)


def test_two_adapters_in_one_file_are_never_mixed() -> None:
    model = adapted(Everything(), r=4, lora_alpha=8, target_modules=["linear", "conv2", "embed_tokens"])
    model.add_adapter("style", LoraConfig(r=2, lora_alpha=20, target_modules=["linear", "embed_tokens"]))
    randomize(model)
    state = {name: value for name, value in model.state_dict().items() if "lora_" in name}
    adapter = open_adapter(dict(reversed(state.items())), config={"r": 4, "lora_alpha": 8})
    assert len(adapter.layers) == 5
    expected = {name: peft_delta_weights(model, name) for name in ("default", "style")}
    for layer in adapter.layers:
        told = 2.0 if layer.adapter == "default" else 10.0
        delta = expected[layer.adapter][layer.name]
        assert np.allclose(layer.delta_weight() / layer.scaling * told, delta, atol=1e-5)
    assert "2 adapters in one" in adapter.findings[-1].message


def test_layers_that_were_replicated_are_each_their_own(saved: Any) -> None:
    config = LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, vocab_size=30
    )
    model = adapted(
        LlamaForCausalLM(config), r=2, target_modules=["q_proj"], layer_replication=[[0, 2], [0, 2]]
    )
    adapter = open_adapter(saved(model))
    assert_equals_peft(adapter, model)
    assert [layer.layer_index for layer in adapter.layers] == [0, 1, 2, 3]
