"""The log of a run: follows its end, or stands where one reads; searched and filtered."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import ClassVar

from rich.cells import chop_cells
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import MouseScrollDown, MouseScrollUp

from lorabench.runs.output import OutputTail
from lorabench.text import visible
from lorabench.widgets.painting import Painting

WARNING_MARK = "▲"
WHEEL_LINES = 3
_LOOKS = (
    ("log--error", re.compile(r"\b(error|exception|traceback|critical|killed)", re.IGNORECASE)),
    ("log--warning", re.compile(rf"^{WARNING_MARK}|\bwarn", re.IGNORECASE)),
)


class LogPane(Painting, can_focus=True):
    """Lines of an `OutputTail`, wrapped; the newest at the bottom unless one has scrolled."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"log--error", "log--warning", "log--found", "log--here"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "scroll_lines(-1)", "up", show=False, id="log.up"),
        Binding("down,j", "scroll_lines(1)", "down", show=False, id="log.down"),
        Binding("pageup,ctrl+u", "page(-1)", "page up", show=False, id="log.page_up"),
        Binding("pagedown,ctrl+d", "page(1)", "page down", show=False, id="log.page_down"),
        Binding("home,g", "oldest", "oldest", show=False, id="log.oldest", tooltip="the log's oldest line"),
        Binding("end,G", "follow", "follow", show=False, id="log.follow", tooltip="follow the log's end"),
        Binding("n", "find(1)", "next", id="log.next", tooltip="the next match"),
        Binding("N", "find(-1)", "before", id="log.before", tooltip="the match before"),
        Binding("f", "only_matches", "only matches", id="log.filter", tooltip="only lines that match"),
    ]

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.tail: OutputTail | None = None
        self.pattern = ""
        self.filtering = False
        self.bottom: int | None = None
        self.below = 0  # the rows of the lowest line that do not fit
        self.found: int | None = None
        self._said = ""

    def show(self, tail: OutputTail | None) -> None:
        """Show the newest state of these lines."""
        if tail is not self.tail:
            self.tail, self.bottom, self.below, self.found = tail, None, 0, None
        self.redraw()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer to go from match to match only where something is searched for."""
        return bool(self.pattern) if action in ("find", "only_matches") else True

    def search(self, pattern: str) -> None:
        """Mark the lines that contain this text, whatever its case, and go to the newest of them."""
        self.pattern, self.found = pattern.casefold(), None
        self.bottom, self.below = None, 0
        self.refresh_bindings()
        if pattern and not self.filtering:
            self.action_find(-1)
        self.redraw()

    @property
    def numbers(self) -> Sequence[int]:
        """The numbers of the lines that may be shown, ascending."""
        tail = self.tail
        if tail is None:
            return ()
        numbers = range(tail.first, tail.ended + bool(tail.unfinished))
        return self.matches if self.filtering and self.pattern else numbers

    @property
    def matches(self) -> list[int]:
        """The numbers of the lines that contain the searched text."""
        if self.tail is None or not self.pattern:
            return []
        lines = [*self.tail.lines, self.tail.unfinished]
        return [at for at, line in enumerate(lines, self.tail.first) if self.pattern in line.casefold()]

    def line(self, number: int) -> str:
        """Return a line by its number; the one that is not ended yet has the last."""
        assert self.tail is not None
        return (
            self.tail.unfinished if number == self.tail.ended else self.tail.lines[number - self.tail.first]
        )

    def redraw(self) -> None:
        """Paint the lines that end where one reads."""
        height = self.size.height
        rows: list[Text] = []
        for number in reversed(self.numbers[: self._position() + 1]):
            rows[:0] = self._wrapped(number)
            if len(rows) >= height + self.below:
                break
        end = max(len(rows) - self.below, height)
        self.paint(rows[max(0, end - height) : end])
        state = self._state()
        if state != self._said:  # setting a subtitle paints the whole pane
            self._said = state
            self.border_subtitle = Content(state)

    def _position(self) -> int:
        """The place among `numbers` of the lowest line shown; what is gone from memory gives way."""
        numbers = self.numbers
        if self.bottom is None:
            return len(numbers) - 1
        at = next((at for at in range(len(numbers) - 1, -1, -1) if numbers[at] <= self.bottom), -1)
        return max(at, self._first_page()[0])

    def _first_page(self) -> tuple[int, int]:
        """Return the place of the lowest of the oldest lines that fill the pane, and its rows below it."""
        numbers, rows = self.numbers, 0
        for at, number in enumerate(numbers):
            rows += len(self._wrapped(number))
            if rows >= self.size.height:
                return at, rows - self.size.height
        return len(numbers) - 1, 0

    def _wrapped(self, number: int) -> list[Text]:
        plain = visible(self.line(number).expandtabs(4))
        look = next((name for name, pattern in _LOOKS if pattern.search(plain)), None)
        text = Text(plain, self.get_component_rich_style(look) if look else "", no_wrap=True)
        if self.pattern:
            name = "log--here" if number == self.found else "log--found"
            style = self.get_component_rich_style(name)
            text.highlight_words([visible(self.pattern)], style, case_sensitive=False)
        pieces = chop_cells(plain, max(1, self.size.width))
        return list(text.divide(_edges(pieces))) if len(pieces) > 1 else [text]

    def _state(self) -> str:
        numbers, parts = self.numbers, []
        if self.pattern:
            mode = "only lines with" if self.filtering else "searching"
            parts.append(f"{mode} “{visible(self.pattern)}”: {len(self.matches)}")
        below = len(numbers) - 1 - self._position()
        parts.append(f"paused, {below} below · end follows" if self.bottom is not None else "following")
        return " · ".join(parts)

    def _go_to(self, position: int, below: int = 0) -> None:
        """Show the line at a place among `numbers` lowest, without so many of its rows."""
        first_page = self._first_page()
        if position < first_page[0] or position < 0:
            position, below = first_page
        following = position >= len(self.numbers) - 1 and not below
        self.bottom = None if following else self.numbers[position]
        self.below = below
        self.redraw()

    def _go_to_match(self) -> None:
        """Bring the row of the match to the middle, as far as there are rows below it."""
        assert self.found is not None
        numbers = self.numbers
        at = numbers.index(self.found)
        room = self.size.height // 2
        rows = self._wrapped(self.found)
        below = len(rows) - 1 - self._matching_row(rows)
        while below < room and at + 1 < len(numbers):
            at += 1
            below += len(self._wrapped(numbers[at]))
        self._go_to(at, max(0, below - room))

    def _matching_row(self, rows: Sequence[Text]) -> int:
        """Return which row of a wrapped line holds the beginning of its first match."""
        start = "".join(row.plain for row in rows).casefold().find(visible(self.pattern))
        edges = list(accumulate(len(row) for row in rows))
        return min(bisect_right(edges, start), len(rows) - 1)

    def action_scroll_lines(self, lines: int) -> None:
        """Scroll; at the newest line the pane follows again."""
        self._go_to(self._position() + lines)

    def action_page(self, pages: int) -> None:
        """Scroll by what the pane holds."""
        self._go_to(self._position() + pages * max(1, self.size.height - 1))

    def action_oldest(self) -> None:
        """Go to the oldest line in memory."""
        self._go_to(-1)

    def action_follow(self) -> None:
        """Follow the newest line."""
        self.bottom, self.below = None, 0
        self.redraw()

    def action_only_matches(self) -> None:
        """Show only the lines that match, or all lines with the matches marked."""
        self.filtering = not self.filtering
        if self.found in self.matches:
            self._go_to_match()
        else:
            self.redraw()

    def action_find(self, step: int) -> None:
        """Go to the next line that matches, or to the one before."""
        matches = self.matches
        if not matches:
            return
        here = self.found
        if here is None:
            self.found = matches[-1]
        elif step > 0:
            self.found = next((number for number in matches if number > here), matches[0])
        else:
            self.found = next((number for number in reversed(matches) if number < here), matches[-1])
        self._go_to_match()

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        event.stop()
        self.action_scroll_lines(-WHEEL_LINES)

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        event.stop()
        self.action_scroll_lines(WHEEL_LINES)


def _edges(pieces: Sequence[str]) -> Iterator[int]:
    """Where the pieces of a line begin, but the first."""
    at = 0
    for piece in pieces[:-1]:
        at += len(piece)
        yield at
