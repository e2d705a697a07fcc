"""Steps of real trainings as the recorder takes them down, and what their tensors tell."""

from __future__ import annotations

import math
from typing import Any

from lorabench.training.audit.facts import step_report
from lorabench.training.audit.measure import as_hooked, as_used
from lorabench.training.audit.probe import record
from lorabench.training.audit.recorder import Step
from lorabench.training.audit.report import StepReport
from lorabench.training.trainer.build import build


def recorded(config: Any, steps: int = 2, prepare: Any = None) -> list[Step]:
    trainer = build(config)
    if prepare is not None:
        prepare(trainer)
    taken: list[Step] = []
    record(trainer, steps, taken.append)
    return taken


def reduced(steps: list[Step]) -> list[StepReport]:
    return [step_report(step, 1.0) for step in steps]


def same_rows(trainer: Any) -> None:
    """Let every row be the first one: all micro-batches have one gradient."""
    trainer.train_dataset = trainer.train_dataset.select([0] * 64)


def used_scales(steps: list[Step]) -> list[float]:
    found = [as_used(tensor) for step in steps for tensor in step.tensors.values()]
    return [one.scale for one in found if one is not None and not math.isnan(one.scale)]


def hook_scales(steps: list[Step]) -> list[float]:
    found = [as_hooked(tensor) for step in steps for tensor in step.tensors.values()]
    return [one.scale for one in found if one is not None]
