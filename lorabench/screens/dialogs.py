"""Dialogs that every screen uses: help, an error to read and copy, and where to save."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text
from rich.theme import Theme
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static

from lorabench.errors import LorabenchError
from lorabench.files import at_home, is_folder, is_there
from lorabench.text import visible


class HelpDialog(ModalScreen[None]):
    """How to read the screen beneath (Markdown), and its keys with what each does."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,f1", "dismiss", "close", id="help.close"),
    ]

    def __init__(self, title: str, text: str, keys: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self.heading, self.text, self.keys = title, text, keys

    def compose(self) -> ComposeResult:
        # Its parser takes a tenth of the time to the first frame, and help is wanted later.
        from rich.markdown import Markdown

        with VerticalScroll(classes="dialog wide") as dialog:
            dialog.border_title = self.heading
            dialog.border_subtitle = "esc closes · arrows scroll"
            keys = Table.grid(padding=(0, 2))
            for key, does in self.keys:
                keys.add_row(Text(key, "bold"), Text(does))
            # One widget: with one for each paragraph, as Textual has it, the dialog comes thrice as late.
            content = Group(Markdown(f"{self.text}\n\n## Keys"), keys)
            colours = self.app.theme_variables
            code, title = f"bold {colours['text-warning']}", f"bold {colours['text-primary']}"
            styles = {"markdown.code": code, "markdown.h2": title, "markdown.item.bullet": title}
            yield Static(_Coloured(content, styles), id="keys")

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()


class _Coloured:
    """Something of Rich's in colours of the application's theme, for these of Rich's styles."""

    def __init__(self, content: RenderableType, styles: dict[str, str]) -> None:
        self.content, self.theme = content, Theme(styles)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        with console.use_theme(self.theme):
            yield from console.render(self.content, options)


class ErrorDialog(ModalScreen[None]):
    """What went wrong and what to do, to read and to copy."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q", "dismiss", "close", id="error.close"),
        Binding("y", "copy", "copy", id="error.copy"),
    ]

    def __init__(self, error: LorabenchError, title: str) -> None:
        super().__init__()
        self.error, self.heading = error, title

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog error") as dialog:
            dialog.border_title = Content(self.heading)
            dialog.border_subtitle = "esc closes · y copies"
            yield Static(Text(self.error.message))
            if self.error.hint:
                yield Static(Text(self.error.hint), classes="hint")

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(str(self.error))
        self.notify("copied", markup=False)


class SaveDialog(ModalScreen[Path | None]):
    """Ask for a file name; its ending decides what is saved. Answers None when it was closed."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "close", id="save.close")]

    def __init__(self, proposal: Path, endings: dict[str, str]) -> None:
        super().__init__()
        self.proposal, self.endings = proposal, endings
        self.confirmed: Path | None = None

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog save") as dialog:
            dialog.border_title = "save"
            dialog.border_subtitle = "enter saves · esc closes"
            yield Input(str(self.proposal), id="path", select_on_focus=False)
            yield Static(
                Text("\n".join(f"{ending:6}{what}" for ending, what in self.endings.items())), id="endings"
            )
            yield Static(id="problem")

    @on(Input.Submitted)
    def answer(self, event: Input.Submitted) -> None:
        """Give the path back, after a second enter where a file of that name exists."""
        path = at_home(event.value)
        problem = self.problem_of(path)
        if problem:
            self.query_one("#problem", Static).update(Text(problem))
            return
        self.dismiss(path)

    def problem_of(self, path: Path) -> str:
        """Return why this path cannot be written to yet, or nothing."""
        if path.suffix not in self.endings:
            return f"The name must end in {', '.join(self.endings)}."
        if is_folder(path) or not is_folder(path.parent):
            return "This is a folder." if is_folder(path) else f"There is no folder {visible(path.parent)}."
        if is_there(path) and self.confirmed != path:
            self.confirmed = path
            return "The file exists: enter again overwrites it."
        return ""


class ChoiceDialog(ModalScreen[int | None]):
    """Choose one of several lines. Answers its place in the list, None when it was closed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss(None)", "close", id="choice.close"),
        Binding("j", "cursor_down", "", show=False, id="choice.down"),
        Binding("k", "cursor_up", "", show=False, id="choice.up"),
    ]

    def __init__(self, title: str, choices: list[str]) -> None:
        super().__init__()
        self.heading, self.choices = title, choices

    def compose(self) -> ComposeResult:
        options = OptionList(*(Text(choice, no_wrap=True) for choice in self.choices), classes="dialog wide")
        options.border_title = Content(self.heading)
        options.border_subtitle = "enter chooses · esc closes"
        yield options

    @on(OptionList.OptionSelected)
    def answer(self, event: OptionList.OptionSelected) -> None:
        """Give the choice back."""
        self.dismiss(event.option_index)

    def action_cursor_down(self) -> None:
        self.query_one(OptionList).action_cursor_down()

    def action_cursor_up(self) -> None:
        self.query_one(OptionList).action_cursor_up()
