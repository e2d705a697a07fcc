"""What the tests of the Train screen share: a recorded training, a trainer's double, and ways to look."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from lorabench.app import LorabenchApp
from lorabench.runs.events import Event, EventWriter
from lorabench.screens.train import TrainScreen
from tests.face.looking import text_of, until

RECORDED = Path(__file__).parent / "recorded" / "style-r8"
REFRESH = 0.1


def recorded(kind: str) -> list[Event]:
    events = map(json.loads, (RECORDED / "events.jsonl").read_text().splitlines())
    return [event for event in events if event["kind"] == kind]


def begin(folder: Path, *, steps: int = 0, total: int = 100) -> EventWriter:
    """Write what a trainer writes up to this step; the loss is 2 - step / 100."""
    writer = EventWriter(folder)
    for stage in ("preflight", "loading", "preparing"):
        writer.write("stage", stage=stage)
    writer.write("started", total_steps=total, logging_steps=1)
    for step in range(1, steps + 1):
        log(writer, step)
    return writer


def log(writer: EventWriter, step: int, **fields: float) -> None:
    writer.write("log", step=step, loss=2 - step / 100, learning_rate=1e-4, **fields)


def app_on(folder: Path) -> LorabenchApp:
    return LorabenchApp(folder, refresh_seconds=REFRESH)


async def watch(pilot: Pilot[Any], folder: Path) -> TrainScreen:
    """Show the run, and wait until it has been read."""
    app = pilot.app
    assert isinstance(app, LorabenchApp)
    app.watch_run(folder)
    await until(pilot, lambda: isinstance(app.screen, TrainScreen) and app.screen.watched is not None)
    screen = app.screen
    assert isinstance(screen, TrainScreen)
    assert screen.watched is not None
    await until(pilot, lambda: screen.watched is not None and screen.watched.caught_up)
    return screen


async def sees(pilot: Pilot[Any], *texts: str) -> None:
    await until(pilot, lambda: all(text in text_of(pilot.app) for text in texts))


def told(app: LorabenchApp) -> list[str]:
    return [str(notification.message) for notification in app._notifications]
