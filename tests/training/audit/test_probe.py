"""Is the change that is applied to the weights the one that was asked for?"""

from __future__ import annotations

import math
import weakref
from typing import Any

import pytest
import torch

from lorabench.training.audit.judge import finite_findings, own_findings, probe_findings, stillness_findings
from lorabench.training.audit.measure import as_hooked, as_used
from lorabench.training.audit.probe import audit, record
from lorabench.training.audit.recorder import Step
from lorabench.training.audit.report import unexplained_text
from lorabench.training.trainer.build import build
from tests.training.audit.conftest import Configured
from tests.training.audit.recorded import hook_scales, recorded, reduced, same_rows, used_scales


def test_plain_sgd_applies_lr_times_the_gradient(configured: Configured) -> None:
    steps = recorded(configured())
    scales = used_scales(steps)
    assert len(scales) == 24 * 2 - 12  # six layers, A and B of two modules; A rests in the first step
    assert scales == pytest.approx([1.0] * len(scales), abs=1e-6)
    assert [finding.level for finding in probe_findings(reduced(steps))] == ["ok"]


def test_hooks_mislead_when_gradients_accumulate_and_the_audit_does_not(configured: Configured) -> None:
    steps = recorded(configured(gradient_accumulation_steps=2), prepare=same_rows)
    assert hook_scales(steps) == pytest.approx([2.0] * len(hook_scales(steps)), rel=1e-4)
    assert used_scales(steps) == pytest.approx([1.0] * len(used_scales(steps)), abs=1e-6)


def test_hooks_mislead_when_gradients_are_clipped_and_the_audit_does_not(configured: Configured) -> None:
    steps = recorded(configured(max_grad_norm=0.25))
    clip = steps[0].clip
    assert 0.01 < clip < 0.5
    first = [as_hooked(tensor) for tensor in steps[0].tensors.values()]
    assert [one.scale for one in first if one] == pytest.approx([clip] * 12, rel=1e-4)
    assert used_scales(steps) == pytest.approx([1.0] * len(used_scales(steps)), abs=1e-6)


def test_hooks_mislead_when_a_module_is_called_twice_and_the_audit_does_not(configured: Configured) -> None:
    """Reentrant checkpointing of halves: two backward passes reach one tensor, and a hook hears the last."""

    def call_twice(trainer: Any) -> None:
        from torch.utils.checkpoint import checkpoint

        for name, module in trainer.model.named_modules():
            if name.endswith("q_proj"):
                plain = module.forward

                def twice(x: torch.Tensor, *_: Any, plain: Any = plain) -> torch.Tensor:
                    halves = x.requires_grad_().chunk(2, dim=1)
                    return torch.cat([checkpoint(plain, half, use_reentrant=True) for half in halves], dim=1)

                module.forward = twice

    steps = recorded(configured(), prepare=call_twice)
    queries = {n: t for n, t in steps[0].tensors.items() if "q_proj.lora_B" in n}
    assert len(queries) == 6
    for tensor in queries.values():
        assert tensor.hook_calls == 2
        hooked, used = as_hooked(tensor), as_used(tensor)
        assert hooked is not None
        assert used is not None
        assert max(abs(hooked.scale - 1), hooked.residual) > 0.01
        assert used.scale == pytest.approx(1.0, abs=1e-6)


def test_an_optimizer_that_applies_half_is_found_with_its_tensors(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def halved(self: Any, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.data.add_(parameter.grad, alpha=-0.5 * group["lr"])

    monkeypatch.setattr(torch.optim.SGD, "step", halved)
    (finding, *others) = probe_findings(reduced(recorded(configured())))
    assert finding.level == "error"
    assert not others
    assert "0.5 times" in finding.message
    assert finding.detail.count("c = 0.5,") == 24
    assert "model.layers.5.mlp.down_proj.lora_A" in finding.detail


def test_a_step_replaced_on_the_optimizer_itself_is_measured_as_well(configured: Configured) -> None:
    def replace(trainer: Any) -> None:
        trainer.create_optimizer()

        def halved(closure: Any = None) -> None:
            for group in trainer.optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.data.add_(parameter.grad, alpha=-0.5 * group["lr"])

        inner = trainer.optimizer
        while hasattr(inner, "optimizer"):
            inner = inner.optimizer
        inner.step = halved

    steps = recorded(configured(), prepare=replace)
    assert [step.applied for step in steps] == [True, True]
    assert next(probe_findings(reduced(steps))).level == "error"
    assert used_scales(steps) == pytest.approx([0.5] * len(used_scales(steps)), abs=1e-5)


def test_the_audit_saves_nothing_whatever_the_run_would(configured: Configured) -> None:
    saving = {"load_best_model_at_end": True, "save_strategy": "steps", "eval_strategy": "steps"}
    config = configured(**saving, save_steps=1, eval_steps=1, dataset_test_split="train")
    report = audit(config, steps=1)
    assert report.findings[0].level == "ok"
    assert [path.name for path in config.folder.iterdir()] == ["run.yaml"]


def test_tensors_that_stand_still_are_named_or_explained(configured: Configured) -> None:
    def break_two(trainer: Any) -> None:
        modules = dict(trainer.model.named_modules())
        layer = modules["base_model.model.model.layers.0.self_attn.q_proj"]
        plain = layer.lora_A["default"].forward
        layer.lora_A["default"].forward = lambda x: plain(x).detach()
        trainer.create_optimizer()
        group = trainer.optimizer.param_groups[0]
        lost = modules["base_model.model.model.layers.1.mlp.down_proj"].lora_B["default"].weight
        for group in trainer.optimizer.param_groups:
            group["params"] = [p for p in group["params"] if p is not lost]

    findings = list(stillness_findings(reduced(recorded(configured(), prepare=break_two))))
    told = {finding.message.split(" ", 1)[0]: finding for finding in findings if finding.level == "error"}
    assert "no gradient" in told["model.layers.0.self_attn.q_proj.lora_A"].message
    assert "not in the optimizer" in told["model.layers.1.mlp.down_proj.lora_B"].message
    assert len(told) == 2
    (explained,) = (finding for finding in findings if finding.level == "ok")
    assert "because B is 0 there" in explained.message
    assert "11 tensors (lora_A;" in explained.message  # every A but the broken one


def test_updates_that_rounding_swallows_are_no_silence(configured: Configured) -> None:
    def to_bfloat16(trainer: Any) -> None:
        trainer.model.to(torch.bfloat16)

    tiny = recorded(configured(learning_rate=1e-7), steps=3, prepare=to_bfloat16)
    (finding,) = (f for f in stillness_findings(reduced(tiny)) if f.level == "error")
    assert "(lora_A;" in finding.message
    assert "rounding of bfloat16" in finding.detail
    good = recorded(configured(), prepare=to_bfloat16)
    assert "error" not in {finding.level for finding in probe_findings(reduced(good))}
    scales = [
        found for step in good for t in step.tensors.values() if (found := as_used(t)) and found.readable
    ]
    assert len(scales) >= 24
    assert all(found.holds for found in scales)


@pytest.mark.parametrize(("extra", "scaling"), [({"use_dora": True}, 1.0), ({"use_rslora": True}, 4.0)])
def test_the_whole_audit_holds_for_dora_and_rslora(
    configured: Configured, extra: dict[str, Any], scaling: float
) -> None:
    config = configured(**extra)
    before = sorted(config.folder.iterdir())
    report = audit(config, steps=2)
    assert sorted(config.folder.iterdir()) == before
    assert {finding.level for finding in report.findings} == {"ok"}
    assert [check.scaling for check in report.scaling] == [scaling] * 3
    for check in report.scaling:
        assert 0 < check.error_b < 1e-5
        assert 0 < check.error_a < 1e-5
    assert len(report.changes) == 12


def test_a_scaling_that_is_applied_twice_is_found(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forward that scales by s² has s·s in its gradients: more than lora_alpha/r says."""
    from peft.tuners.lora import Linear

    plain = Linear.forward

    def twice(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        result = plain(self, x, *args, **kwargs)
        base = self.base_layer(x)
        return base + self.scaling["default"] * (result - base)

    monkeypatch.setattr(Linear, "forward", twice)
    report = audit(configured(lora_alpha=32), steps=2)
    (error,) = (finding for finding in report.findings if finding.level == "error")
    assert "not those of a scaling of 2" in error.message


def test_nan_is_an_error_with_its_tensors_and_no_explained_update(configured: Configured) -> None:
    def poison(trainer: Any) -> None:
        lost = dict(trainer.model.named_parameters())[
            "base_model.model.model.layers.2.self_attn.q_proj.lora_A.default.weight"
        ]
        lost.data[0, 0] = math.nan

    steps = recorded(configured(), steps=1, prepare=poison)
    (finding,) = finite_findings(reduced(steps))
    assert finding.level == "error"
    assert "layers.2.self_attn.q_proj.lora_A" in finding.detail
    told = [*probe_findings(reduced(steps)), *own_findings(reduced(steps))]
    assert not any("lora_B of 12" in f.message or "24 tensors" in f.message for f in told)


def test_of_an_embedding_a_starts_at_zero_and_b_rests(configured: Configured) -> None:
    report = audit(configured(lora_target_modules=["q_proj", "embed_tokens"]), steps=2)
    messages = [finding.message for finding in report.findings]
    assert any("lora_embedding_B got a gradient of 0 in the first step" in message for message in messages)
    assert {finding.level for finding in report.findings} <= {"ok", "warning"}
    assert "model.embed_tokens" in {change.module for change in report.changes}


def test_no_step_s_copies_outlive_it(configured: Configured) -> None:
    kept: list[weakref.ref[torch.Tensor]] = []
    alive: list[int] = []

    def take(step: Step) -> None:
        alive.append(sum(reference() is not None for reference in kept))
        kept.extend(weakref.ref(tensor.after) for tensor in step.tensors.values())

    record(build(configured()), 3, take)
    assert alive == [0, 0, 0]


def test_an_audit_that_cannot_check_the_scaling_says_so(configured: Configured) -> None:
    report = audit(configured(lora_target_modules=["embed_tokens", "lm_head_that_is_tied"]), steps=1)
    assert report.scaling == ()
    assert any("scaling was not checked" in finding.message for finding in report.findings)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([], "—"),
        ([(None, 1e-6)], "—"),
        ([(1.1e-4, 2e-4), (1e-7, 1e-6)], "1.1e-04 ✔"),
        ([(1.1e-4, None)], "1.1e-04 ✔"),
        ([(1.1e-4, 2e-4), (1e-5, 1e-6)], "1.1e-04 ✘"),
    ],
)
def test_what_is_unexplained_says_whether_rounding_explains_it(rows: Any, text: str) -> None:
    assert unexplained_text(rows) == text
