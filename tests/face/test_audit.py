"""The update audit, asked for on the Config screen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from lorabench.app import LorabenchApp
from lorabench.screens.audit import AuditDialog
from lorabench.screens.bench import BenchScreen
from lorabench.screens.config import ConfigScreen
from lorabench.screens.train import TrainScreen
from lorabench.training.config.presets import new_run
from lorabench.training.config.run_config import RunConfig
from lorabench.widgets.finding_list import FindingList
from tests.face.looking import text_of, until

TRAINING = 6000


@pytest.fixture
def run_yaml(tmp_path: Path) -> Path:
    path = new_run(tmp_path / "run")
    config = RunConfig.load(path)
    config.apply({"lora_target_modules": ["q_proj", "v_proj"], "lora_r": 4})
    config.save()
    return path


async def open_audit(app: LorabenchApp, pilot: Pilot[None], path: Path) -> AuditDialog:
    await until(pilot, lambda: isinstance(app.screen, BenchScreen) and app.screen.begun)
    app.open_config(path)
    await until(pilot, lambda: isinstance(app.screen, ConfigScreen) and app.screen.file is not None)
    await pilot.press("a")
    await until(pilot, lambda: isinstance(app.screen, AuditDialog))
    assert isinstance(app.screen, AuditDialog)
    return app.screen


async def test_the_audit_of_a_run_shows_findings_and_numbers(run_yaml: Path) -> None:
    app = LorabenchApp(run_yaml.parent.parent)
    async with app.run_test(size=(120, 36)) as pilot:
        dialog = await open_audit(app, pilot, run_yaml)
        assert "nothing is saved" in text_of(app)
        await until(pilot, lambda: dialog.report is not None, TRAINING)
        await until(pilot, lambda: "all 24 tensors that moved did so" in text_of(app))
        assert "Between gradient and update" in text_of(app)
        assert re.search(r"e-0\d ✔", text_of(app))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, ConfigScreen))
    assert [path.name for path in run_yaml.parent.iterdir()] == ["run.yaml"]


async def test_a_run_that_cannot_be_built_is_a_sentence(run_yaml: Path) -> None:
    config = RunConfig.load(run_yaml)
    config.apply({"model_name_or_path": "/nowhere/[bold]model"})
    config.save()
    app = LorabenchApp(run_yaml.parent.parent)
    async with app.run_test(size=(120, 36)) as pilot:
        dialog = await open_audit(app, pilot, run_yaml)
        findings = dialog.query_one(FindingList)
        await until(pilot, lambda: any(at and at.level == "error" for at in findings.shown), TRAINING)
        assert "/nowhere/[bold]model" in text_of(app)
        assert "Traceback" not in text_of(app)
        assert str(dialog.query_one("#audit-numbers", Static).render()) == ""


async def test_closing_the_dialog_ends_the_audit(run_yaml: Path) -> None:
    app = LorabenchApp(run_yaml.parent.parent)
    async with app.run_test(size=(80, 24)) as pilot:
        dialog = await open_audit(app, pilot, run_yaml)
        await until(pilot, lambda: dialog.child is not None)
        child = dialog.child
        await pilot.press("escape")
        assert child is not None
        await until(pilot, lambda: child.returncode is not None)
        assert child.returncode == -9


async def test_a_run_that_is_watched_can_be_audited_too(run_yaml: Path) -> None:
    app = LorabenchApp(run_yaml.parent.parent)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, BenchScreen) and app.screen.begun)
        app.watch_run(run_yaml.parent)
        await until(pilot, lambda: isinstance(app.screen, TrainScreen) and app.screen.watched is not None)
        await pilot.press("a")
        await until(pilot, lambda: isinstance(app.screen, AuditDialog))
        assert isinstance(app.screen, AuditDialog)
        assert app.screen.text == run_yaml.read_text()
