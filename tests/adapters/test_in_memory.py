"""State dicts and models in memory, and pairs that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict
from torch import nn

from lorabench.adapters.model import path_parts
from lorabench.adapters.open import open_adapter
from lorabench.errors import Malformed, NotFound
from tests.adapters.peft_models import (
    KINDS,
    Everything,
    adapted,
    assert_equals_peft,
    peft_delta_weights,
    randomize,
)


def test_a_peft_model_as_it_is() -> None:
    model = adapted(Everything(), r=4, lora_alpha=12, target_modules=list(KINDS), rank_pattern={"linear": 2})
    adapter = open_adapter(model)
    assert adapter.path is None
    assert_equals_peft(adapter, model)


def test_what_is_read_is_a_copy_of_now() -> None:
    model = adapted(nn.Sequential(nn.Linear(6, 4)), r=2, lora_alpha=4, target_modules=["0"])
    (layer,) = open_adapter(model).layers
    before = layer.factors()[1]
    with torch.no_grad():
        model.base_model.model[0].lora_B["default"].weight.zero_()
    assert np.abs(before).max() > 0.1
    assert np.abs(layer.factors()[1]).max() == 0


def test_each_adapter_of_a_model_has_its_own_configuration() -> None:
    model = adapted(Everything(), r=4, lora_alpha=8, target_modules=["linear", "conv2"])
    model.add_adapter("style", LoraConfig(r=2, lora_alpha=20, target_modules=["linear"]))
    randomize(model)
    layers = open_adapter(model).layers
    assert [(layer.name, layer.adapter, layer.scaling) for layer in layers] == [
        ("conv2", "default", 2.0),
        ("linear", "default", 2.0),
        ("linear", "style", 10.0),
    ]
    for layer in layers:
        expected = peft_delta_weights(model, layer.adapter)[layer.name]
        np.testing.assert_allclose(layer.delta_weight(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_a_state_dict_with_peft_configuration(dtype: torch.dtype) -> None:
    model = adapted(Everything(), r=4, lora_alpha=8, target_modules=["linear"]).to(dtype)
    adapter = open_adapter(get_peft_model_state_dict(model), config=model.peft_config["default"])
    assert_equals_peft(adapter, model, 2**-7 if dtype.itemsize == 2 else 1e-6)


def test_the_active_adapter_gives_the_configuration() -> None:
    model = adapted(nn.Sequential(nn.Linear(6, 4)), r=2, lora_alpha=4, target_modules=["0"])
    model.add_adapter("style", LoraConfig(r=2, lora_alpha=20, target_modules=["0"]))
    assert open_adapter(model).config["lora_alpha"] == 4
    model.set_adapter("style")
    assert open_adapter(model).config["lora_alpha"] == 20


def test_what_is_no_source_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="a path, a state dict or a model with PEFT adapters, not int"):
        open_adapter(3)


def arrays(a: tuple[int, ...], b: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {"x.0.q.lora_A.weight": np.ones(a, np.float32), "x.0.q.lora_B.weight": np.ones(b, np.float32)}


SOUND = {"x.1.q.lora_A.weight": np.ones((2, 4)), "x.1.q.lora_B.weight": np.ones((4, 2))}
MISFITS = {
    "ranks that differ": (arrays((2, 4), (4, 3)), "do not fit: rank 2 by A, 3 by B"),
    "a rank of zero": (arrays((0, 4), (4, 0)), "are not two matrices with numbers in them"),
    "one dimension": (arrays((8,), (4, 2)), "are not two matrices"),
    "nothing at all": (arrays((), ()), "are not two matrices"),
    "a conv B of the wrong rank": (arrays((4, 3, 3, 3), (5, 3, 1, 1)), "do not fit"),
    "a conv B with a kernel": (arrays((2, 3, 3, 3), (4, 2, 3, 3)), "do not fit: rank 2 by A, 18 by B"),
}


@pytest.mark.parametrize(("tensors", "message"), MISFITS.values(), ids=MISFITS.keys())
def test_a_pair_that_does_not_fit_is_a_layer_with_a_finding(tensors: Any, message: str) -> None:
    broken, sound = open_adapter(tensors | SOUND, config={"r": 2, "lora_alpha": 2}).layers
    (finding,) = broken.findings
    assert finding.level == "error"
    assert message in finding.message
    assert "x.0.q.lora_A.weight" in finding.message
    with pytest.raises(Malformed, match=r"x\.0\.q"):
        broken.factors()
    np.testing.assert_array_equal(sound.delta_weight(), np.full((4, 4), 2.0))


LONE = {
    "A": ("x.0.q.lora_A.weight", (2, 4), "B", (0, 4), "linear"),
    "B": ("x.0.q.lora_B.weight", (5, 2), "A", (5, 0), "linear"),
    "B of a convolution": ("x.0.q.lora_B.weight", (5, 2, 1, 1), "A", (5, 0), "conv"),
    "A of kohya": ("x.0.q.lora_down.weight", (2, 4), "B", (0, 4), "linear"),
    "A of MLX": ("x.0.q.lora_a", (4, 2), "B", (0, 4), "linear"),
    "B of MLX": ("x.0.q.lora_b", (2, 5), "A", (5, 0), "linear"),
    "B of an embedding": ("x.0.q.lora_embedding_B", (5, 2), "A", (5, 0), "embedding"),
}


@pytest.mark.parametrize(("name", "size", "missing", "shape", "kind"), LONE.values(), ids=LONE)
def test_a_factor_without_its_partner_is_a_layer_that_says_so_and_the_others_work(
    name: str, size: tuple[int, ...], missing: str, shape: tuple[int, int], kind: str
) -> None:
    adapter = open_adapter({name: np.ones(size)} | SOUND, config={"r": 2, "lora_alpha": 2})
    lone, sound = adapter.layers
    assert (lone.name, lone.kind, lone.rank, lone.shape, lone.whole) == ("x.0.q", kind, 2, shape, False)
    assert lone.parameters == np.prod(size)
    (finding,) = lone.findings
    assert (finding.level, finding.message.partition(":")[0]) == ("error", f"{missing} is missing")
    source = lone.source_a if missing == "A" else lone.source_b
    for read in (lone.factors, lone.delta_weight, source.read):
        with pytest.raises(Malformed, match=f"{missing} is missing"):
            read()
    assert "1 layer has only A or only B." in [finding.message for finding in adapter.findings]
    assert adapter.others == ()
    np.testing.assert_array_equal(sound.delta_weight(), np.full((4, 4), 2.0))


def test_a_file_of_halves_alone_opens() -> None:
    adapter = open_adapter({"x.0.q.lora_A.weight": np.ones((2, 4)), "x.1.q.lora_A.weight": np.ones((2, 4))})
    assert [layer.whole for layer in adapter.layers] == [False, False]
    assert "2 layers have only A or only B." in [finding.message for finding in adapter.findings]


def test_two_tensors_for_one_place_do_not_replace_each_other() -> None:
    tensors = SOUND | {"base_model.model.x.1.q.lora_A.weight": np.zeros((2, 4))}
    adapter = open_adapter(tensors, config={"r": 2, "lora_alpha": 2})
    assert adapter.layers[0].delta_weight().max() == 2.0
    assert [other.role for other in adapter.others] == ["unpaired"]


def test_a_rank_larger_than_the_matrix_is_worth_a_word() -> None:
    (layer,) = open_adapter(arrays((6, 4), (5, 6)), config={"r": 6, "lora_alpha": 6}).layers
    assert layer.findings[0].message == "r = 6 is larger than the smaller side of ΔW, 4."
    np.testing.assert_array_equal(layer.delta_weight(), np.full((5, 4), 6.0))


def test_nothing_in_it() -> None:
    with pytest.raises(NotFound, match="None of the 0 tensors in state dict"):
        open_adapter({})
    with pytest.raises(NotFound, match="None of the 1 tensors"):
        open_adapter({"x": np.ones(3), "epoch": 3})


def test_a_key_that_is_no_name_is_a_sentence() -> None:
    with pytest.raises(Malformed, match=r"The state dict has the key 3, which is no tensor's name\."):
        open_adapter({**SOUND, 3: np.ones(2)})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("saved", "says"), [(["score.weight"], "It belongs"), (["score.weight", "score.bias"], "They belong")]
)
def test_what_was_saved_whole_is_counted_in_good_english(saved: list[str], says: str) -> None:
    tensors = SOUND | {name: np.ones(3) for name in saved}
    config = {"r": 2, "lora_alpha": 2, "modules_to_save": ["score"]}
    (finding,) = open_adapter(tensors, config=config).findings
    assert finding.hint == f"{says} to the update, but not to any ΔW shown here."


NAMES = {
    "model.layers.10.self_attn.q_proj": (10, "q_proj"),
    "transformer.h.3.mlp.c_fc": (3, "c_fc"),
    "lm_head": (None, "lm_head"),
    "model.layers.2.mlp.experts.7.w1": (2, "w1"),
    "down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_out.0": (0, "attn1.to_out"),
    "mid_block.attentions.0.transformer_blocks.0.attn2.to_q": (0, "attn2.to_q"),
    "lora_unet_down_blocks_2_attentions_1_transformer_blocks_0_ff_net_0_proj": (2, "proj"),
    "lora_unet_mid_block_attentions_0_proj_in": (0, "proj_in"),
    "lora_te1_text_model_encoder_layers_9_self_attn_k_proj": (9, "self_attn_k_proj"),
    "lora_unet_double_blocks_17_img_attn_proj": (17, "img_attn_proj"),
    "0": (0, "0"),
    "x." + "9" * 5000: (None, "9" * 5000),
}


@pytest.mark.parametrize(("module", "expected"), NAMES.items(), ids=[name[:40] for name in NAMES])
def test_depth_and_module_type_are_read_from_the_name(module: str, expected: Any) -> None:
    tensors = {f"{module}.lora_A.weight": np.ones((2, 4)), f"{module}.lora_B.weight": np.ones((4, 2))}
    (layer,) = open_adapter(tensors).layers
    assert (layer.layer_index, layer.module_type) == expected
    assert path_parts(module)


@pytest.mark.gpu
def test_a_model_on_a_gpu_is_copied_when_read() -> None:
    model = adapted(nn.Sequential(nn.Linear(6, 4)), r=2, lora_alpha=4, target_modules=["0"]).to("cuda")
    (layer,) = open_adapter(model).layers
    expected = model.base_model.model[0].get_delta_weight("default").cpu().detach().numpy()
    np.testing.assert_allclose(layer.delta_weight(), expected, rtol=1e-4, atol=1e-5)
