"""What the Config screen looks like, on findings that do not hang on the machine."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from lorabench.app import LorabenchApp
from lorabench.screens import preflight_client
from lorabench.widgets.field_form import FieldForm
from lorabench.widgets.finding_list import FindingList
from lorabench.widgets.yaml_area import YamlArea
from tests.conftest import REPOSITORY
from tests.face.looking import until
from tests.face.test_snapshots import SIZES, Compare

SAMPLE = REPOSITORY / "sample_adapters" / "style-checkpoints-r8" / "run.yaml"
RUN = Path("runs") / "style-checkpoints-r8" / "run.yaml"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight_client, "SERVER", "tests.face.preflight_double")
    monkeypatch.chdir(tmp_path)
    RUN.parent.mkdir(parents=True)
    shutil.copy(SAMPLE, RUN)


async def config(pilot: Pilot[Any]) -> None:
    """The form beside the findings, one of them under the cursor."""
    app = pilot.app
    assert isinstance(app, LorabenchApp)
    await until(pilot, lambda: app.current_mode == "bench")
    app.open_config(RUN)
    await until(pilot, lambda: any(form.lines.names for form in app.screen.query(FieldForm)))
    findings = app.screen.query_one(FindingList)
    await until(pilot, lambda: bool(findings.found) and not findings.waiting)
    await until(pilot, lambda: app.config_file is not None and bool(app.config_file.more))
    await pilot.press("tab", "j", "j")
    await pilot.pause()


async def wrong_value(pilot: Pilot[Any]) -> None:
    await config(pilot)
    pilot.app.screen.query_one(FieldForm).go_to("lora_r")
    await pilot.press("enter", "ctrl+u", *"8x", "enter")
    await until(pilot, lambda: "r = 8x" in str(pilot.app.screen.query_one(FindingList).shown))
    await pilot.pause()


async def mask(pilot: Pilot[Any]) -> None:
    await config(pilot)
    await pilot.press("m")
    await until(pilot, lambda: getattr(pilot.app.screen, "complete", False))


async def yaml(pilot: Pilot[Any]) -> None:
    await config(pilot)
    pilot.app.screen.query_one(YamlArea).cursor_blink = False
    await pilot.press("e")
    await pilot.pause()


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("scene", [config, wrong_value, mask, yaml], ids=lambda s: s.__name__)
def test_looks(scene: Callable[[Pilot[Any]], Any], size: tuple[int, int], snap_compare: Compare) -> None:
    app = LorabenchApp(Path("runs"))
    app.animation_level = "none"
    assert snap_compare(app, terminal_size=size, run_before=scene)


def test_a_large_screen_looks(snap_compare: Compare) -> None:
    app = LorabenchApp(Path("runs"))
    app.animation_level = "none"
    assert snap_compare(app, terminal_size=(200, 50), run_before=config)


def test_a_light_theme_looks(snap_compare: Compare) -> None:
    app = LorabenchApp(Path("runs"), theme="textual-light")
    app.animation_level = "none"
    assert snap_compare(app, terminal_size=(120, 36), run_before=wrong_value)
