"""How soon the workbench is there, and how soon it answers a key: on a pty, as over SSH."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.adapters import generate
from tests.benchmarks.table import Line, seconds
from tests.terminal import COMMAND, Terminal

ROUNDS = 9
SIZE = (120, 36)
LAYERS = 80
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PAGE_DOWN = "\x1b[6~"
KEYS = [*["j"] * 10, PAGE_DOWN] * 8
EMPTY_APP = """
from textual.app import App
from textual.widgets import Static

class Empty(App):
    def compose(self):
        yield Static("empty")

Empty().run()
"""


def first_frame(folder: Path) -> Iterator[Line]:
    """From the start of the process to the first text on the screen, in turn with an empty Textual app."""
    adapter = _adapter(folder)
    pairs = [
        (_first_text([*COMMAND, str(adapter.parent)]), _first_text([sys.executable, "-c", EMPTY_APP]))
        for _ in range(ROUNDS)
    ]
    ours, empty = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(mine / reference for mine, reference in pairs)
    yield Line(
        "first frame, beside an empty Textual app", seconds(ours), seconds(empty), f"{ratio:.2f} ×", "≤ 1.3 ×"
    )


def keys(folder: Path) -> Iterator[Line]:
    """From a key to the next paint while 560 layers scroll: at rest, and while they are analysed."""
    adapter = _adapter(folder)
    for when, wait in (
        ("while 560 layers are analysed", ""),
        ("over 560 layers at rest", "undecided"),
    ):
        terminal = Terminal(adapter, size=SIZE)
        terminal.wait_for(" of 560 rows")
        if wait:
            terminal.wait_for(wait)
        times = sorted(paint_time(terminal, key) for key in KEYS)
        terminal.type("q")
        terminal.close()
        middle, most = times[len(times) // 2], times[int(0.95 * len(times))]
        yield Line(f"key to paint {when}: p50", seconds(middle))
        yield Line(f"key to paint {when}: p95", seconds(most))


def _adapter(folder: Path) -> Path:
    modules = {f"{layer}.self_attn.{name}": (512, 512) for layer in range(LAYERS) for name in MODULES}
    return generate(folder / "run", modules)


def _first_text(command: list[str]) -> float:
    terminal = Terminal(command, size=SIZE)
    shown = terminal.wait_until(lambda: any(terminal.lines), "the first frame")
    terminal.type("q\x11")
    terminal.close()
    return shown


def paint_time(terminal: Terminal, key: str) -> float:
    """Wait until nothing is painted, type a key, and return the seconds until something is."""
    while terminal.read(0.03):
        pass
    start = time.perf_counter()
    terminal.type(key)
    terminal.read(5)
    return time.perf_counter() - start
