"""Formats outside PEFT: each file's ΔW equals the formula of the program that wrote it, in dense numpy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file

from lorabench.adapters.model import Adapter, LoraLayer
from lorabench.adapters.open import open_adapter

RANDOM = np.random.default_rng(3)


def random(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def opened(tmp_path: Path, tensors: dict[str, np.ndarray], **options: object) -> Adapter:
    path = tmp_path / str(options.get("name", "style.safetensors"))
    save_file(tensors, path, metadata=options.get("metadata"))  # type: ignore[arg-type]
    if "config" in options:
        (tmp_path / "adapter_config.json").write_text(json.dumps(options["config"]))
    return open_adapter(path)


def assert_same(layer: LoraLayer, expected: np.ndarray) -> None:
    assert layer.delta_weight().shape == expected.shape
    np.testing.assert_allclose(layer.delta_weight(), expected, rtol=1e-5, atol=1e-5)


def test_kohya(tmp_path: Path) -> None:
    down, up = random(4, 12), random(10, 4)
    conv_down, conv_up = random(4, 6, 3, 3), random(8, 4, 1, 1)
    unet = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
    conv = "lora_unet_up_blocks_2_resnets_0_conv1"
    text = "lora_te_text_model_encoder_layers_11_mlp_fc1"
    adapter = opened(
        tmp_path,
        {
            f"{unet}.lora_down.weight": down,
            f"{unet}.lora_up.weight": up,
            f"{unet}.alpha": np.array(2, np.float16),
            f"{conv}.lora_down.weight": conv_down,
            f"{conv}.lora_up.weight": conv_up,
            f"{conv}.alpha": np.array(1, np.float32),
            f"{text}.lora_down.weight": down,
            f"{text}.lora_up.weight": up,
        },
    )
    layers = {layer.name: layer for layer in adapter.layers}
    assert adapter.format == "kohya"
    assert_same(layers[unet], 2 / 4 * up @ down)
    assert_same(layers[conv], 1 / 4 * np.einsum("or,rihw->oihw", conv_up[:, :, 0, 0], conv_down))
    assert_same(layers[text], up @ down)
    assert "1 of 3 modules have no alpha" in adapter.findings[0].message
    assert (layers[unet].lora_alpha, layers[conv].kind, layers[conv].weight_shape) == (
        2,
        "conv",
        (8, 6, 3, 3),
    )
    assert [layers[name].layer_index for name in (unet, conv, text)] == [1, 2, 11]
    assert [layers[name].module_type for name in (unet, conv, text)] == ["attn1_to_q", "conv1", "mlp_fc1"]


def test_a_middle_factor_is_never_left_out(tmp_path: Path) -> None:
    adapter = opened(
        tmp_path,
        {
            "lora_unet_conv.lora_down.weight": random(4, 6, 1, 1),
            "lora_unet_conv.lora_mid.weight": random(4, 4, 3, 3),
            "lora_unet_conv.lora_up.weight": random(8, 4, 1, 1),
        },
    )
    (finding,) = adapter.layers[0].findings
    assert finding.level == "error"
    assert "lora_mid.weight stands between B and A" in finding.message


def test_diffusers_old_attention_processors(tmp_path: Path) -> None:
    down, up = random(4, 12), random(10, 4)
    block = "mid_block.attentions.0.transformer_blocks.0.attn1"
    adapter = opened(
        tmp_path,
        {
            f"{block}.processor.to_q_lora.down.weight": down,
            f"{block}.processor.to_q_lora.up.weight": up,
            f"{block}.processor.to_out_lora.down.weight": down,
            f"{block}.processor.to_out_lora.up.weight": up,
        },
        name="pytorch_lora_weights.safetensors",
    )
    assert [layer.name for layer in adapter.layers] == [f"{block}.to_out.0", f"{block}.to_q"]
    assert adapter.target_modules == ("attn1.to_out", "attn1.to_q")
    assert adapter.format == "diffusers"
    assert_same(adapter.layers[0], up @ down)


def test_diffusers_text_encoder_of_the_time_between(tmp_path: Path) -> None:
    down, up = random(4, 12), random(10, 4)
    name = "text_encoder.text_model.encoder.layers.3.self_attn.q_proj"
    adapter = opened(
        tmp_path,
        {
            f"{name}.lora_linear_layer.down.weight": down,
            f"{name}.lora_linear_layer.up.weight": up,
            f"{name}.alpha": np.array([8], np.float32),
        },
    )
    (layer,) = adapter.layers
    assert (layer.name, layer.layer_index, layer.module_type) == (name, 3, "q_proj")
    assert_same(layer, 8 / 4 * up @ down)


def test_diffusers_new_names_with_its_metadata(tmp_path: Path) -> None:
    a, b = random(4, 12), random(10, 4)
    settings = {"unet.r": 4, "unet.lora_alpha": 6, "unet.alpha_pattern": {"mid_block.to_k": 20}}
    adapter = opened(
        tmp_path,
        {
            "unet.mid_block.to_q.lora_A.weight": a,
            "unet.mid_block.to_q.lora_B.weight": b,
            "unet.mid_block.to_k.lora_A.weight": a,
            "unet.mid_block.to_k.lora_B.weight": b,
            "text_encoder.q_proj.lora_A.weight": a,
            "text_encoder.q_proj.lora_B.weight": b,
        },
        name="pytorch_lora_weights.safetensors",
        metadata={"lora_adapter_metadata": json.dumps(settings)},
    )
    scalings = {layer.module: layer.scaling for layer in adapter.layers}
    assert adapter.format == "diffusers"
    assert scalings == {"unet.mid_block.to_q": 1.5, "unet.mid_block.to_k": 5.0, "text_encoder.q_proj": 1.0}
    assert_same(next(layer for layer in adapter.layers if layer.module_type == "to_q"), 1.5 * b @ a)


DIT = "transformer.single_transformer_blocks.0"
PIPELINES = {
    "Flux": [f"{DIT}.attn.to_q", f"{DIT}.proj_out", "transformer.x_embedder"],
    "SD 3": ["transformer.transformer_blocks.3.attn.add_k_proj", "transformer.proj_out"],
    "Wan": ["transformer.blocks.0.attn1.to_out.0", "transformer.blocks.0.ffn.net.2"],
    "SDXL": ["unet.mid_block.attentions.0.proj_in", "text_encoder_2.text_model.encoder.layers.0.mlp.fc1"],
}


@pytest.mark.parametrize("modules", PIPELINES.values(), ids=PIPELINES)
def test_a_pipelines_components_are_diffusers_under_any_file_name(tmp_path: Path, modules: list[str]) -> None:
    a, b = random(4, 12), random(10, 4)
    tensors = {f"{m}.lora_{x}.weight": t for m in modules for x, t in (("A", a), ("B", b))}
    adapter = opened(tmp_path, tensors)
    assert adapter.format == "diffusers"
    assert {layer.scaling for layer in adapter.layers} == {1.0}
    assert [finding.level for finding in adapter.findings] == ["info"]
    assert "modules have no alpha" in adapter.findings[0].message


@pytest.mark.parametrize(
    "module", ["transformer.h.0.attn.c_attn", "transformer.blocks.1.attn.Wqkv", "transformer.wte"]
)
@pytest.mark.parametrize("prefix", ["", "base_model.model."])
def test_the_transformer_of_a_language_model_stays_pefts(tmp_path: Path, prefix: str, module: str) -> None:
    tensors = {
        f"{prefix}{module}.lora_A.weight": random(4, 12),
        f"{prefix}{module}.lora_B.weight": random(10, 4),
    }
    assert opened(tmp_path, tensors).format == "PEFT"


@pytest.mark.parametrize("metadata", ["{", "[]", '{"unet": 3}', '{"unet.r": "x", "unet.lora_alpha": null}'])
def test_diffusers_nonsense_metadata_is_no_traceback(tmp_path: Path, metadata: str) -> None:
    tensors = {"unet.to_q.lora_A.weight": random(2, 4), "unet.to_q.lora_B.weight": random(4, 2)}
    adapter = opened(tmp_path, tensors, metadata={"lora_adapter_metadata": metadata})
    assert adapter.layers[0].scaling in (1.0, None)
    assert adapter.findings


def test_mlx(tmp_path: Path) -> None:
    a, b = random(12, 4), random(4, 10)
    table_a, table_b = random(30, 4), random(4, 8)
    expert_a, expert_b = random(3, 2, 12), random(3, 10, 2)
    old_a = random(6, 12)
    adapter = opened(
        tmp_path,
        {
            "model.layers.2.self_attn.q_proj.lora_a": a,
            "model.layers.2.self_attn.q_proj.lora_b": b,
            "model.embed_tokens.lora_a": table_a,
            "model.embed_tokens.lora_b": table_b,
            "model.layers.2.mlp.switch_mlp.up_proj.lora_a": expert_a,
            "model.layers.2.mlp.switch_mlp.up_proj.lora_b": expert_b,
            "model.layers.1.mlp.switch_mlp.up_proj.lora_a": old_a,
            "model.layers.1.mlp.switch_mlp.up_proj.lora_b": expert_b,
            "model.layers.2.self_attn.q_proj.m": random(10),
        },
        name="adapters.safetensors",
        config={"model": "some/model", "lora_parameters": {"rank": 4, "scale": 20.0}},
    )
    layers = {layer.name: layer for layer in adapter.layers}
    assert (adapter.format, adapter.base_model) == ("MLX", "some/model")
    assert_same(layers["model.layers.2.self_attn.q_proj"], 20 * (a @ b).T)
    assert layers["model.layers.2.self_attn.q_proj"].dora
    assert_same(layers["model.embed_tokens"], 20 * table_a @ table_b)
    for expert in range(3):
        layer = layers[f"model.layers.2.mlp.switch_mlp.up_proj[{expert}]"]
        assert_same(layer, 20 * expert_b[expert] @ expert_a[expert])
        layer = layers[f"model.layers.1.mlp.switch_mlp.up_proj[{expert}]"]
        assert_same(layer, 20 * expert_b[expert] @ old_a.reshape(3, 2, 12)[expert])


def test_mlx_says_that_its_alpha_is_not_used(tmp_path: Path) -> None:
    tensors = {"layers.0.q.lora_a": random(6, 2), "layers.0.q.lora_b": random(2, 6)}
    parameters = {"rank": 2, "alpha": 4, "scale": 10.0}
    adapter = opened(tmp_path, tensors, config={"lora_parameters": parameters})
    assert adapter.layers[0].scaling == 10.0
    assert "early 2024" in adapter.findings[0].hint
    assert "here 20" in adapter.findings[0].hint


def test_torchtune(tmp_path: Path) -> None:
    a, b = random(4, 12), random(10, 4)
    tensors = {"layers.0.attn.q_proj.lora_a.weight": a, "layers.0.attn.q_proj.lora_b.weight": b}
    adapter = opened(tmp_path, tensors, config={"r": 4, "lora_alpha": 8, "peft_type": "LORA"})
    assert adapter.format == "torchtune"
    assert_same(adapter.layers[0], 2 * b @ a)


def test_cloneofsimo(tmp_path: Path) -> None:
    down, up = random(4, 12), random(10, 4)
    tensors = {
        "unet:10:down": down,
        "unet:10:up": up,
        "unet:9:down": down,
        "unet:9:up": up,
        "<s1>": random(12),
    }
    adapter = opened(tmp_path, tensors)
    assert adapter.format == "cloneofsimo"
    assert [layer.name for layer in adapter.layers] == ["unet.9", "unet.10"]
    assert_same(adapter.layers[0], up @ down)
    assert [other.role for other in adapter.others] == ["embedding"]


def test_pairs_that_have_numbers_for_names(tmp_path: Path) -> None:
    a, b = random(4, 12), random(10, 4)
    adapter = opened(tmp_path, {"w_a_007": a, "w_b_007": b})
    (layer,) = adapter.layers
    assert (layer.name, layer.scaling) == ("pair.7", None)
    assert_same(layer, b @ a)
    assert "which modules these pairs adapt is not in the file" in adapter.findings[0].message


@pytest.mark.parametrize(
    ("alpha", "says"),
    [
        (np.zeros(0, np.float32), "lora_te_fc1.alpha is no single finite number"),
        (np.ones(2, np.float32), "lora_te_fc1.alpha is no single finite number"),
        (np.array(np.nan, np.float32), "lora_te_fc1.alpha is no single finite number"),
        (np.array(np.inf, np.float16), "lora_te_fc1.alpha is no single finite number"),
        (np.array("4"), "lora_te_fc1.alpha is stored as <U1, which lorabench cannot read"),
    ],
)
def test_an_alpha_that_is_no_number_costs_its_layer_the_scaling_alone(alpha: np.ndarray, says: str) -> None:
    tensors = {
        f"lora_te_{module}.{name}": value
        for module, scalar in (("fc1", alpha), ("fc2", np.array([8], np.int64)))
        for name, value in (
            ("lora_down.weight", random(4, 12)),
            ("lora_up.weight", random(10, 4)),
            ("alpha", scalar),
        )
    }
    without, sound = open_adapter(tensors).layers
    assert (without.scaling, without.lora_alpha) == (None, None)
    assert [finding.level for finding in without.findings] == ["warning"]
    assert says in without.findings[0].message
    assert np.isfinite(without.delta_weight()).all()
    assert (sound.scaling, sound.findings) == (2.0, ())


def test_an_alpha_of_a_type_that_is_not_read_is_a_finding(tmp_path: Path) -> None:
    tensors = {
        "lora_te_fc1.lora_down.weight": torch.ones(4, 12),
        "lora_te_fc1.lora_up.weight": torch.ones(10, 4),
        "lora_te_fc1.alpha": torch.tensor(4 + 0j),
    }
    save_torch_file(tensors, tmp_path / "x.safetensors")
    (layer,) = open_adapter(tmp_path / "x.safetensors").layers
    assert layer.scaling is None
    assert "lora_te_fc1.alpha is stored as C64, which lorabench cannot read" in layer.findings[0].message
