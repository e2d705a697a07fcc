"""What the Train screen asks and tells in dialogs: to stop, whose loss is drawn behind, the warnings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from textual.app import App

from lorabench.errors import LorabenchError
from lorabench.files import real
from lorabench.runs.history import RUN_FILE
from lorabench.screens.dialogs import ChoiceDialog, ErrorDialog
from lorabench.screens.train_behind import loss_behind, runs_with_loss
from lorabench.text import visible
from lorabench.training.config.field import ConfigError
from lorabench.training.config.saving import read_text
from lorabench.widgets.chart import Curve


async def ask_for_loss(app: App[None], folder: Path, watched: Path, behind: Curve | None) -> Curve | None:
    """Return the loss that is to be drawn behind the watched run's: `behind` where nothing is chosen."""
    found = await asyncio.to_thread(runs_with_loss, folder, watched)
    if not found:
        above = folder.absolute().parent if real(folder) == real(watched) else None
        where = f": open the folder of all runs, lorabench {visible(above)}" if above else ""
        app.notify(f"No other run of {visible(folder.absolute().name)} has a loss{where}", markup=False)
        return behind
    choices = ["none", *(visible(run.title) for run in found)]
    at = await app.push_screen_wait(ChoiceDialog("the loss behind this one", choices))
    if at is None:
        return behind
    return await asyncio.to_thread(loss_behind, found[at - 1].folder) if at else None


async def ask_to_stop(app: App[None], folder: Path) -> bool:
    """Ask whether a run is to save and stop."""
    choices = ["save and stop at the next step", "let it train"]
    return await app.push_screen_wait(ChoiceDialog(f"stop {visible(folder.name)}?", choices)) == 0


def configuration_of(folder: Path) -> str:
    """Return the text of a run's configuration, nothing where there is none to read."""
    try:
        return read_text(folder / RUN_FILE)
    except ConfigError:
        return ""


async def read_warnings(app: App[None], warnings: Sequence[Mapping[str, object]]) -> None:
    """List warnings, the newest first, and show those that are chosen in full, until the list is closed."""
    newest = list(reversed(warnings))
    lines = [visible(f"{clock(at.get('time'))}  {at.get('text', '')}") for at in newest]
    while (chosen := await app.push_screen_wait(ChoiceDialog("warnings", lines))) is not None:
        text = "\n".join(map(visible, str(newest[chosen].get("text", "")).splitlines()))
        title = f"warning {clock(newest[chosen].get('time'))}"
        await app.push_screen_wait(ErrorDialog(LorabenchError(text), title))


def clock(seconds: object) -> str:
    """Return a time of the day, or nothing."""
    if not isinstance(seconds, int | float):
        return ""
    return time.strftime("%H:%M:%S", time.localtime(seconds))
