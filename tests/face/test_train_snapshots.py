"""What the Train screen looks like, on a recorded training of the demo model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from lorabench.app import LorabenchApp
from lorabench.runs.lock import Owner
from lorabench.screens.train import TrainScreen
from tests.face.looking import text_of, until
from tests.face.watching import RECORDED

SIZES = [(80, 24), (120, 36)]
Compare = Callable[..., bool]
BEGIN = 1_000.0


@pytest.fixture(autouse=True)
def in_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Show the same path on every machine."""
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()


@pytest.fixture
def at_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody on another machine trains, and the clock stands 42 seconds after he began."""
    owner = Owner("gpu-7", 4711, BEGIN, boot="", alive=None)
    monkeypatch.setattr("lorabench.screens.train_watch.read_owner", lambda folder: owner)
    monkeypatch.setattr("lorabench.screens.train_watch.time.time", lambda: BEGIN + 42)


def write(lines: list[str], output: bytes = b"") -> None:
    folder = Path("runs") / "style-r8"
    folder.mkdir()
    (folder / "events.jsonl").write_text("".join(line + "\n" for line in lines))
    (folder / "output.log").write_bytes(output)


def recorded() -> list[str]:
    return (RECORDED / "events.jsonl").read_text().splitlines()


async def watch(pilot: Pilot[Any], *texts: str) -> TrainScreen:
    app = pilot.app
    assert isinstance(app, LorabenchApp)
    app.watch_run(Path("runs") / "style-r8")
    await until(pilot, lambda: all(text in text_of(app) for text in texts))
    screen = app.screen
    assert isinstance(screen, TrainScreen)
    await until(pilot, lambda: not screen.reading)
    await pilot.press("space", "space")
    await until(pilot, lambda: not screen.reading)
    return screen


def app(theme: str = "textual-dark") -> LorabenchApp:
    made = LorabenchApp(Path("runs"), refresh_seconds=0.1, theme=theme)
    made.animation_level = "none"
    return made


@pytest.mark.parametrize(
    ("size", "theme"),
    [*((size, "textual-dark") for size in (*SIZES, (200, 50))), ((120, 36), "textual-light")],
    ids=["80x24", "120x36", "200x50", "120x36-light"],
)
def test_training_looks(
    snap_compare: Compare, at_one_moment: None, size: tuple[int, int], theme: str
) -> None:
    events = recorded()
    half = next(at for at, line in enumerate(events) if '"step": 80, "loss"' in line)
    output = (RECORDED / "output.log").read_bytes()
    write(events[: half + 1], output[: output.index(b"80/120")])

    async def scene(pilot: Pilot[Any]) -> None:
        await watch(pilot, "● training", "step 80 of 120", "growing ")

    assert snap_compare(app(theme), terminal_size=size, run_before=scene)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_a_finished_run_looks(snap_compare: Compare, size: tuple[int, int]) -> None:
    write(recorded(), (RECORDED / "output.log").read_bytes())

    async def scene(pilot: Pilot[Any]) -> None:
        await watch(pilot, "✔ finished", "step 120 of 120", "growing ")

    assert snap_compare(app(), terminal_size=size, run_before=scene)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_a_preflight_that_failed_looks(snap_compare: Compare, size: tuple[int, int]) -> None:
    findings = [
        {
            "check": "targets",
            "level": "error",
            "message": "q_projj matches no module — did you mean q_proj?",
        },
        {
            "check": "memory",
            "level": "warning",
            "message": "9.1–12.4 GB of 16 GB; checkpointing would save 3.2 GB",
        },
    ]
    stage = {"time": 1.0, "kind": "stage", "stage": "preflight"}
    failed = {
        "time": 3.0,
        "kind": "failed",
        "reason": "preflight",
        "error": "The preflight has found an error: q_projj matches no module.",
        "hint": "Mend lora_target_modules.",
        "findings": findings,
    }
    write([json.dumps(stage), json.dumps(failed)])

    async def scene(pilot: Pilot[Any]) -> None:
        await watch(pilot, "✘ failed", "T trains anyway")

    assert snap_compare(app(), terminal_size=size, run_before=scene)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_nothing_watched_looks(snap_compare: Compare, size: tuple[int, int]) -> None:
    async def scene(pilot: Pilot[Any]) -> None:
        await pilot.pause()
        await pilot.press("3")
        await until(pilot, lambda: "Nothing is watched yet." in text_of(pilot.app))

    assert snap_compare(app(), terminal_size=size, run_before=scene)


def test_the_recording_is_what_the_tests_take_it_for() -> None:
    kinds = [json.loads(line)["kind"] for line in recorded()]
    assert (kinds.count("log"), kinds.count("eval"), kinds[-1]) == (30, 4, "finished")
