"""How commands write: aligned tables that fit a terminal, plain whole text elsewhere, files in one step."""

from __future__ import annotations

import io
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import TypeVar

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from lorabench.errors import LorabenchError
from lorabench.files import cannot, replace_text
from lorabench.text import shorten, visible

Item = TypeVar("Item")

LONG_WORK = 0.5  # seconds, before a progress bar is worth its place
NARROWEST_NAME = 26
_UNBOUNDED = 100_000
_GAP = 2
_STYLES = {
    "well-formed": "green",
    "heavy-tailed": "yellow",
    "random-like": "magenta",
    "dead": "red",
    "unreadable": "bold red",
    "error": "bold red",
    "warning": "yellow",
}


@dataclass(frozen=True, slots=True)
class Field:
    """A column of a printed table; where it does not fit, the one with the lowest `keep` goes first.

    The `elastic` one is cut in the middle and never left out.
    """

    title: str
    cells: Sequence[str]
    right: bool = False
    elastic: bool = False
    keep: int = 0

    @property
    def width(self) -> int:
        return max(map(cell_len, (self.title, *self.cells)), default=0)


@dataclass(frozen=True, slots=True)
class Page:
    """What a command prints for people: headings, tables and lines, one below the other."""

    parts: list[RenderableType] = field(default_factory=list)
    width: int = _UNBOUNDED
    terminal: bool = False

    @classmethod
    def to(cls, target: Path | None) -> Page:
        """Make a page as wide as the terminal; for a pipe or a file, without bound and without colour."""
        if target is not None or not sys.stdout.isatty():
            return cls()
        return cls(width=shutil.get_terminal_size().columns, terminal=True)

    @property
    def coloured(self) -> bool:
        """Whether it goes to a terminal that wants colour (https://no-color.org)."""
        return self.terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def line(self, text: str = "", style: str = "") -> None:
        """Add text on a line of its own; a terminal wraps it."""
        self.parts.append(Text(text, style=style))

    def pairs(self, rows: Iterable[tuple[str, str]]) -> None:
        """Add lines of a name and what it stands for, aligned."""
        table = RichTable.grid(padding=(0, _GAP, 0, 0))
        table.add_column(no_wrap=True, style="bold")
        table.add_column(overflow="fold")
        for name, text in rows:
            table.add_row(Text(name, style=_STYLES.get(name, "")), Text(text))
        self.parts.append(table)

    def table(self, fields: Sequence[Field]) -> None:
        """Add a table; where it is too wide, names are shortened, then columns left out, and it says so."""
        fields = [replace(each, cells=list(map(visible, each.cells))) for each in fields]
        shown, shared = _fit(fields, self.width)
        table = RichTable(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
        room = self.width - sum(f.width + _GAP for f in shown if not f.elastic)
        columns = []
        for each in shown:
            table.add_column(Text(each.title), no_wrap=True, justify="right" if each.right else "left")
            columns.append([shorten(cell, room) for cell in each.cells] if each.elastic else each.cells)
        for row in zip(*columns, strict=True):
            table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
        self.parts.append(table)
        if shared:
            self.line(f"… stands for {shared}", "dim")
        kept = {each.title for each in shown}
        if left_out := [each.title for each in fields if each.title not in kept]:
            self.line(f"No room for {', '.join(left_out)}: widen the terminal, or write --csv.", "dim")

    def text(self) -> str:
        """Return the page as text, coloured where it goes to a terminal that wants colour."""
        output = io.StringIO()
        # Without a height, rich takes a dumb terminal to be 80 columns wide whatever the width says.
        console = Console(
            file=output, force_terminal=self.terminal, width=self.width, height=24, highlight=False
        )
        for part in self.parts:
            console.print(part, markup=False, soft_wrap=not self.terminal and isinstance(part, Text))
        return "".join(f"{line.rstrip()}\n" for line in output.getvalue().split("\n")[:-1])


def _fit(fields: Sequence[Field], width: int) -> tuple[list[Field], str]:
    """Leave out the start that all names share, then columns, until the rest fits; return both."""

    def too_wide() -> bool:
        widths = [min(f.width, NARROWEST_NAME) if f.elastic else f.width for f in shown]
        return sum(widths) + _GAP * (len(shown) - 1) > width

    shown, shared = list(fields), ""
    if sum(f.width for f in shown) + _GAP * (len(shown) - 1) > width:
        shared = _shared_start(next((f.cells for f in shown if f.elastic), []))
        shown = [_shortened(f, shared) if f.elastic else f for f in shown]
    while too_wide() and any(not f.elastic for f in shown):
        shown.remove(min((f for f in shown if not f.elastic), key=lambda f: f.keep))
    return shown, shared


def _shared_start(names: Sequence[str]) -> str:
    """Return the dotted parts that all of several names begin with, and the dot after them."""
    parts = zip(*(name.split(".")[:-1] for name in names), strict=False)
    shared = [same[0] for same in takewhile(lambda same: len(set(same)) == 1, parts)]
    return ".".join(shared) + "." if shared and len(names) > 1 else ""


def _shortened(names: Field, shared: str) -> Field:
    return (
        replace(names, cells=[f"…{name.removeprefix(shared)}" for name in names.cells]) if shared else names
    )


def emit(text: str, target: Path | None) -> None:
    """Write to a file, in one step, or to standard output for None; a closed pipe ends the command.

    Raises:
        LorabenchError: it cannot be written; says why.
    """
    if target is not None and str(target) != "-":
        write_file(target, text)
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has had what it wanted. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except OSError as error:
        raise LorabenchError(*cannot("The output", "written", error)) from error


def write_file(target: Path, text: str) -> None:
    """Write a whole text file or, when anything fails, leave what was there.

    Raises:
        LorabenchError: it cannot be written; says why.
    """
    try:
        replace_text(target, text)
    except OSError as error:
        raise LorabenchError(*cannot(target, "written", error)) from error


def with_progress(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Pass items on; work that takes long shows a bar, on standard error and only if that is a terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=Console(file=sys.stderr), transient=True)
    task = progress.add_task(what, total=total)
    begin = time.monotonic()
    try:
        for item in items:
            yield item
            progress.advance(task)
            if not progress.live.is_started and time.monotonic() - begin > LONG_WORK:
                progress.start()
    finally:
        progress.stop()
