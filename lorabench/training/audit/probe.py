"""Run a few steps as a run is configured, and compare what was applied with what was asked for.

Nothing is saved, and the run's folder is not touched.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor
from transformers import TrainerCallback

from lorabench.errors import LorabenchError
from lorabench.text import visible
from lorabench.training.audit.change import change_of
from lorabench.training.audit.facts import short_name, step_report
from lorabench.training.audit.judge import (
    CHECK,
    finite_findings,
    hook_findings,
    own_findings,
    probe_findings,
    stillness_findings,
)
from lorabench.training.audit.recorder import Recorder, Step
from lorabench.training.audit.report import AuditReport, ModuleChange, ScalingCheck, StepReport
from lorabench.training.audit.scaling import scaling_checks
from lorabench.training.config.run_config import RunConfig
from lorabench.training.preflight.finding import Finding
from lorabench.training.trainer.build import build
from lorabench.training.trainer.failures import failure_of

STEPS = 3
_QUIET = {
    "save_strategy": "no",
    "eval_strategy": "no",
    "logging_strategy": "no",
    "load_best_model_at_end": False,
    "push_to_hub": False,
    "report_to": "none",
    "disable_tqdm": True,
}
_PLAIN_SGD = {
    "optim": "sgd",
    "learning_rate": 1.0,
    "weight_decay": 0.0,
    "max_grad_norm": 0.0,
    "lr_scheduler_type": "constant",
    "warmup_steps": 0,
}


def audit(config: RunConfig, steps: int = STEPS) -> AuditReport:
    """Build the run twice and take `steps` optimizer steps each: under plain SGD, and as configured.

    Raises:
        LorabenchError: the run cannot be built or takes no step; says why.
    """
    try:
        return _audit(config, steps)
    except LorabenchError:
        raise
    except Exception as error:
        reason, told, hint = failure_of(error, config)
        advice = hint if reason != "error" else "lorabench check says what would keep this run from training."
        raise LorabenchError(told, advice) from error


def _audit(config: RunConfig, steps: int) -> AuditReport:
    with tempfile.TemporaryDirectory() as folder:
        quiet = _QUIET | {"output_dir": folder}
        trainer = build(_changed(config, quiet | _PLAIN_SGD))
        probe = step_reports(trainer, steps)
        scaling = scaling_checks(trainer)
        del trainer
        gc.collect()  # two models may be one too many
        trainer = build(_changed(config, quiet))
        before = {name: p.detach().to("cpu", copy=True) for name, p in trained(trainer.model)}
        own = step_reports(trainer, steps)
        findings = [*finite_findings(probe), *probe_findings(probe)]
        findings += [*finite_findings(own), *own_findings(own), *_scaling_findings(scaling)]
        findings += [*hook_findings(own), *stillness_findings(own)]
        return AuditReport(
            config=str(config.path or ""),
            probe=tuple(probe),
            own=tuple(own),
            changes=tuple(module_changes(trainer.model, before)),
            scaling=tuple(scaling),
            findings=tuple(findings),
        )


def _changed(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """Return a copy of the configuration with other values, which is not saved anywhere."""
    copy = RunConfig(config.text, config.path)
    copy.apply(values)
    return copy


def step_reports(trainer: Any, steps: int) -> list[StepReport]:
    """Train `steps` optimizer steps and return what happened, each reduced to numbers before the next.

    The schedule stays that of the whole run.

    Raises:
        LorabenchError: the data gives no step.
    """
    reports: list[StepReport] = []
    learning_rate = float(trainer.args.learning_rate)
    record(trainer, steps, lambda step: reports.append(step_report(step, learning_rate)))
    if not reports:
        raise LorabenchError("The run has no step to audit: its data gives no batch.")
    return reports


def record(trainer: Any, steps: int, take: Callable[[Step], object]) -> None:
    """Train `steps` optimizer steps and give each one to `take`."""
    halt = _Halt(steps)
    trainer.add_callback(halt)
    with Recorder(trainer, take).recording():
        trainer.train()
    trainer.remove_callback(halt)


class _Halt(TrainerCallback):
    """Stops after some steps. A smaller max_steps would change the schedule."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = state.global_step >= self._steps


def trained(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters that train, with their names."""
    return ((name, p) for name, p in model.named_parameters() if p.requires_grad)


def module_changes(model: Any, before: Mapping[str, Tensor]) -> Iterator[ModuleChange]:
    """Compare each adapted module's ΔW now with that of the parameters `before`."""
    from peft.tuners.lora import LoraLayer

    now = dict(trained(model))
    for name, module in model.named_modules():
        if not isinstance(module, LoraLayer):
            continue
        for adapter in module.active_adapters:
            a, b = f"{name}.lora_A.{adapter}.weight", f"{name}.lora_B.{adapter}.weight"
            if adapter in module.lora_embedding_A:
                a, b = f"{name}.lora_embedding_A.{adapter}", f"{name}.lora_embedding_B.{adapter}"
            if a not in before or b not in before or before[a].dim() != 2:
                continue  # a convolution's
            scaling = float(module.scaling[adapter])
            new_a, new_b = now[a].detach().cpu(), now[b].detach().cpu()
            change = change_of(before[a], before[b], new_a, new_b, scaling)
            yield ModuleChange(
                short_name(name), scaling, change.norm, change.by_a, change.by_b, change.norm_before
            )


def _scaling_findings(checks: Sequence[ScalingCheck]) -> Iterator[Finding]:
    if not checks:
        message = "LoRA's scaling was not checked: no adapted layer has a weight that takes a gradient."
        yield Finding(
            CHECK, "advice", message, "Layers in 4 or 8 bits, and other layers than Linear, have none."
        )
        return
    wrong = [check for check in checks if max(check.error_a, check.error_b) > check.tolerance]
    if wrong:
        one = wrong[0]
        message = (
            f"In {visible(one.module)} the gradients are not those of a scaling of {one.scaling:g}: "
            f"{max(one.error_a, one.error_b):.2g} of their size is off."
        )
        yield Finding(CHECK, "error", message)
    else:
        worst = max(max(check.error_a, check.error_b) for check in checks)
        scalings = ", ".join(f"{value:.4g}" for value in sorted({check.scaling for check in checks}))
        message = f"LoRA's scaling {scalings} stands in the gradients, once, to within {worst:.1g}."
        yield Finding(
            CHECK,
            "ok",
            message,
            "As in ∂L/∂A = s·Bᵀ·∂L/∂W and ∂L/∂B = s·∂L/∂W·Aᵀ; the step has no s of its own.",
        )
