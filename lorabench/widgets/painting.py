"""A widget of lines of text that sends to the terminal only what has changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget


class Painting(Widget):
    """What is painted stays until another painting; a line is sent up to its last change, or not at all."""

    class Resized(Message):
        """There is more or less room than what was painted was meant for."""

        def can_replace(self, message: Message) -> bool:
            """Several at once, also of several paintings, are one."""
            return isinstance(message, Painting.Resized)

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._strips: list[Strip] = []
        self._measured = 0  # lines when Textual last asked how high they are

    def paint(self, lines: Sequence[Text]) -> None:
        """Show these lines, from the top; a line that is too long ends in …, and is cut."""
        console = self.app.console
        width, height = self.size
        strips = []
        for line in lines:
            line.truncate(width, overflow="ellipsis")
            # A text that has no spans would render without its style.
            strips.append(Strip(Text().append_text(line).render(console, end="")))
        kept, self._strips = self._strips, strips
        pairs = zip_longest(strips, kept, fillvalue=Strip([]))
        changed = {y: _reach(new, old) for y, (new, old) in enumerate(pairs) if new != old and y < height}
        # Not against the lines before: Textual forgets a request that a layout has overtaken.
        if len(strips) != self._measured and self.styles.is_auto_height:
            self.refresh(layout=True)
        elif changed:
            self.refresh(*(Region(0, y, min(reach, width), 1) for y, reach in changed.items()))

    def on_resize(self) -> None:
        self.post_message(self.Resized())

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many lines as are painted, where the height is auto."""
        self._measured = len(self._strips)
        return self._measured

    def render_line(self, y: int) -> Strip:
        """Return a painted line, blank where nothing is painted."""
        style = self.rich_style
        if y >= len(self._strips):
            return Strip.blank(self.size.width, style)
        return self._strips[y].apply_style(style).adjust_cell_length(self.size.width, style)


def _reach(new: Strip, old: Strip) -> int:
    """Return the cells up to the last one in which two lines differ."""
    if new.cell_length != old.cell_length:
        return max(new.cell_length, old.cell_length)
    reach = new.cell_length
    for one, other in zip(_cells_from_the_end(new), _cells_from_the_end(old), strict=False):
        if one != other:
            break
        reach -= cell_len(one[0])
    return reach


def _cells_from_the_end(strip: Strip) -> Iterator[tuple[str, Style | None]]:
    return ((character, segment.style) for segment in reversed(strip) for character in reversed(segment.text))
