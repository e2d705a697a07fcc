"""`lorabench new`: the run.yaml of a new run, and what can stand in it."""

from __future__ import annotations

import shlex
from pathlib import Path

from lorabench.cli.output import Field, Page
from lorabench.text import visible
from lorabench.training.config.field import GROUPS, described
from lorabench.training.config.fields import FIELDS
from lorabench.training.config.presets import new_run, preset_named


def new(folder: Path, preset: str, model: str | None, data: str | None) -> str:
    """Write a run.yaml into a folder; return what to do with it."""
    path = shlex.quote(visible(new_run(folder, preset_named(preset), model=model, data=data)))
    return f"lorabench check {path}\ntrl sft --config {path}\n"


def list_fields(page: Page) -> str:
    """Return every field that lorabench declares, group by group: what it may be, its default, its help."""
    for group in GROUPS:
        fields = [field for field in FIELDS.values() if field.group == group]
        if not fields:
            continue
        page.line(group, "bold")
        page.table(
            [
                Field("field", [field.name for field in fields], keep=9),
                Field("default", [described(field.default) for field in fields], keep=8),
                Field("allowed", [field.allowed for field in fields], elastic=True),
                Field("help", [field.help for field in fields], keep=7),
            ]
        )
        page.line()
    return page.text()
