"""The update event of each logging interval, and what it warns of."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lorabench.training.audit.live import UpdateWatch
from lorabench.training.audit.recorder import Recorder, Step
from lorabench.training.trainer.build import build
from tests.training.audit.conftest import Configured


class Told:
    """What a watch wrote, and what it warned of."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.warnings: list[str] = []

    def write(self, kind: str, **fields: Any) -> None:
        assert kind == "update"
        self.events.append(fields)


def watched(config: Any, prepare: Any = None) -> tuple[Told, list[Step]]:
    """Train with a watch, and with a recorder that takes every step down."""
    told = Told()
    trainer = build(config, callbacks=[UpdateWatch(told.write, told.warnings.append)])
    if prepare is not None:
        prepare(trainer)
    steps: list[Step] = []
    with Recorder(trainer, steps.append).recording():
        trainer.train()
    return told, steps


def relative(step: Step, mark: str) -> float:
    """‖Δθ‖/‖θ‖ over the tensors whose name has `mark`, from the recorder's copies, in float64."""
    tensors = [tensor for name, tensor in step.tensors.items() if mark in name]
    moved = math.sqrt(sum(float((t.after.double() - t.before.double()).square().sum()) for t in tensors))
    return moved / math.sqrt(sum(float(t.before.double().square().sum()) for t in tensors))


def test_each_logging_interval_tells_what_its_last_step_moved(configured: Configured) -> None:
    values = {"max_steps": 6, "logging_strategy": "steps", "logging_steps": 3, "learning_rate": 0.01}
    told, steps = watched(configured(**values))
    assert [event["step"] for event in told.events] == [3, 6]
    for event, step in zip(told.events, (steps[2], steps[5]), strict=True):
        assert event["groups"]["A"] == pytest.approx(relative(step, ".lora_A."), rel=1e-3)
        assert event["groups"]["B"] == pytest.approx(relative(step, ".lora_B."), rel=1e-4)
        assert event["c"] == pytest.approx(1.0, abs=1e-4)  # fp32 rounds steps of 1e-5 of a tensor's size
        assert event["still"] == []
        assert len(event["extreme"]) == 5
        name, share = event["extreme"][0]
        (largest,) = (n for n in step.tensors if name in n)
        assert share == pytest.approx(relative(step, largest), rel=1e-4)
    assert told.warnings == []


def test_under_adam_there_is_no_c(configured: Configured) -> None:
    values = {"max_steps": 2, "logging_strategy": "steps", "logging_steps": 2, "optim": "adamw_torch"}
    told, _ = watched(configured(**values, learning_rate=1e-4))
    assert [event["c"] for event in told.events] == [None]


def test_a_group_that_stops_moving_is_warned_of_once(configured: Configured) -> None:
    def freeze_b(trainer: Any) -> None:
        trainer.create_optimizer()
        for group in trainer.optimizer.param_groups:
            group["params"] = [
                p for p in group["params"] if p.shape[1] != 16
            ]  # B of every module: (out, r = 16)

    values = {"max_steps": 3, "logging_strategy": "steps", "logging_steps": 1, "optim": "adamw_torch"}
    told, _ = watched(configured(**values, weight_decay=0.1, learning_rate=1e-3), freeze_b)
    assert [event["groups"]["B"] for event in told.events] == [None, None, None]  # still 0
    assert [len(event["still"]) for event in told.events] == [12] * 3  # decay alone moves A
    assert told.warnings == ["Step 1 moved no B at all, though the learning rate is not 0."]

    def freeze_a(trainer: Any) -> None:
        trainer.create_optimizer()
        for group in trainer.optimizer.param_groups:
            group["params"] = [p for p in group["params"] if p.shape[1] == 16]

    told, _ = watched(configured(**values, learning_rate=1e-3), freeze_a)
    assert told.warnings == ["Step 2 moved no A at all, though the learning rate is not 0."]


def test_a_leap_is_warned_of_but_not_the_first_steps_of_b(configured: Configured) -> None:
    values = {"max_steps": 3, "logging_strategy": "steps", "logging_steps": 1, "optim": "adamw_torch"}
    told, _ = watched(configured(**values, learning_rate=1e-4))
    assert told.events[1]["groups"]["B"] > 0.5
    assert told.warnings == []
    told, _ = watched(configured(**values, learning_rate=0.05))
    assert len(told.warnings) == 1
    assert "moved A by" in told.warnings[0]


def test_a_learning_rate_of_zero_is_no_standstill(configured: Configured) -> None:
    values = {"max_steps": 1, "logging_strategy": "steps", "logging_steps": 1, "warmup_steps": 4}
    told, _ = watched(configured(**values, lr_scheduler_type="constant_with_warmup"))
    assert len(told.events[0]["still"]) == 24
    assert told.warnings == []
    assert torch.is_grad_enabled()


def test_a_defect_of_the_watch_ends_the_watch_and_not_the_run(configured: Configured) -> None:
    def broken(kind: str, **fields: Any) -> None:
        raise RuntimeError("out of memory")

    warnings: list[str] = []
    values = {"max_steps": 3, "logging_strategy": "steps", "logging_steps": 1}
    trainer = build(configured(**values), callbacks=[UpdateWatch(broken, warnings.append)])
    trainer.train()
    assert trainer.state.global_step == 3
    assert warnings == ["The updates are watched no more: RuntimeError: out of memory"]


@pytest.mark.parametrize("kind", ["DEEPSPEED", "FSDP"])
def test_a_model_that_is_spread_over_processes_is_not_watched(configured: Configured, kind: str) -> None:
    from accelerate.utils import DistributedType

    told = Told()
    trainer = build(configured(max_steps=1))
    watch = UpdateWatch(told.write, told.warnings.append)
    arguments = SimpleNamespace(distributed_state=SimpleNamespace(distributed_type=DistributedType[kind]))
    state = SimpleNamespace(global_step=0, logging_steps=1)
    watch.on_train_begin(arguments, state, None, model=trainer.model)
    watch.on_pre_optimizer_step(arguments, state, None)
    watch.on_optimizer_step(arguments, state, None, optimizer=None)
    assert (told.events, told.warnings) == ([], [])
