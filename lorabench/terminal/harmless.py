"""The last look at each painted line: Textual's inputs and editors send what they hold as it is."""

from __future__ import annotations

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from lorabench.text import visible

_REPLACEMENT = "�"


class Harmless(LineFilter):
    """Replaces what a terminal might obey, so that each line stays as wide as it is."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Return the segments without control and direction characters."""
        if all(segment.text.isprintable() for segment in segments):
            return segments
        return [Segment(_harmless(segment.text), segment.style) for segment in segments]


def _harmless(text: str) -> str:
    return "".join(each if visible(each) == each else _REPLACEMENT * cell_len(each) for each in text)
