"""The line in which one types a filter; it is there only while it is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input, Static


class FilterLine(Vertical):
    """An input that opens with `/`; `enter` keeps the filter, `esc` takes it away."""

    DEFAULT_CSS = """
    FilterLine { height: auto; max-height: 2; display: none; }
    FilterLine #filter-problem { display: none; height: auto; color: $text-error; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "clear", "no filter", id="filter.clear"),
    ]

    @dataclass
    class Changed(Message):
        """The filter's text has changed."""

        text: str

    def __init__(self, placeholder: str) -> None:
        super().__init__()
        self.placeholder = placeholder

    def compose(self) -> ComposeResult:
        yield Line(self.placeholder)
        yield Static(id="filter-problem")

    def ask(self) -> None:
        """Open the line and put the cursor in it at once: a fast hand's next key is on its way."""
        self.display = True
        self.screen.set_focus(self.query_one(Input))

    def complain(self, problem: str) -> None:
        """Show why the text is no filter, or nothing."""
        self.query_one("#filter-problem", Static).update(Text(problem))
        self.query_one("#filter-problem").display = bool(problem)

    @on(Input.Changed)
    def pass_on(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Changed(event.value))

    @on(Input.Submitted)
    def keep(self, event: Input.Submitted) -> None:
        """Leave the line; it stays while there is a filter."""
        event.stop()
        if not event.value.strip():
            self.display = False
        self.leave()

    def action_clear(self) -> None:
        """Take the filter away and close the line."""
        self.query_one(Input).value = ""
        self.display = False
        self.leave()

    def leave(self) -> None:
        """Give the keys back to what is filtered."""
        if self.query_one(Input).has_focus:
            self.screen.focus_next("DataTable, LogPane, FieldForm")


class Line(Input):
    """An input of one line that takes no key while it is not shown: Textual would give it the focus.

    And one that takes `/` and `+` as all other characters: Textual does, and shows them among the keys all
    the same.
    """

    DEFAULT_CSS = "Line.-textual-compact { padding: 0 1; background: $panel; }"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "submit", "done", id="line.submit")]

    def __init__(self, placeholder: str, id: str | None = None) -> None:
        super().__init__(placeholder=placeholder, compact=True, id=id)

    def allow_focus(self) -> bool:
        return super().allow_focus() and all(node.display for node in self.ancestors_with_self)

    def check_consume_key(self, key: str, character: str | None) -> bool:
        return key in ("slash", "plus") or super().check_consume_key(key, character)
