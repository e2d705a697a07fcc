"""Adapters made by PEFT itself, with random factors, for our numbers to be held against."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.layer import LoraLayer as PeftLayer
from torch import nn

from lorabench.adapters.model import Adapter, LoraLayer


def randomize(model: nn.Module) -> None:
    """Fill every A and B with numbers, so that no ΔW is zero and none is another's."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name and "magnitude" not in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)


def adapted(base: nn.Module, **config: Any) -> PeftModel:
    """Wrap a module by PEFT, with random factors."""
    model = get_peft_model(base, LoraConfig(**config))
    randomize(model)
    return model


def peft_delta_weights(model: PeftModel, adapter: str = "default") -> dict[str, np.ndarray]:
    """Ask PEFT itself for each ΔW, by the module's path in the base model."""
    return {
        name.removeprefix("base_model.model."): module.get_delta_weight(adapter).detach().double().numpy()
        for name, module in model.named_modules()
        if isinstance(module, PeftLayer) and adapter in module.scaling and module.r[adapter] > 0
    }


def assert_equals_peft(adapter: Adapter, model: PeftModel, tolerance: float = 1e-6) -> None:
    """Hold every ΔW of an adapter against PEFT's own, by name, shape and value."""
    expected = peft_delta_weights(model)
    assert sorted(layer.name for layer in adapter.layers) == sorted(expected)
    for layer in adapter.layers:
        assert_same(layer, expected[layer.name], tolerance)


def assert_same(layer: LoraLayer, expected: np.ndarray, tolerance: float = 1e-6) -> None:
    """Hold one ΔW against an independent one."""
    ours = layer.delta_weight()
    assert ours.shape == expected.shape
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance * np.abs(expected).max())


class Everything(nn.Module):
    """One module of each kind that PEFT adapts."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.linear = nn.Linear(20, 12, dtype=dtype)
        self.embed_tokens = nn.Embedding(30, 10, dtype=dtype)
        self.conv1 = nn.Conv1d(6, 8, 3, dtype=dtype)
        self.conv2 = nn.Conv2d(6, 8, (3, 5), dtype=dtype)
        self.conv3 = nn.Conv3d(4, 6, 3, dtype=dtype)
        self.point = nn.Conv2d(6, 8, 1, dtype=dtype)


KINDS = ("linear", "embed_tokens", "conv1", "conv2", "conv3", "point")
