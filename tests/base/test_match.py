"""LoRA modules find the base weight that they update, however the base model's files name and store it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lorabench.adapters.base_match import find_weight
from lorabench.adapters.base_model import BaseModel
from lorabench.adapters.open import open_adapter
from lorabench.errors import AdapterError
from tests.base.conftest import Compare
from tests.base.made import weight, write_adapter, write_base

Q = "model.layers.3.self_attn.q_proj"


def read_one(tmp_path: Path, module: str, shape: tuple[int, int], tensors: dict[str, np.ndarray], **config):
    """Match a layer of an adapter with the base model, and read its weight."""
    base = write_base(tmp_path / "base", tensors, **config.pop("base", {}))
    adapter = open_adapter(write_adapter(tmp_path / "adapter", {module: shape}, base, **config))
    found = find_weight(adapter.layers[0], BaseModel(base))
    return found, found.read()


@pytest.mark.parametrize(
    ("module", "stored"),
    [
        (Q, f"{Q}.weight"),
        (Q, "layers.3.self_attn.q_proj.weight"),
        ("layers.3.self_attn.q_proj", f"{Q}.weight"),
        (Q, "language_model.model.layers.3.self_attn.q_proj.weight"),
        ("transformer.h.3.attn.q_proj", "h.3.attn.q_proj.weight"),
        (f"{Q}.base_layer", f"{Q}.weight"),
    ],
)
def test_what_stands_before_the_layers_may_differ(tmp_path: Path, module: str, stored: str) -> None:
    w = weight(24, 16)
    other = {stored.replace(".3.", f".{n}."): weight(24, 16, n) for n in (1, 13, 30)}
    found, values = read_one(tmp_path, module, (24, 16), {stored: w, **other})
    assert found.tensors == (stored,)
    np.testing.assert_array_equal(values, w)


@pytest.mark.parametrize(
    ("module", "stored", "note"),
    [
        (Q, "vision_tower.layers.3.self_attn.q_proj", "prefix vision_tower, the adapter's none"),
        (
            f"text_model.{Q}",
            f"vision_tower.{Q}",
            "prefix vision_tower, the adapter's text_model",
        ),
        ("transformer.h.3.attn.q_proj", "h.3.attn.q_proj", "prefix none, the adapter's transformer"),
        ("a.lm_head", "b.lm_head", "prefix b, the adapter's a"),
        (
            f"a.{Q}",
            f"b.{Q.replace('q_proj', 'qkv_proj')}",
            "rows of qkv_proj; prefix b, the adapter's a",
        ),
        (Q, Q, ""),
        (Q, "layers.3.self_attn.q_proj", ""),
        ("layers.3.self_attn.q_proj", Q, ""),
    ],
)
def test_a_weight_under_another_prefix_is_noted(tmp_path: Path, module: str, stored: str, note: str) -> None:
    rows = 24 if "qkv" in stored else 8
    found, _ = read_one(tmp_path, module, (8, 8), {f"{stored}.weight": weight(rows, 8)})
    assert found.note == note


def test_a_module_that_is_there_twice_is_not_guessed(tmp_path: Path) -> None:
    tensors = {f"{tower}.layers.3.self_attn.q_proj.weight": weight(8, 8) for tower in ("text", "vision")}
    with pytest.raises(AdapterError, match=r"several places: text\.layers.*, vision\.layers"):
        read_one(tmp_path, Q, (8, 8), tensors)


def test_a_module_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"has no model\.layers\.3\.self_attn\.q_proj"):
        read_one(tmp_path, Q, (8, 8), {"model.layers.4.self_attn.q_proj.weight": weight(8, 8)})


def test_another_shape_says_which(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="is 8×9 where ΔW is 8×8"):
        read_one(tmp_path, Q, (8, 8), {f"{Q}.weight": weight(8, 9)})


def test_a_tied_head_is_the_embedding(tmp_path: Path) -> None:
    w = weight(40, 16)
    found, values = read_one(tmp_path, "lm_head", (40, 16), {"model.embed_tokens.weight": w})
    np.testing.assert_array_equal(values, w)
    assert found.note == "tied to model.embed_tokens"
    config = {"tie_word_embeddings": False}
    with pytest.raises(AdapterError, match="has no lm_head"):
        read_one(tmp_path, "lm_head", (40, 16), {"model.embed_tokens.weight": w}, base=config)


@pytest.mark.parametrize("shape", [(48, 16), (16, 16)], ids=str)
def test_conv1d_is_stored_transposed(tmp_path: Path, shape: tuple[int, int]) -> None:
    w = weight(*shape)
    module = "transformer.h.0.attn.c_proj"
    _, values = read_one(tmp_path, module, shape, {"h.0.attn.c_proj.weight": w.T}, fan_in_fan_out=True)
    np.testing.assert_array_equal(values, w)


def test_a_linear_head_beside_conv1d_is_not_transposed(tmp_path: Path) -> None:
    w = weight(40, 16)
    _, values = read_one(tmp_path, "lm_head", (40, 16), {"lm_head.weight": w}, fan_in_fan_out=True)
    np.testing.assert_array_equal(values, w)


def test_a_convolution_is_flattened(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    w = weight(6, 4 * 9).reshape(6, 4, 3, 3)
    base = write_base(tmp_path / "base", {"conv.weight": w})
    adapter = write_adapter(tmp_path / "adapter", {}, base, rank=2)
    a, b = np.ones((2, 4, 3, 3), np.float32), np.ones((6, 2, 1, 1), np.float32)
    tensors = {"base_model.model.conv.lora_A.weight": a, "base_model.model.conv.lora_B.weight": b}
    save_file(tensors, adapter / "adapter_model.safetensors")
    (layer,) = open_adapter(adapter).layers
    np.testing.assert_array_equal(find_weight(layer, BaseModel(base)).read(), w.reshape(6, 36))


def test_modules_of_a_fused_weight_are_its_rows(tmp_path: Path) -> None:
    fused = weight(32 + 8 + 8, 16)
    rows = {"q_proj": fused[:32], "k_proj": fused[32:40], "v_proj": fused[40:]}
    for name, expected in rows.items():
        module = f"layers.0.{name}"
        shape = (len(expected), 16)
        found, values = read_one(tmp_path / name, module, shape, {"layers.0.qkv_proj.weight": fused})
        np.testing.assert_array_equal(values, expected)
        assert found.note == "rows of qkv_proj"


def test_a_fused_module_is_its_parts_stacked(tmp_path: Path) -> None:
    gate, up = weight(20, 16, 1), weight(20, 16, 2)
    tensors = {"layers.0.mlp.gate_proj.weight": gate, "layers.0.mlp.up_proj.weight": up}
    _, values = read_one(tmp_path, "layers.0.mlp.gate_up_proj", (40, 16), tensors)
    np.testing.assert_array_equal(values, np.concatenate([gate, up]))


def test_rows_in_an_order_that_is_not_known_are_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="query_key_value"):
        read_one(tmp_path, Q, (8, 8), {Q.replace("q_proj", "query_key_value.weight"): weight(24, 8)})


@pytest.fixture
def experts(tmp_path: Path) -> Path:
    """An adapter on four experts: gate_up_proj 24×8 and down_proj 8×12, of rank 2, as PEFT stores it."""
    rng = np.random.default_rng(0)
    from safetensors.numpy import save_file

    prefix, tensors = "base_model.model.model.layers.0.mlp.experts", {}
    for nest, (out, inner) in (("", (8, 12)), (".base_layer", (24, 8))):
        tensors[f"{prefix}{nest}.lora_A.weight"] = rng.standard_normal((8, inner)).astype(np.float32)
        tensors[f"{prefix}{nest}.lora_B.weight"] = rng.standard_normal((out, 8)).astype(np.float32)
    parameters = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    adapter = write_adapter(tmp_path / "experts", {}, "base", rank=2, target_parameters=parameters)
    save_file(tensors, adapter / "adapter_model.safetensors")
    return adapter


def test_experts_in_one_tensor_are_found_by_their_number_in_either_orientation(
    tmp_path: Path, experts: Path
) -> None:
    up, down = np.stack([weight(24, 8, n) for n in range(4)]), np.stack([weight(8, 12, n) for n in range(4)])
    for turned in (False, True):
        turn = (lambda each: each.transpose(0, 2, 1)) if turned else (lambda each: each)
        prefix = "model.layers.0.mlp.experts"
        tensors = {f"{prefix}.gate_up_proj": turn(up), f"{prefix}.down_proj": turn(down)}
        base = BaseModel(write_base(tmp_path / f"base{turned}", tensors))
        for layer in open_adapter(experts).layers:
            expected = (up if "gate_up" in layer.module else down)[layer.expert]
            np.testing.assert_array_equal(find_weight(layer, base).read(), expected)


@pytest.mark.parametrize("names", [("gate_proj", "up_proj", "down_proj"), ("w1", "w3", "w2")], ids=str)
def test_experts_in_tensors_of_their_own_are_stacked(
    tmp_path: Path, experts: Path, names: tuple[str, str, str]
) -> None:
    place = "block_sparse_moe" if names[0] == "w1" else "mlp"
    tensors = {
        f"model.layers.0.{place}.experts.{n}.{name}.weight": weight(*shape, seed=n + 10 * at)
        for n in range(4)
        for at, (name, shape) in enumerate(zip(names, [(12, 8), (12, 8), (8, 12)], strict=True))
    }
    base = BaseModel(write_base(tmp_path / "base", tensors))
    for layer in open_adapter(experts).layers:
        n = layer.expert or 0
        halves = [weight(12, 8, n), weight(12, 8, n + 10)]
        expected = np.concatenate(halves) if "gate_up" in layer.module else weight(8, 12, n + 20)
        np.testing.assert_array_equal(find_weight(layer, base).read(), expected)


def test_a_gpt2_by_transformers_is_matched_whole(tmp_path: Path, compare: Compare) -> None:
    torch = pytest.importorskip("torch")
    from peft import LoraConfig, get_peft_model
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=64, n_positions=16)
    model = GPT2LMHeadModel(config)
    model.save_pretrained(tmp_path / "base")
    lora = LoraConfig(r=8, target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True)
    wrapped = get_peft_model(GPT2LMHeadModel.from_pretrained(tmp_path / "base"), lora)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    wrapped.save_pretrained(tmp_path / "adapter")
    comparisons = compare(tmp_path / "adapter", tmp_path / "base").comparisons
    assert len(comparisons) == 8
    merged = wrapped.merge_and_unload().state_dict()
    for comparison in comparisons:
        assert comparison.weight is not None
        assert comparison.merged is not None
        exact = np.linalg.svd(merged[f"{comparison.layer.module}.weight"].numpy(), compute_uv=False)
        assert comparison.merged.spectral_norm == pytest.approx(exact[0], rel=1e-5)
