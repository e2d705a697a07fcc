"""Take down what happens to every adapter tensor around an optimizer step.

Three things a tensor: θ before and after, read from the parameters; the gradient that the optimizer really
uses, read from `param.grad` when its `step` begins; and what a hook on the parameter saw, for comparison:
hooks run in the middle of a backward pass, before accumulation, unscaling and clipping are done.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback


@dataclass(slots=True)
class TensorStep:
    """One tensor over one optimizer step. All tensors are copies on the CPU, in the parameter's dtype.

    `accumulated` is what the backward passes left, still times the loss scale; `used` what stood in
    `param.grad` when the optimizer stepped, without the scale; `hooked` what a hook saw last of its
    `hook_calls`. None is no gradient.
    `state` is the optimizer's state of this tensor as it was before the step, `group` its options (lr, …).
    `cuda` says that the parameter itself lies on a GPU.
    """

    before: Tensor
    after: Tensor
    accumulated: Tensor | None = None
    used: Tensor | None = None
    hooked: Tensor | None = None
    hook_calls: int = 0
    state: Mapping[str, Any] = field(default_factory=dict)
    group: Mapping[str, Any] = field(default_factory=dict)
    cuda: bool = False


@dataclass(slots=True)
class Step:
    """One optimizer step.

    `weights` are the shares that the micro-batches' own mean losses have in the loss of the step: 1/n each
    where the Trainer divides by n; where it divides by the number of trained tokens they go by those.
    `clip` is what max_grad_norm makes of the accumulated gradients, 1 where it is not reached.
    `applied` is false where a GradScaler skipped the step because gradients overflowed.
    """

    number: int
    tensors: dict[str, TensorStep]
    optimizer: str
    weights: list[float]
    loss_scale: float
    max_grad_norm: float
    clip: float
    applied: bool


class Recorder(TrainerCallback):
    """Records the steps of one Trainer, which trains inside `recording()`; each one goes to `take`.

    It keeps nothing of a step itself: the copies are about seven times the adapter.
    """

    def __init__(self, trainer: Any, take: Callable[[Step], object]) -> None:
        self._take = take
        self._trainer = trainer
        self._parameters = {n: p for n, p in trainer.model.named_parameters() if p.requires_grad}
        self._hooked: dict[str, tuple[Tensor, int]] = {}
        self._items: list[tuple[int, int | None]] = []
        self._before: dict[str, Tensor] = {}
        self._accumulated: dict[str, Tensor] = {}
        self._at_step: dict[str, TensorStep] = {}
        self._scale = 1.0
        self._stepped = self._overflowed = False
        self._step_hook: Any = None

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Listen for as long as the block runs; the trainer is left as it was."""
        trainer = self._trainer
        handles = [p.register_hook(self._hear(name)) for name, p in self._parameters.items()]
        training_step, clip = trainer.training_step, trainer.accelerator.clip_grad_norm_
        trainer.training_step = self._counting(training_step)
        trainer.accelerator.clip_grad_norm_ = self._before_clipping(clip)
        trainer.add_callback(self)
        try:
            yield
        finally:
            for handle in (*handles, self._step_hook):
                if handle is not None:
                    handle.remove()
            trainer.remove_callback(self)
            # Both were the class's own methods, and not attributes of these objects.
            del trainer.training_step, trainer.accelerator.clip_grad_norm_

    def _hear(self, name: str) -> Callable[[Tensor], None]:
        def hook(gradient: Tensor) -> None:
            calls = self._hooked[name][1] if name in self._hooked else 0
            self._hooked[name] = _copy(gradient), calls + 1

        return hook

    def _counting(self, training_step: Callable[..., Any]) -> Callable[..., Any]:
        """Note how many tokens each micro-batch trains on, and by what number its loss is divided."""

        def counted(model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            labels = inputs.get("labels")
            shifted = inputs.get("shift_labels", None if labels is None else labels[..., 1:])
            trained = 0 if shifted is None else int((shifted != -100).sum())
            self._items.append((trained, None if num_items_in_batch is None else int(num_items_in_batch)))
            return training_step(model, inputs, num_items_in_batch)

        return counted

    def _before_clipping(self, clip: Callable[..., Any]) -> Callable[..., Any]:
        def clipping(*args: Any, **kwargs: Any) -> Any:
            # The Trainer may come here twice in a step: to clip, and then for the norm.
            if not self._accumulated:
                self._scale = self._loss_scale()
                self._accumulated = self._gradients()
            return clip(*args, **kwargs)

        return clipping

    def _loss_scale(self) -> float:
        scaler = self._trainer.accelerator.scaler
        return 1.0 if scaler is None else float(scaler.get_scale())

    def _gradients(self) -> dict[str, Tensor]:
        return {n: _copy(p.grad) for n, p in self._parameters.items() if p.grad is not None}

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Wait at the optimizer's own step, inside whatever wraps it."""
        optimizer = self._trainer.optimizer
        while hasattr(optimizer, "optimizer"):
            optimizer = optimizer.optimizer
        self._step_hook = optimizer.register_step_pre_hook(self._at_optimizer)
        self._optimizer = optimizer

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        self._before = {name: _copy(p) for name, p in self._parameters.items()}
        self._keep(self._optimizer)
        self._stepped = self._overflowed = False

    def _at_optimizer(self, optimizer: Any, *_: Any) -> None:
        """Keep what the optimizer uses once more: a GradScaler may have changed it since.

        A fused optimizer is told of scale and overflow, and divides or skips inside its own kernel.
        """
        scale, overflow = getattr(optimizer, "grad_scale", None), getattr(optimizer, "found_inf", None)
        self._keep(optimizer, 1.0 if scale is None else float(scale))
        self._overflowed = overflow is not None and float(overflow) > 0
        self._stepped = True

    def _keep(self, optimizer: Any, scale: float = 1.0) -> None:
        groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        for name, parameter in self._parameters.items():
            if id(parameter) not in groups:
                continue  # the optimizer does not know this tensor at all
            group = groups[id(parameter)]
            self._at_step[name] = TensorStep(
                before=self._before[name],
                after=self._before[name],
                used=None if parameter.grad is None else _copy(parameter.grad) / scale,
                state={k: _copied(v) for k, v in optimizer.state.get(parameter, {}).items()},
                group={k: _copied(v) for k, v in group.items() if k != "params"},
                cuda=parameter.is_cuda,
            )

    def on_optimizer_step(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        """Read the parameters again, and close the step."""
        tensors = {}
        for name, parameter in self._parameters.items():
            before = self._before[name]
            step = self._at_step.get(name) or TensorStep(before, before)
            step.after = _copy(parameter)
            step.accumulated = self._accumulated.get(name)
            step.hooked, step.hook_calls = self._hooked.get(name, (None, 0))
            tensors[name] = step
        self._take(
            Step(
                number=state.global_step + 1,
                tensors=tensors,
                optimizer=_name(type(self._optimizer)),
                weights=_weights(self._items),
                loss_scale=self._scale,
                max_grad_norm=float(args.max_grad_norm),
                clip=_clip(self._accumulated.values(), self._scale, float(args.max_grad_norm)),
                # A replaced `step` does not tell that it ran, but its work shows.
                applied=not self._overflowed
                and (self._stepped or any(not t.after.equal(t.before) for t in tensors.values())),
            )
        )
        self._before, self._accumulated, self._hooked, self._at_step, self._items = {}, {}, {}, {}, []


def _name(optimizer: type) -> str:
    """Return `AdamW` of torch's own, and the whole name of others: bitsandbytes has an AdamW too."""
    own = optimizer.__module__.startswith("torch.optim")
    return optimizer.__name__ if own else f"{optimizer.__module__}.{optimizer.__name__}"


def _clip(gradients: Iterable[Tensor], scale: float, most: float) -> float:
    """Return most / ‖g‖ where that is under 1, over all tensors, as torch.nn.utils.clip_grad_norm_ has it."""
    if most <= 0:
        return 1.0
    norm = math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients)) / scale
    return min(1.0, most / (norm + 1e-6))


def _weights(items: list[tuple[int, int | None]]) -> list[float]:
    """Return each micro-batch's share in the loss of the step."""
    return [1 / len(items) if total is None else trained / total for trained, total in items]


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)


def _copied(value: Any) -> Any:
    return _copy(value) if isinstance(value, torch.Tensor) else value
