"""Adapters that others trained open as what they are."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from lorabench.adapters.open import open_adapter

# path, format, layers, ranks, scaling, other tensors, the first layer, its type, its weight's shape
REAL = [
    (
        "bloom-legacy-bin",
        "PEFT", 24, (16,), 2.0, 0, "transformer.h.0.self_attention.query_key_value", (1024, 2048),
    ),
    ("cloneofsimo-disney-r1", "cloneofsimo", 192, (1,), 1.0, 2, "text_encoder.0", (768, 768)),
    ("gpt-neo-movies-r8", "PEFT", 24, (8,), 2.0, 0, "transformer.h.0.attn.attention.q_proj", (768, 768)),
    ("gpt2-classification-r8", "PEFT", 36, (8,), 4.0, 1, "transformer.h.0.attn.c_attn", (768, 2304)),
    ("mlx-qwen-r8", "MLX", 8, (8,), 10.0, 0, "model.layers.20.self_attn.q_proj", (896, 896)),
    (
        "roberta-agnews-r4/checkpoint-1200",
        "PEFT", 36, (4,), 4.0, 105, "roberta.encoder.layer.0.attention.self.key", (768, 768),
    ),
    (
        "roberta-portuguese-r8/checkpoint-500",
        "PEFT", 24, (8,), 2.0, 4, "roberta.encoder.layer.0.attention.self.query", (768, 768),
    ),
    ("sam-own-keys/lora_rank6.safetensors", "unnamed pairs", 24, (6,), None, 0, "pair.0", (768, 768)),
    (
        "sd-processor-keys-r4/pytorch_lora_weights.safetensors",
        "diffusers", 128, (4,), 1.0, 0,
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k", (320, 320),
    ),
    (
        "sd-unet-r4-dead-layers",
        "PEFT", 128, (4,), 4.0, 0,
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k", (320, 320),
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "written_by", "layers", "ranks", "scaling", "others", "first", "shape"),
    REAL,
    ids=[row[0] for row in REAL],
)
def test_a_real_adapter_opens_as_what_it_is(
    name: str, written_by: str, layers: int, ranks: tuple[int, ...], scaling: float | None, others: int,
    first: str, shape: tuple[int, int], shared_data: Path,
) -> None:  # fmt: skip
    adapter = open_adapter(shared_data / "adapters" / name)
    assert (adapter.format, len(adapter.layers), len(adapter.others)) == (written_by, layers, others)
    assert (adapter.ranks, adapter.layers[0].module, adapter.layers[0].weight_shape) == (ranks, first, shape)
    assert {layer.scaling for layer in adapter.layers} == {scaling}
    assert not any(other.role in ("unknown", "unpaired") for other in adapter.others)
    assert not any(finding.level == "error" for layer in adapter.layers for finding in layer.findings)
    total = sum(a.size + b.size for a, b in (layer.factors() for layer in adapter.layers))
    assert total == adapter.parameters + (24 * 2048 * 8 if name.startswith("bloom") else 0)
    assert all(math.isfinite(np.abs(layer.delta_weight()).sum()) for layer in adapter.layers[:4])


def test_both_files_of_the_diffusers_adapter_name_the_same_modules(shared_data: Path) -> None:
    folder = shared_data / "adapters" / "sd-processor-keys-r4"
    of_processors = open_adapter(folder / "pytorch_lora_weights.bin")
    of_peft = open_adapter(shared_data / "adapters" / "sd-unet-r4-dead-layers")
    assert [layer.name for layer in of_processors.layers] == [layer.name for layer in of_peft.layers]
    assert open_adapter(folder).files == (folder / "pytorch_lora_weights.safetensors",)


def test_blooms_fused_projection_is_two_blocks(shared_data: Path) -> None:
    folder = shared_data / "adapters" / "bloom-legacy-bin"
    layer = open_adapter(folder).layers[3]
    state = torch.load(folder / "adapter_model.bin", weights_only=True, map_location="cpu")
    name = f"base_model.model.{layer.module}.lora_"
    a, b = state[f"{name}A.weight"].double().numpy(), state[f"{name}B.weight"].double().numpy()[:, :, 0]
    expected = 2.0 * np.vstack([b[:1024] @ a[:8], b[1024:] @ a[8:]])
    np.testing.assert_allclose(layer.delta_weight(), expected.T, rtol=1e-5, atol=1e-8)


def test_mlx_equals_its_formula(shared_data: Path) -> None:
    folder = shared_data / "adapters" / "mlx-qwen-r8"
    stored = load_file(folder / "adapters.safetensors")
    for layer in open_adapter(folder).layers:
        a, b = stored[f"{layer.module}.lora_a"], stored[f"{layer.module}.lora_b"]
        np.testing.assert_allclose(layer.delta_weight(), 10 * (a @ b).T, rtol=1e-3, atol=1e-6)
