"""A form of named values in groups: one painted list, and one line of input that goes to the row edited.

A widget for each row was tried first: at sixty rows a key took a tenth of a second of styling and layout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.events import Resize
from textual.message import Message
from textual.suggester import SuggestFromList
from textual.widgets import Input

from lorabench.widgets.field_lines import FieldLines, Row
from lorabench.widgets.filter_line import Line


class FieldForm(VerticalScroll, can_focus=True, inherit_bindings=False):
    """Rows to walk through; `enter` edits the value of one, `space` takes the next of its choices."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "edit", "edit", id="field.edit", tooltip="edit the value; enter or esc ends it"),
        Binding("space", "next_choice", "next", show=False, id="field.next", tooltip="take the next choice"),
        Binding("down,j", "step(1)", "down", show=False, id="field.down"),
        Binding("up,k", "step(-1)", "up", show=False, id="field.up"),
        Binding("pagedown", "page(1)", "page down", show=False, id="field.pagedown"),
        Binding("pageup", "page(-1)", "page up", show=False, id="field.pageup"),
        Binding("home,g", "end(0)", "first", show=False, id="field.first"),
        Binding("end,G", "end(-1)", "last", show=False, id="field.last"),
        Binding("escape", "cancel", "as it was", id="field.cancel", tooltip="leave the value as it was"),
        Binding(
            "delete,backspace", "empty", "default", show=False, id="field.empty", tooltip="take the default"
        ),
    ]

    @dataclass
    class Reached(Message):
        """The cursor has come to this field."""

        name: str

    @dataclass
    class Changed(Message):
        """The user has typed another value, or chosen one."""

        name: str
        text: str

    @dataclass
    class Left(Message):
        """The editing of this field has ended, with another value than before."""

        name: str

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.lines = FieldLines()
        self.line = Line("")
        self.line.select_on_focus = False
        self.line.display = False
        self.edited = self.before = ""

    def compose(self) -> ComposeResult:
        yield self.lines
        yield self.line

    @property
    def editing(self) -> bool:
        """Whether a value is being typed."""
        return bool(self.line.display)

    @property
    def current(self) -> str | None:
        """The field on which the cursor is; None while another part of the screen has the focus."""
        return self.lines.at if self.has_focus or self.line.has_focus else None

    def build(self, groups: Sequence[tuple[str, Sequence[Row]]]) -> None:
        """Show these groups of rows in place of those before, the cursor on the row where it was."""
        self.lines.build(groups)
        self.call_after_refresh(self._follow)

    def show(self, values: Mapping[str, str], problems: Mapping[str, str], notes: Mapping[str, str]) -> None:
        """Write what is known of the fields by name; a line that is being edited stays as it is typed."""
        self.lines.show(values, problems, notes)
        if self.editing:
            self._place()

    def enter(self) -> None:
        """Put the cursor where it was last, or on the first field."""
        self.screen.set_focus(self)

    def go_to(self, name: str) -> None:
        """Put the cursor on a field."""
        self.screen.set_focus(self)
        if self.lines.go_to(name):
            self.post_message(self.Reached(name))
            self.call_after_refresh(self._follow)

    def _follow(self) -> None:
        """Bring the row under the cursor, its group's title and its problem to the middle if out of sight.

        A step at a time would paint the whole panel at each key: twenty kilobytes over SSH.
        """
        first, after = self.lines.span(self.lines.at)
        height = self.scrollable_content_region.height
        if not self.scroll_y <= first <= after <= self.scroll_y + height:
            self.scroll_to(y=(first + after - height) // 2, animate=False)

    def _place(self) -> None:
        """Lay the line of input over the value under the cursor."""
        region = self.lines.value_region(self.lines.at)
        self.line.styles.offset = region.x, region.y
        self.line.styles.width = region.width

    def action_step(self, by: int) -> None:
        """Go some rows down or up; an editing ends there, its value stays."""
        names = self.lines.names
        if names:
            at = names.index(self.lines.at) + by
            self.go_to(names[max(0, min(at, len(names) - 1))])

    def action_page(self, way: int) -> None:
        """Go down or up as many rows as are seen."""
        self.action_step(way * max(1, self.size.height - 2))

    def action_end(self, at: int) -> None:
        """Go to the first row, or to the last."""
        if self.lines.names:
            self.go_to(self.lines.names[at])

    def action_edit(self) -> None:
        """Put the cursor into the value."""
        row = self.lines.row(self.lines.at)
        if row is None:
            return
        self.edited, self.before = row.name, self.lines.value(row.name)
        with self.prevent(Input.Changed):
            self.line.value = self.before
        self.line.placeholder = row.default
        self.line.suggester = SuggestFromList(row.choices) if row.choices else None
        self._place()
        self.line.display = True
        self.screen.set_focus(self.line, scroll_visible=False)
        self.line.cursor_position = len(self.line.value)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Leave `esc` to the screen where no value is edited."""
        return self.editing if action == "cancel" else super().check_action(action, parameters)

    def action_cancel(self) -> None:
        """Leave the value as it was before."""
        with self.prevent(Input.Changed):
            self.line.value = self.before
        self._say(self.edited, self.before)
        self.screen.set_focus(self)

    def action_empty(self) -> None:
        """Take the value away: the default holds."""
        if self.lines.at and self.lines.value(self.lines.at):
            self._say(self.lines.at, "")

    def action_next_choice(self) -> None:
        """Take the choice after the present one."""
        row = self.lines.row(self.lines.at)
        if row is not None and row.choices:
            now = self.lines.value(row.name) or row.default
            at = (row.choices.index(now) + 1) % len(row.choices) if now in row.choices else 0
            self._say(row.name, row.choices[at])

    def _say(self, name: str, text: str) -> None:
        self.post_message(self.Changed(name, text))

    @on(Input.Submitted)
    def leave(self, event: Input.Submitted) -> None:
        """End the editing."""
        event.stop()
        self.screen.set_focus(self)

    @on(Input.Changed)
    def pass_on(self, event: Input.Changed) -> None:
        event.stop()
        # Empty on the way to another value is not the default yet: the field would lose its place.
        if event.value.strip():
            self._say(self.edited, event.value)

    @on(Input.Blurred)
    def close(self, event: Input.Blurred) -> None:
        event.stop()
        self.line.display = False
        self.lines.mark(self.has_focus)
        if not self.line.value.strip() and self.lines.value(self.edited):
            self._say(self.edited, "")
        if self.line.value != self.before:
            self.post_message(self.Left(self.edited))

    @on(FieldLines.Clicked)
    def edit_clicked(self, event: FieldLines.Clicked) -> None:
        """Edit the value that was clicked."""
        event.stop()
        self.go_to(event.name)
        self.action_edit()

    def on_focus(self) -> None:
        self.lines.mark(True)
        self.post_message(self.Reached(self.lines.at))

    def on_blur(self) -> None:
        self.lines.mark(self.editing)

    def on_resize(self, _event: Resize) -> None:
        self.call_after_refresh(self._follow)
        if self.editing:
            self.call_after_refresh(self._place)
