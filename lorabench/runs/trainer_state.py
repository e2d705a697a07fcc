"""Runs of other tools: what the Trainer's own `trainer_state.json` tells, as events."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lorabench.files import read_plain
from lorabench.json_text import parse_json
from lorabench.runs.checkpoints import LARGEST_STATE, TRAINER_STATE_FILE, checkpoint_folders
from lorabench.runs.events import Event


def events_of_checkpoints(folder: Path) -> Iterator[Event]:
    """Yield the events that the newest readable checkpoint of a run tells of; nothing where there is none.

    They are without a time: the Trainer writes none down.
    """
    places = [path for _, path in reversed(checkpoint_folders(folder))]
    state = next((state for path in [*places, folder] if (state := _read(path)) is not None), None)
    if state is None:
        return
    step, total = state.get("global_step"), state.get("max_steps")
    yield {"kind": "started", "total_steps": total}
    entries = state.get("log_history")
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict):
            yield {**entry, "kind": "eval" if "eval_loss" in entry else "log"}
    yield {"kind": "finished" if step == total else "stopped", "step": step}


def _read(folder: Path) -> dict[str, Any] | None:
    try:
        state = parse_json(read_plain(folder / TRAINER_STATE_FILE, LARGEST_STATE))
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) else None
