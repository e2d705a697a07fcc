"""How the tests of the workbench look at it, and wait for what they look for."""

from __future__ import annotations

import re
from collections.abc import Callable

from rich.console import Console
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from lorabench.screens.bench import BenchScreen

PATIENCE = 400


async def until(pilot: Pilot[None], holds: Callable[[], bool], patience: int = PATIENCE) -> None:
    """Let the app go on until this holds; `patience` counts fiftieths of a second at least."""
    for _ in range(patience):
        if holds():
            await pilot.pause()
            return
        await pilot.pause(0.02)
    raise AssertionError(f"it never came to that; on screen:\n{text_of(pilot.app)}")


async def settled(pilot: Pilot[None]) -> None:
    """Wait until the folder has been read and nothing is computed any more, on any screen."""
    app = pilot.app

    def quiet() -> bool:
        screen = app.screen
        reading = isinstance(screen, BenchScreen) and not screen.begun
        furnished = app.current_mode != app.DEFAULT_MODE and not reading
        return furnished and all(worker.is_finished for worker in app.workers)

    await until(pilot, quiet)


def text_of(app: App[None]) -> str:
    """The screen as lines of text."""
    console = Console(width=app.size.width, height=app.size.height, legacy_windows=False)
    with console.capture() as capture:
        console.print(app.screen._compositor.render_update(full=True))
    return re.sub(r"\x1b\[[0-9;:]*[A-Za-z]", "", capture.get())


def cells(table: DataTable[object]) -> list[list[str]]:
    """The cells of a table as text."""
    return [[str(cell).strip() for cell in table.get_row_at(row)] for row in range(table.row_count)]


def bench_rows(app: App[None]) -> list[list[str]]:
    """The rows of the bench."""
    return cells(app.screen.query_one("#runs", DataTable))


def detail(app: App[None]) -> str:
    """What the bench's panel says."""
    console = Console(width=200)
    with console.capture() as capture:
        console.print(app.screen.query_one("#facts", Static).content)
    return capture.get()
