"""What SGD and Adam do to a tensor, written from their definitions: an independent second calculation.

SGD: Sutskever et al. 2013 as torch.optim.SGD has it. Adam: Kingma & Ba 2015; AdamW: Loshchilov & Hutter 2019.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Update:
    """A step as it should be, float64: `change` = −lr·direction − lr·decay·θ for a decoupled weight decay."""

    change: Tensor
    direction: Tensor
    decayed: Tensor


def expected_update(
    optimizer: str, theta: Tensor, gradient: Tensor, group: Mapping[str, Any], state: Mapping[str, Any]
) -> Update | None:
    """Return what this optimizer makes of a gradient, or None where its rule is not known here.

    `theta` and `gradient` have one shape; `state` is the optimizer's own, from before the step.
    """
    rule = {"SGD": _sgd, "Adam": _adam, "AdamW": _adam}.get(optimizer)
    if rule is None or group.get("maximize"):
        return None
    theta, gradient = theta.double(), gradient.double()
    lr, decay = float(group["lr"]), float(group["weight_decay"])
    decoupled = optimizer == "AdamW" or bool(group.get("decoupled_weight_decay"))
    if decay and not decoupled:
        gradient = gradient + decay * theta
    direction = rule(gradient, group, state)
    decayed = lr * decay * theta
    change = -lr * direction - decayed if decoupled else -lr * direction
    return Update(change, direction, decayed)


def rounded_betas(group: Mapping[str, Any], state: Mapping[str, Any]) -> float:
    """Return the share of a fused Adam's step on a GPU that rounding β₁ and β₂ may account for; 0 for others.

    That kernel holds them in float32 (PyTorch's native/cuda/fused_adam_utils.cuh): then 1 − β and
    1 − βⁿ have lost digits, 1 − 0.999 three of seven. A step goes with the first moment and with the root of
    the second.
    """
    if not group.get("fused") or "betas" not in group:
        return 0.0
    done = float(state.get("step", 0)) + 1
    unit = torch.finfo(torch.float32).eps / 2

    def lost(beta: float) -> float:
        power = math.pow(beta, done)
        return unit * (beta / (1 - beta) + (done + 1) * power / (1 - power))

    beta1, beta2 = (float(beta) for beta in group["betas"])
    return lost(beta1) + lost(beta2) / 2


def _sgd(gradient: Tensor, group: Mapping[str, Any], state: Mapping[str, Any]) -> Tensor:
    momentum = float(group["momentum"])
    if not momentum:
        return gradient
    buffer = state.get("momentum_buffer")
    if buffer is None:
        buffer = gradient
    else:
        buffer = momentum * buffer.double() + (1 - float(group["dampening"])) * gradient
    return gradient + momentum * buffer if group["nesterov"] else buffer


def _adam(gradient: Tensor, group: Mapping[str, Any], state: Mapping[str, Any]) -> Tensor:
    beta1, beta2 = (float(beta) for beta in group["betas"])
    done = float(state.get("step", 0)) + 1
    mean, square = state.get("exp_avg"), state.get("exp_avg_sq")
    mean = (1 - beta1) * gradient + (0 if mean is None else beta1 * mean.double())
    square = (1 - beta2) * gradient.square() + (0 if square is None else beta2 * square.double())
    if group.get("amsgrad") and state.get("max_exp_avg_sq") is not None:
        square = square.maximum(state["max_exp_avg_sq"].double())
    root = square.sqrt() / math.sqrt(1 - beta2**done) + float(group["eps"])
    direction: Tensor = mean / (1 - beta1**done) / root
    return direction
