"""Check that LoRA's scaling s stands in the gradients of A and B, once, against analytic ones.

With y = W·x + s·B·A·x and G = ∂L/∂W, taken from the frozen weight itself for one backward pass:
∂L/∂A = s·Bᵀ·G and ∂L/∂B = s·G·Aᵀ (Hu et al. 2021, "LoRA"). It stands in the gradient and not in the step: an
optimizer that divides by the gradient's size, as Adam does, takes s out again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lorabench.training.audit.facts import short_name
from lorabench.training.audit.report import ScalingCheck

_ROUNDINGS = 8
_FLOOR = 1e-5
"""Sums of some hundred products in float32, in another order."""


def scaling_checks(trainer: Any) -> list[ScalingCheck]:
    """Check the first, the middle and the last adapted module on one micro-batch of the trainer's data.

    Dropout is off for it. Modules whose weight takes no gradient (4 and 8 bits, other layers than Linear)
    are passed over; the result is empty where all are such.
    """
    layers = list(_linear_layers(trainer.model))
    chosen = [layers[i] for i in sorted({0, len(layers) // 2, len(layers) - 1})] if layers else []
    if not chosen:
        return []
    inputs = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    # The Trainer's arithmetic: accelerate wraps the model's forward in autocast where it is mixed.
    autocast = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(trainer.accelerator.mixed_precision)
    with _frozen_weights_open([layer for _, layer in chosen]), _evaluating(trainer.model):
        with trainer.compute_loss_context_manager():
            loss = trainer.compute_loss(trainer.model_wrapped, inputs)
        loss.backward()
        checks = [_check(name, layer, autocast) for name, layer in chosen]
    trainer.model.zero_grad()
    return checks


def _linear_layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    for name, module in model.named_modules():
        if isinstance(module, LoraLayer) and module.active_adapters:
            base = module.get_base_layer()
            adapter = module.active_adapters[0]
            if isinstance(base, nn.Linear) and base.weight.is_floating_point() and adapter in module.lora_A:
                yield name, module


@contextmanager
def _frozen_weights_open(layers: list[Any]) -> Iterator[None]:
    weights = [layer.get_base_layer().weight for layer in layers]
    asked = [weight.requires_grad for weight in weights]
    for weight in weights:
        weight.requires_grad_(True)
    try:
        yield
    finally:
        for weight, before in zip(weights, asked, strict=True):
            weight.requires_grad_(before)
            if not before:
                weight.grad = None


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Turn dropout off; a layer's input would be another than its frozen weight's."""
    training = model.training
    model.eval()
    model.zero_grad()
    try:
        yield
    finally:
        model.train(training)


def _check(name: str, layer: Any, autocast: torch.dtype | None) -> ScalingCheck:
    adapter = layer.active_adapters[0]
    scaling = float(layer.scaling[adapter])
    a_weight, b_weight = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    gradient = layer.get_base_layer().weight.grad.double()
    a, b = a_weight.detach().double(), b_weight.detach().double()
    # Matrix products in 16 bits: each of the two ways to the same number rounds on its own.
    coarsest = max(torch.finfo(t.dtype).eps for t in (a_weight, layer.get_base_layer().weight))
    if autocast is not None:
        coarsest = max(coarsest, torch.finfo(autocast).eps)
    return ScalingCheck(
        module=short_name(name),
        scaling=scaling,
        error_a=_error(a_weight.grad, scaling * b.T @ gradient),
        error_b=_error(b_weight.grad, scaling * gradient @ a.T),
        tolerance=max(_FLOOR, _ROUNDINGS * coarsest),
    )


def _error(found: Tensor | None, expected: Tensor) -> float:
    """‖found − expected‖/‖expected‖; 0 where both are zero."""
    found = torch.zeros_like(expected) if found is None else found.double()
    difference, size = float((found - expected).norm()), float(expected.norm())
    return difference / size if size else difference
