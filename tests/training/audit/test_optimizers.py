"""What stands between a gradient and the update: schedules, clipping, and the optimizers' own rules."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from lorabench.training.audit.facts import step_report
from lorabench.training.audit.judge import own_findings, probe_findings, stillness_findings
from lorabench.training.audit.recorder import Step
from tests.training.audit.conftest import Configured
from tests.training.audit.recorded import hook_scales, recorded, reduced, same_rows, used_scales

FACTORS: dict[str, dict[str, Any]] = {
    "accumulation": {"gradient_accumulation_steps": 4},
    "clipping": {"max_grad_norm": 0.3},
    "learning rate": {"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 4, "learning_rate": 0.1},
    "weight decay": {"weight_decay": 0.2, "learning_rate": 0.1},
    "preconditioning": {"optim": "adamw_torch", "learning_rate": 0.01},
}


@pytest.mark.parametrize("name", FACTORS)
def test_each_factor_alone_explains_the_update(configured: Configured, name: str) -> None:
    explain(recorded(configured(**FACTORS[name]), steps=3), {name})


def test_all_factors_together_explain_the_update(configured: Configured) -> None:
    everything = {key: value for options in FACTORS.values() for key, value in options.items()}
    steps = recorded(configured(**everything), steps=3)
    explain(steps, set(FACTORS))
    values = {factor.name: factor.value for factor in step_report(steps[1], 0.01).factors}
    assert values["learning rate"] == pytest.approx(1 / 4)
    assert values["clipping"] == pytest.approx(steps[1].clip)


def explain(steps: list[Step], names: set[str]) -> None:
    assert [finding.level for finding in own_findings(reduced(steps))] == ["ok"]
    report = step_report(
        steps[-1], float(steps[-1].tensors[next(iter(steps[-1].tensors))].group["initial_lr"])
    )
    assert names <= {factor.name for factor in report.factors}
    left = [row.unexplained for row in report.tensors]
    assert all(value is not None and value < 5e-3 for value in left)


def test_momentum_is_explained_and_is_no_plain_step(configured: Configured) -> None:
    def give_momentum(trainer: Any) -> None:
        trainer.create_optimizer()
        for group in trainer.optimizer.param_groups:
            group["momentum"], group["nesterov"] = 0.9, True

    steps = recorded(configured(learning_rate=0.1), steps=3, prepare=give_momentum)
    assert [finding.level for finding in own_findings(reduced(steps))] == ["ok"]
    assert next(probe_findings(reduced(steps))).level == "error"  # Δθ is more than −lr·g


def test_an_optimizer_with_another_rule_stands_as_measured(configured: Configured) -> None:
    (finding,) = own_findings(reduced(recorded(configured(optim="adafactor", learning_rate=0.01))))
    assert (finding.level, "Adafactor" in finding.message) == ("warning", True)


def test_the_product_of_the_factors_is_the_measured_scale(configured: Configured) -> None:
    """With equal micro-batches under SGD everything is one number: c of the last hook's gradient."""
    rates = {
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": 4,
        "max_grad_norm": 0.3,
        "gradient_accumulation_steps": 2,
    }
    steps = recorded(configured(**rates), steps=3, prepare=same_rows)
    for step in steps[1:]:
        report = step_report(step, 1.0)
        factor = {one.name: one.value for one in report.factors}
        product = factor["clipping"] * factor["learning rate"] / factor["accumulation"]
        for tensor in step.tensors.values():
            change = tensor.after.double() - tensor.before.double()
            assert tensor.hooked is not None
            raw = -tensor.hooked.double()  # times the configured learning rate, 1
            if raw.any():
                assert float((change * raw).sum() / raw.square().sum()) == pytest.approx(product, rel=2e-3)


def scaled_by(factor: float) -> Any:
    def prepare(trainer: Any) -> None:
        trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=factor)

    return prepare


def test_the_loss_scale_is_divided_out_and_an_overflow_is_a_skipped_step(configured: Configured) -> None:
    def scaled(factor: float) -> Any:
        def prepare(trainer: Any) -> None:
            accelerator = trainer.accelerator
            accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=factor)
            # What accelerate does by itself where fp16 is asked for, and there is a GPU for it.
            accelerator.unscale_gradients = lambda: accelerator.scaler.unscale_(
                accelerator._optimizers[0].optimizer
            )

        return prepare

    steps = recorded(configured(max_grad_norm=0.3), prepare=scaled(1024.0))
    assert steps[0].loss_scale == 1024
    assert [finding.level for finding in own_findings(reduced(steps))] == ["ok"]
    assert used_scales(steps) == pytest.approx([1.0] * len(used_scales(steps)), abs=3e-6)
    assert {factor.name: factor.value for factor in step_report(steps[0], 1.0).factors}[
        "loss scale"
    ] == 1 / 1024

    unclipped = recorded(configured(), prepare=scaled(1024.0))
    assert used_scales(unclipped) == pytest.approx([1.0] * len(used_scales(unclipped)), abs=1e-6)

    skipped = recorded(configured(), prepare=scaled(2.0**127))
    assert not skipped[0].applied
    assert "overflowed in fp16" in [finding.message for finding in own_findings(reduced(skipped))][-1]


def test_a_fused_optimizer_that_divides_and_skips_in_its_kernel_is_understood(configured: Configured) -> None:
    fused = {"optim": "adamw_torch_fused", "learning_rate": 0.01}
    steps = recorded(configured(**fused), prepare=scaled_by(1024.0))
    assert [finding.level for finding in own_findings(reduced(steps))] == ["ok"]
    assert hook_scales(steps) == pytest.approx([1 / 1024] * len(hook_scales(steps)), rel=1e-5)
    skipped = recorded(configured(**fused), steps=1, prepare=scaled_by(2.0**127))
    assert not skipped[0].applied
    assert "overflowed in fp16" in [finding.message for finding in own_findings(reduced(skipped))][-1]
    assert list(stillness_findings(reduced(skipped))) == []


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_a_wrong_scale_is_found_in_bfloat16_under_adam_too(
    configured: Configured, monkeypatch: pytest.MonkeyPatch, scale: float
) -> None:
    plain = torch.optim.AdamW.step

    def wrong(self: Any, closure: Any = None) -> None:
        before = [p.detach().clone() for group in self.param_groups for p in group["params"]]
        plain(self, closure)
        parameters = (p for group in self.param_groups for p in group["params"])
        for was, parameter in zip(before, parameters, strict=True):
            parameter.data.copy_(was + scale * (parameter.data - was))

    def to_bfloat16(trainer: Any) -> None:
        trainer.model.to(torch.bfloat16)

    values = {"optim": "adamw_torch", "learning_rate": 0.01}
    right = recorded(configured(**values), prepare=to_bfloat16)
    assert "error" not in {finding.level for finding in own_findings(reduced(right))}
    monkeypatch.setattr(torch.optim.AdamW, "step", wrong)
    steps = recorded(configured(**values), prepare=to_bfloat16)
    assert next(iter(own_findings(reduced(steps)))).level == "error"


def test_steps_that_bfloat16_cannot_show_are_not_called_explained(configured: Configured) -> None:
    def to_bfloat16(trainer: Any) -> None:
        trainer.model.to(torch.bfloat16)

    values = {"optim": "adamw_torch", "learning_rate": 2e-4}
    told = list(own_findings(reduced(recorded(configured(**values), steps=3, prepare=to_bfloat16))))
    assert any("cannot be read" in finding.message and finding.level == "warning" for finding in told)


def test_an_optimizer_of_another_library_is_not_taken_for_torch_s(configured: Configured) -> None:
    def disguise(trainer: Any) -> None:
        trainer.create_optimizer()
        inner = trainer.optimizer
        while hasattr(inner, "optimizer"):
            inner = inner.optimizer
        inner.__class__ = type("AdamW", (type(inner),), {"__module__": "bitsandbytes.optim.adamw"})

    steps = recorded(configured(optim="adamw_torch", learning_rate=0.01), prepare=disguise)
    (finding,) = own_findings(reduced(steps))
    assert (finding.level, "bitsandbytes.optim.adamw.AdamW" in finding.message) == ("warning", True)


def on_a_gpu(
    parameters: Any, grads: Any, means: Any, squares: Any, _: Any, steps: Any, *, share: float, **told: Any
) -> None:
    """A step of AdamW as CUDA's fused kernel takes it: in float32 altogether, its betas too.

    `share` is the part of the step that is applied.
    """
    one = torch.tensor(1.0)
    beta1, beta2 = one * told["beta1"], one * told["beta2"]
    for p, g, mean, square, step in zip(parameters, grads, means, squares, steps, strict=True):
        p.mul_(1 - one * told["lr"] * told["weight_decay"])
        mean.copy_(beta1 * mean + (g - beta1 * g))
        square.copy_(beta2 * square + (g * g - beta2 * (g * g)))
        root = square.sqrt() / (1 - beta2**step).sqrt() + told["eps"]
        p.sub_(share * one * told["lr"] / (1 - beta1**step) * mean / root)


@pytest.mark.parametrize(("share", "level"), [(1.0, "ok"), (1.001, "error")])
def test_betas_that_a_gpu_s_kernel_rounds_are_no_fault_and_a_thousandth_is(
    configured: Configured, monkeypatch: pytest.MonkeyPatch, share: float, level: str
) -> None:
    monkeypatch.setattr(torch, "_fused_adamw_", partial(on_a_gpu, share=share))
    steps = recorded(configured(optim="adamw_torch_fused", learning_rate=0.01), steps=3)
    for tensor in (tensor for step in steps for tensor in step.tensors.values()):
        assert not tensor.cuda
        tensor.cuda = True
    assert [finding.level for finding in own_findings(reduced(steps))] == [level]
    if share == 1:  # it has something to explain
        assert max(row.unexplained or 0.0 for step in reduced(steps) for row in step.tensors) > 4e-6
