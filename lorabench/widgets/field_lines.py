"""The rows of a form as lines of text, of which only those in sight are painted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.events import Click
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from lorabench.text import visible

NAME_WIDTH = 30
INDENT = "  "


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the form: the field's name, its default as shown while it is empty, and its choices."""

    name: str
    default: str
    choices: tuple[str, ...] = ()


class _Line(NamedTuple):
    """A line of the list: a group's title (`name` is ""), a row, or a piece of what is wrong with a row."""

    name: str
    text: str
    wrong: bool = False


class FieldLines(Widget, can_focus=False):
    """Group titles, rows and their problems; `at` names the row under the cursor."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "lines--group",
        "lines--value",
        "lines--default",
        "lines--note",
        "lines--wrong",
        "lines--here",
    }

    @dataclass
    class Clicked(Message):
        """A row was clicked, or what is wrong with it."""

        name: str

    def __init__(self) -> None:
        super().__init__()
        self.at = ""
        self._groups: Sequence[tuple[str, Sequence[Row]]] = ()
        self._rows: dict[str, Row] = {}
        self._values: Mapping[str, str] = {}
        self._problems: Mapping[str, str] = {}
        self._notes: Mapping[str, str] = {}
        self._lines: list[_Line] = []
        self._marked = False

    @property
    def names(self) -> list[str]:
        """The fields from the first row to the last."""
        return list(self._rows)

    def row(self, name: str) -> Row | None:
        """Return the row of a field."""
        return self._rows.get(name)

    def value(self, name: str) -> str:
        """Return the value of a row; nothing where the default holds."""
        return self._values.get(name, "")

    def problem(self, name: str) -> str:
        """Return what is wrong with the value of a row, or nothing."""
        return self._problems.get(name, "")

    def build(self, groups: Sequence[tuple[str, Sequence[Row]]]) -> None:
        """Show these rows; the cursor stays on its field, or goes to the first."""
        if groups == self._groups:
            return
        self._groups = groups
        self._rows = {row.name: row for _, rows in groups for row in rows}
        if self.at not in self._rows:
            self.at = next(iter(self._rows), "")
        self._lay_out()

    def show(self, values: Mapping[str, str], problems: Mapping[str, str], notes: Mapping[str, str]) -> None:
        """Write values, what is wrong with them and what follows from them; paint what has changed."""
        changed = {
            name
            for name in self._rows
            if (values.get(name), notes.get(name)) != (self._values.get(name), self._notes.get(name))
        }
        moved = problems != self._problems
        self._values, self._problems, self._notes = values, problems, notes
        if moved:
            self._lay_out()
        else:
            self._paint(changed)

    def go_to(self, name: str) -> bool:
        """Put the cursor on a field; False where there is no such row."""
        if name not in self._rows:
            return False
        before, self.at = self.at, name
        self._paint({before, name})
        return True

    def mark(self, marked: bool) -> None:
        """Show the row under the cursor as such, or not."""
        self._marked = marked
        self._paint({self.at})

    def span(self, name: str) -> tuple[int, int]:
        """Return the lines of a row, first and last + 1; a group's title goes with its first row."""
        own = [y for y, line in enumerate(self._lines) if line.name == name]
        if not own:
            return 0, 0
        title_above = own[0] > 0 and not self._lines[own[0] - 1].name
        return own[0] - title_above, own[-1] + 1

    def value_region(self, name: str) -> Region:
        """Return where the value of a row stands."""
        y = next((y for y, line in enumerate(self._lines) if line.name == name), 0)
        return Region(NAME_WIDTH, y, max(1, self.size.width - NAME_WIDTH - cell_len(self._note(name))), 1)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        self._lines = list(self._placed(width))
        return len(self._lines)

    def _lay_out(self) -> None:
        count = len(self._lines)
        self._lines = list(self._placed(self.size.width))
        self.refresh(layout=len(self._lines) != count)

    def _placed(self, width: int) -> list[_Line]:
        lines = []
        for title, rows in self._groups:
            lines.append(_Line("", title))
            for row in rows:
                lines.append(_Line(row.name, row.name))
                problem = self._problems.get(row.name)
                if problem:
                    told = Text(f"✘ {visible(problem)}").wrap(self.app.console, max(10, width - 5))
                    lines += [_Line(row.name, piece.plain, wrong=True) for piece in told]
        return lines

    def _paint(self, names: set[str]) -> None:
        regions = [
            Region(0, y, self.size.width, 1) for y, line in enumerate(self._lines) if line.name in names
        ]
        if regions:
            self.refresh(*regions)

    def _note(self, name: str) -> str:
        note = self._notes.get(name)
        return f" {note} " if note else ""

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if y >= len(self._lines):
            return Strip.blank(width, self.rich_style)
        line = self._lines[y]
        if not line.name:
            return self._strip([(f" {line.text}", "group")], width)
        if line.wrong:
            return self._strip([(f"    {line.text}", "wrong")], width)
        value, note = self.value(line.name), self._note(line.name)
        room = max(1, width - NAME_WIDTH - cell_len(note))
        text, style = (value, "value") if value else (self._rows[line.name].default, "default")
        name = set_cell_size(fitted(f"{INDENT}{line.text}", NAME_WIDTH - 1), NAME_WIDTH)
        cells = [
            (name, "wrong" if line.name in self._problems else "value"),
            (set_cell_size(fitted(visible(text), room), room), style),
            (note, "note"),
        ]
        return self._strip(cells, width, here=self._marked and line.name == self.at)

    def _strip(self, cells: Sequence[tuple[str, str]], width: int, *, here: bool = False) -> Strip:
        colour = self.get_component_rich_style("lines--here").bgcolor
        back = Style(bgcolor=colour, bold=True) if here else Style()
        segments = [
            Segment(text, self.get_component_rich_style(f"lines--{style}") + back) for text, style in cells
        ]
        return Strip(segments).adjust_cell_length(width, self.rich_style + back)

    def on_click(self, event: Click) -> None:
        if event.y < len(self._lines) and self._lines[event.y].name:
            self.post_message(self.Clicked(self._lines[event.y].name))


def fitted(text: str, width: int) -> str:
    """Cut a text that is too wide: of several words the end goes, of a path the head."""
    if cell_len(text) <= width:
        return text
    if " " in text.strip() or text.startswith(INDENT):
        return f"{set_cell_size(text, width - 1)}…"
    return f"…{set_cell_size(text[::-1], width - 1)[::-1]}"
