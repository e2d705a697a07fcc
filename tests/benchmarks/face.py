"""How soon the workbench is there, and how soon it answers a key: on a pty, as over SSH."""

from __future__ import annotations

import select
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.benchmarks.adapters import generate
from tests.benchmarks.table import Line, seconds
from tests.terminal import Terminal

ROUNDS = 9
KEY_ROUNDS = 3
SIZE = (120, 36)
LAYERS = 80
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PAGE_DOWN = "\x1b[6~"
KEYS = [*["\x1b[B"] * 10, PAGE_DOWN] * 4
EMPTY_APP = """
from textual.app import App
from textual.widgets import Static

class Empty(App):
    def compose(self):
        yield Static("empty")

Empty().run()
"""
# As many rows and columns as the table of layers has, of plain text.
TABLE_APP = """
from textual.app import App
from textual.widgets import DataTable

class Table(App):
    def compose(self):
        yield DataTable(cursor_type="row", zebra_stripes=True)

    def on_mount(self):
        table = self.query_one(DataTable)
        table.add_columns(*(f"column {at}" for at in range(13)))
        table.add_rows([f"{row}.{at:03}" for at in range(13)] for row in range(560))

Table().run()
"""


def first_frame(folder: Path) -> Iterator[Line]:
    """Time from the start of the process to the first text, and to the rows of the bench."""
    place = _adapter(folder).parent
    rounds = [(*_first_texts(place), _first_text_of_an_empty_app()) for _ in range(ROUNDS)]
    ours, rows, empty = (statistics.median(times) for times in zip(*rounds, strict=True))
    frame = statistics.median(mine / reference for mine, _, reference in rounds)
    full = statistics.median(mine / reference for _, mine, reference in rounds)
    yield Line(
        "first frame, beside an empty Textual app", seconds(ours), seconds(empty), f"{frame:.2f} ×", "≤ 1.3 ×"
    )
    yield Line("  the rows of the bench", seconds(rows), seconds(empty), f"{full:.2f} ×", "≤ 2.5 ×")


def keys(folder: Path) -> Iterator[Line]:
    """Time from a key to the next paint: over 560 layers at rest and while they are analysed."""
    adapter = _adapter(folder)
    resting, analysing, bare = [], [], []
    for _ in range(KEY_ROUNDS):
        bare += bare_paints()
        for _ in range(KEY_ROUNDS):  # it is soon over
            analysing += _paints_while_analysed(adapter)
        resting += _paints_at_rest(adapter)
    yield from paint_lines("key to paint, 560 layers at rest", resting, bare)
    yield from paint_lines("key to paint, 560 layers being analysed", analysing, bare)


def paint_lines(name: str, paints: Sequence[float], bare: Sequence[float]) -> Iterator[Line]:
    """Tell the median and the 95 % of times from key to paint beside those of a bare Textual table."""
    for told, share, goal in ((f"{name}: p50", 0.5, ""), ("  p95", 0.95, "≤ 40 ms")):
        ours, theirs = (sorted(times)[int(share * len(times))] for times in (paints, bare))
        yield Line(told, seconds(ours), seconds(theirs), f"{ours / theirs:.1f} ×", goal)


def bare_paints() -> list[float]:
    """Scroll a bare Textual table, and return the times from key to paint."""
    terminal = Terminal([sys.executable, "-c", TABLE_APP], size=SIZE)
    terminal.wait_for("20.001")
    paints = [paint_time(terminal, key) for key in KEYS]
    terminal.type("\x11")
    terminal.close()
    return paints


def _paints_at_rest(adapter: Path) -> list[float]:
    terminal = Terminal(adapter, size=SIZE)
    terminal.wait_for(" of 560 rows")
    terminal.wait_until(lambda: "computing" not in terminal.shown, "the end of the analysis")
    paints = [paint_time(terminal, key) for key in KEYS]
    terminal.type("q")
    terminal.close()
    return paints


def _paints_while_analysed(adapter: Path) -> list[float]:
    """Scroll for as long as the analysis goes on; it paints too, and one paint in seven may be its own."""
    terminal = Terminal(adapter, size=SIZE)
    terminal.wait_for("computing ")
    paints = []
    for key in KEYS:
        paint = paint_time(terminal, key)
        if "computing " not in terminal.shown:
            break
        paints.append(paint)
    terminal.type("q")
    terminal.close()
    return paints


def _adapter(folder: Path) -> Path:
    modules = {f"{layer}.self_attn.{name}": (512, 512) for layer in range(LAYERS) for name in MODULES}
    return generate(folder / "run", modules)


def _first_texts(place: Path) -> tuple[float, float]:
    terminal = Terminal(place, size=SIZE)
    first = terminal.wait_until(lambda: any(terminal.lines), "the first frame")
    rows = terminal.wait_for(" adapter ")
    terminal.type("q")
    terminal.close()
    return first, rows


def _first_text_of_an_empty_app() -> float:
    terminal = Terminal([sys.executable, "-c", EMPTY_APP], size=SIZE)
    first = terminal.wait_until(lambda: any(terminal.lines), "the first frame")
    terminal.type("\x11")
    terminal.close()
    return first


def paint_time(terminal: Terminal, key: str) -> float:
    """Wait until nothing is painted, type a key, and return the seconds until something is."""
    while terminal.read(0.03):
        pass
    start = time.perf_counter()
    terminal.type(key)
    select.select([terminal.device], [], [], 5)
    painted = time.perf_counter() - start
    terminal.read(0)
    return painted
