"""`lorabench demo`: ask the demo model, or make it again. Here torch is needed, and loaded."""

from __future__ import annotations

import sys
from pathlib import Path

from lorabench.cli.output import emit
from lorabench.files import is_folder
from lorabench.resources import resource
from lorabench.text import visible


def rebuild_demo(folder: Path, seed: int) -> None:
    """Train the demo model and the sample adapters into a folder; say on standard error how far it is."""
    from lorabench.training.demo.build import rebuild

    rebuild(folder, seed=seed, report=lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201


def ask_demo(folder: Path, adapter: Path | None, question: str) -> None:
    """Print the demo model's greedy answer; without a demo in this folder, that of the demo that ships."""
    from lorabench.training.demo.answer import answer
    from lorabench.training.demo.build import MODEL

    home = folder if is_folder(folder / MODEL) else resource("sample_adapters")
    emit(f"{visible(answer(home / MODEL, adapter, question))}\n", None)
