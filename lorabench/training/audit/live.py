"""The audit that is always there: at the logging interval, what a step does to the adapter's tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from lorabench.text import visible
from lorabench.training.audit.facts import short_name

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

LARGE = 0.1
"""A step that moves a group by more of its norm than this is worth a warning."""
_EXTREMES = 5
_ELSEWHERE = ("DistributedType.DEEPSPEED", "DistributedType.FSDP")
_GROUPS = {"A": (".lora_A.", ".lora_embedding_A."), "B": (".lora_B.", ".lora_embedding_B.")}

Write = Callable[..., object]
Warn = Callable[[str], object]


class UpdateWatch(TrainerCallback):
    """Writes an `update` event each logging interval, of the very step at its end.

    Its fields: `step`; `groups`, ‖Δθ‖/‖θ‖ over all A and over all B, θ being what the step began with;
    `extreme`, the five tensors that move most against their own norm, as [name, relative update]; `still`,
    the tensors that did not move; `c`, the effective scale ⟨Δθ, −lr·g⟩/‖lr·g‖² under plain SGD, None under
    other optimizers, whose step is not along the gradient. A relative update from θ = 0 is None.
    """

    def __init__(self, write: Write, warn: Warn) -> None:
        self._write, self._warn = write, warn
        self._names: list[str] = []
        self._parameters: list[Tensor] = []
        self._members: dict[str, list[int]] = {}
        self._before: list[Tensor] = []
        self._settled: set[str] = set()
        self._told: set[tuple[str, str]] = set()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Find A and B; of a model that is spread over processes none is whole here, and none is watched.

        DeepSpeed steps inside the backward pass: here there is no moment before the step.
        """
        if args.distributed_state is not None and str(args.distributed_state.distributed_type) in _ELSEWHERE:
            return
        found = {
            name: parameter
            for name, parameter in kwargs["model"].named_parameters()
            if parameter.requires_grad and any(mark in name for marks in _GROUPS.values() for mark in marks)
        }
        if not any(isinstance(parameter, DTensor) for parameter in found.values()):
            self._names, self._parameters = [short_name(name) for name in found], list(found.values())
        self._members = {
            group: [i for i, name in enumerate(found) if any(mark in name for mark in marks)]
            for group, marks in _GROUPS.items()
        }

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keep the tensors before a step that will be logged."""
        if self._parameters and (state.global_step + 1) % max(1, int(state.logging_steps)) == 0:
            self._before = [parameter.detach().clone() for parameter in self._parameters]

    @torch.no_grad()
    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Compare, and write the event; what goes wrong here ends the watch, and not the run."""
        if not self._before:
            return
        before, self._before = self._before, []
        try:
            self._compare(before, state.global_step + 1, kwargs["optimizer"])
        except Exception as error:  # noqa: BLE001  a watch of the run is not worth the run
            self._parameters = []
            self._warn(f"The updates are watched no more: {type(error).__name__}: {visible(error)}")

    def _compare(self, before: list[Tensor], step: int, optimizer: Any) -> None:
        changes = list(torch._foreach_sub([p.detach() for p in self._parameters], before))
        scale = _scale(optimizer, self._parameters, changes)
        was, moved = _norms(before), _norms(changes)
        sizes = {
            group: (math.hypot(*(moved[i] for i in at)), math.hypot(*(was[i] for i in at)))
            for group, at in self._members.items()
        }
        groups = {group: _relative(*size) for group, size in sizes.items()}
        still = [name for name, size in zip(self._names, moved, strict=True) if size == 0]
        own = ((name, _relative(m, w)) for name, m, w in zip(self._names, moved, was, strict=True))
        known = sorted(((n, share) for n, share in own if share is not None), key=lambda pair: -pair[1])
        extreme = [list(pair) for pair in known[:_EXTREMES]]
        self._write("update", step=step, groups=groups, extreme=extreme, still=still, c=scale)
        if float(_plain(optimizer).param_groups[0]["lr"]) > 0:
            self._warn_of_standstill(sizes, step)
            self._warn_of_leaps(groups, step)

    def _warn_of_standstill(self, sizes: dict[str, tuple[float, float]], step: int) -> None:
        """Warn of a group that does not move. While B is 0 (of embeddings A), the other has no gradient."""
        for group, (moved, _) in sizes.items():
            resting = sizes["B" if group == "A" else "A"][1] == 0
            if moved == 0 and self._members[group] and not resting:
                text = f"Step {step} moved no {group} at all, though the learning rate is not 0."
                self._tell(group, "still", text)

    def _warn_of_leaps(self, groups: dict[str, float | None], step: int) -> None:
        """Warn of a group that moves too far in one step.

        B starts at 0, so that its first steps are large against it: it is judged once it has settled.
        """
        for group, share in groups.items():
            if share is None:
                continue
            if group == "A" or share < LARGE:
                self._settled.add(group)
            if share > LARGE and group in self._settled:
                text = f"Step {step} moved {group} by {share:.0%} of its norm: the learning rate is high."
                self._tell(group, "leap", text)

    def _tell(self, group: str, what: str, text: str) -> None:
        if (group, what) not in self._told:
            self._told.add((group, what))
            self._warn(text)


def _norms(tensors: list[Tensor]) -> list[float]:
    """Return each tensor's norm, with one wait a device."""
    found: list[float] = [0.0] * len(tensors)
    for device in dict.fromkeys(tensor.device for tensor in tensors):
        at = [i for i, tensor in enumerate(tensors) if tensor.device == device]
        norms = torch.stack(list(torch._foreach_norm([tensors[i] for i in at]))).tolist()
        for i, norm in zip(at, norms, strict=True):
            found[i] = norm
    return found


def _relative(change: float, norm: float) -> float | None:
    return change / norm if norm else None


def _plain(optimizer: Any) -> Any:
    """Return the optimizer inside accelerate's wrapper."""
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer


def _scale(optimizer: Any, parameters: list[Tensor], changes: list[Tensor]) -> float | None:
    """Return c of the whole step under SGD without momentum and decay, None otherwise."""
    optimizer = _plain(optimizer)
    options = optimizer.param_groups[0]
    plain = isinstance(optimizer, torch.optim.SGD) and not options["momentum"] and not options["weight_decay"]
    pairs = [(c, p.grad) for c, p in zip(changes, parameters, strict=True) if p.grad is not None]
    rate = float(options["lr"])
    if not plain or not rate or not pairs:
        return None
    along = sum(float(torch.sum(change.float() * gradient.float())) for change, gradient in pairs)
    wanted = sum(float(gradient.float().square().sum()) for _, gradient in pairs) * rate
    return -along / wanted if wanted else None
