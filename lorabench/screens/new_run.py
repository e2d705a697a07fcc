"""A new run: its folder, and what to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static

from lorabench.errors import LorabenchError
from lorabench.files import at_home, is_there
from lorabench.screens.add_field import two_columns
from lorabench.text import visible
from lorabench.training.config.presets import PRESETS, new_run


class NewRunDialog(ModalScreen[Path | None]):
    """Make a run from a preset. Answers its run.yaml, None when it was closed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "close", id="new.close"),
        Binding("down", "step('down')", "preset below", show=False, id="new.down"),
        Binding("up", "step('up')", "preset above", show=False, id="new.up"),
    ]

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide") as dialog:
            dialog.border_title = "new run"
            dialog.border_subtitle = "enter makes it · tab next line · ↑/↓ preset · esc closes"
            yield Static(Text(f"folder, in {visible(self.folder)}"))
            yield Input(free_name(self.folder), id="name", compact=True)
            yield Static("base model")
            yield Input(
                placeholder="the demo model; else a folder or a name on the hub", id="model", compact=True
            )
            yield Static("data")
            yield Input(
                placeholder="the demo data; else a folder, a name on the hub or a single file",
                id="data",
                compact=True,
            )
            yield Static("preset")
            width = max(len(preset.name) for preset in PRESETS)
            yield OptionList(*(two_columns(preset.name, preset.help, width) for preset in PRESETS))
            yield Static(id="problem")

    def on_mount(self) -> None:
        self.query_one(OptionList).highlighted = 0
        self.query_one("#name").focus()

    def action_step(self, way: str) -> None:
        """Go to the preset above or below, while the name is typed."""
        presets = self.query_one(OptionList)
        presets.action_cursor_down() if way == "down" else presets.action_cursor_up()

    @on(Input.Submitted)
    @on(OptionList.OptionSelected)
    def answer(self) -> None:
        """Make the run, or say why that cannot be."""
        name, model, data = (
            self.query_one(f"#{of}", Input).value.strip() for of in ("name", "model", "data")
        )
        preset = PRESETS[self.query_one(OptionList).highlighted or 0]
        if not name:
            self.query_one("#problem", Static).update(Text("A run needs a folder's name."))
            return
        try:
            folder = self.folder / at_home(name)
            self.dismiss(new_run(folder, preset, model=model or None, data=data or None))
        except LorabenchError as error:
            self.query_one("#problem", Static).update(Text(str(error)))


def free_name(folder: Path) -> str:
    """Return a name for a run that nothing in the folder has yet."""
    number = 1
    while is_there(folder / f"run-{number}"):
        number += 1
    return f"run-{number}"
