"""A widget of lines of text that sends to the terminal only the lines that have changed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from rich.text import Text
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget


class Painting(Widget):
    """What is painted stays until another painting; a line that is the same as before costs no byte."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._strips: list[Strip] = []

    def paint(self, lines: Sequence[Text]) -> None:
        """Show these lines, from the top; those that do not fit are not seen."""
        console = self.app.console
        strips = [Strip(line.render(console, end="")) for line in lines]
        kept, self._strips = self._strips, strips
        changed = [y for y, (new, old) in enumerate(zip_longest(strips, kept)) if new != old]
        width, height = self.size
        if len(strips) != len(kept) and self.styles.is_auto_height:
            self.refresh(layout=True)
        elif changed:
            self.refresh(*(Region(0, y, width, 1) for y in changed if y < height))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many lines as are painted, where the height is auto."""
        return len(self._strips)

    def render_line(self, y: int) -> Strip:
        """Return a painted line, blank where nothing is painted."""
        style = self.rich_style
        if y >= len(self._strips):
            return Strip.blank(self.size.width, style)
        return self._strips[y].apply_style(style).adjust_cell_length(self.size.width, style)
