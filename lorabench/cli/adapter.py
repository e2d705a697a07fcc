"""The adapter that a command is about."""

from __future__ import annotations

from pathlib import Path

from lorabench.adapters.locate import find_adapters
from lorabench.adapters.model import Adapter
from lorabench.adapters.open import open_adapter
from lorabench.errors import NotFound
from lorabench.files import is_folder
from lorabench.text import visible


def adapter_at(path: Path) -> Adapter:
    """Open an adapter.

    Raises:
        NotFound: nothing lies there, or no adapter; of a run that has saved none it says how far that is.
        LorabenchError: it cannot be read.
    """
    try:
        return open_adapter(path)
    except NotFound as error:
        if not is_folder(path) or any(True for _ in find_adapters(path, max_depth=3)):
            raise
        raise _of_run(path) or error from None


def _of_run(folder: Path) -> NotFound | None:
    from lorabench.runs.history import read_history

    history = read_history(folder)
    if history is None:
        return None
    name = visible(folder)
    if history.state == "training":
        at = "" if history.step is None else f", at step {history.step:,}"
        return NotFound(
            f"{name} is training{at}: it has saved no adapter yet.", f"Watch it: lorabench watch {name}"
        )
    if history.state == "configured":
        return NotFound(f"{name} has not been trained yet.", f"Train it: lorabench train {name}")
    return NotFound(
        f"{name} is a run that has saved no adapter ({history.state}).", f"See why: lorabench {name}"
    )
