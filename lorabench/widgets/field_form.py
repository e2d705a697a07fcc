"""A form of named values in groups: rows to walk through, each edited in its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.events import Click, Focus
from textual.message import Message
from textual.suggester import SuggestFromList
from textual.widgets import Input, Static

from lorabench.text import visible


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the form: the field's name, its default as shown while it is empty, and its choices."""

    name: str
    default: str
    choices: tuple[str, ...] = ()


class FieldRow(Vertical, can_focus=True):
    """A name and its value; `enter` edits the value, `space` takes the next of its choices."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "edit", "edit", id="field.edit", tooltip="edit the value; enter or esc ends it"),
        Binding("space", "next_choice", "next", show=False, id="field.next", tooltip="take the next choice"),
        Binding("down,j", "step(1)", "down", show=False, id="field.down"),
        Binding("up,k", "step(-1)", "up", show=False, id="field.up"),
        Binding(
            "escape",
            "cancel",
            "as it was",
            show=False,
            id="field.cancel",
            tooltip="leave the value as it was",
        ),
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

    def __init__(self, row: Row) -> None:
        super().__init__(id=f"field-{row.name}")
        self.row = row
        self.before = ""
        self.said = ("", "")

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield Static(Text(self.row.name, no_wrap=True, overflow="ellipsis"), classes="name")
            line = Input(
                placeholder=self.row.default,
                compact=True,
                select_on_focus=False,
                suggester=SuggestFromList(self.row.choices) if self.row.choices else None,
            )
            line.can_focus = False
            yield line
            yield Static(classes="note")
        yield Static(classes="problem")

    @property
    def line(self) -> Input:
        """Where the value stands."""
        return self.query_one(Input)

    def show(self, value: str, problem: str, note: str) -> None:
        """Write the value, unless it is being edited, what is wrong with it, and what follows from it."""
        if not self.line.has_focus and self.line.value != value:
            with self.prevent(Input.Changed):
                self.line.value = value
        # An update lays the whole form out anew.
        if (problem, note) != self.said:
            self.said = (problem, note)
            self.set_class(bool(problem), "-wrong")
            self.query_one(".problem", Static).update(Text(f"✘ {visible(problem)}" if problem else ""))
            self.query_one(".note", Static).update(Text(note, no_wrap=True))

    def action_edit(self) -> None:
        """Put the cursor into the value."""
        self.before = self.line.value
        self.line.can_focus = True
        self.screen.set_focus(self.line)
        self.line.cursor_position = len(self.line.value)

    def action_cancel(self) -> None:
        """Leave the value as it was before."""
        if self.line.has_focus:
            self.line.value = self.before
            self.screen.set_focus(self)

    def action_empty(self) -> None:
        """Take the value away: the default holds."""
        self.line.value = ""

    def action_next_choice(self) -> None:
        """Take the choice after the present one."""
        choices = self.row.choices
        if choices:
            now = self.line.value or self.row.default
            self.line.value = choices[(choices.index(now) + 1) % len(choices) if now in choices else 0]

    def action_step(self, by: int) -> None:
        """Go to the row above or below."""
        rows = list(self.screen.query(FieldRow))
        at = rows.index(self) + by
        if 0 <= at < len(rows):
            self.screen.set_focus(rows[at])

    @on(Input.Submitted)
    def leave(self, event: Input.Submitted) -> None:
        """End the editing."""
        event.stop()
        self.screen.set_focus(self)

    @on(Input.Changed)
    def pass_on(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Changed(self.row.name, event.value))

    @on(Input.Blurred)
    def close(self, event: Input.Blurred) -> None:
        event.stop()
        self.line.can_focus = False

    def on_focus(self, _event: Focus) -> None:
        self.post_message(self.Reached(self.row.name))

    def on_click(self, _event: Click) -> None:
        if not self.line.has_focus:
            self.action_edit()


class FieldForm(VerticalScroll):
    """The rows under their groups' titles."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id, can_focus=False)
        self.groups: Sequence[tuple[str, Sequence[Row]]] = ()
        self.last = ""

    async def build(self, groups: Sequence[tuple[str, Sequence[Row]]]) -> None:
        """Show these groups of rows in place of those before, the cursor on the row where it was."""
        if groups == self.groups:
            return
        self.groups, at = groups, self.current
        await self.remove_children()
        for title, rows in groups:
            await self.mount(Static(Text(title), classes="group"), *(FieldRow(row) for row in rows))
        if at is not None:
            self.go_to(at)

    @property
    def current(self) -> str | None:
        """The field on which the cursor is."""
        focused = self.screen.focused
        nodes = focused.ancestors_with_self if focused is not None else ()
        return next((node.row.name for node in nodes if isinstance(node, FieldRow)), None)

    @on(FieldRow.Reached)
    def remember(self, event: FieldRow.Reached) -> None:
        """Keep in mind where to come back to."""
        self.last = event.name

    def enter(self) -> None:
        """Put the cursor where it was last, or on the first field."""
        rows = self.query(FieldRow)
        if rows:
            names = [row.row.name for row in rows]
            self.go_to(self.last if self.last in names else names[0])

    def go_to(self, name: str) -> None:
        """Put the cursor on a field."""
        for row in self.query(FieldRow):
            if row.row.name == name:
                self.screen.set_focus(row)

    def show(self, values: Mapping[str, str], problems: Mapping[str, str], notes: Mapping[str, str]) -> None:
        """Write what is known of the fields by name."""
        for row in self.query(FieldRow):
            name = row.row.name
            row.show(values.get(name, ""), problems.get(name, ""), notes.get(name, ""))
