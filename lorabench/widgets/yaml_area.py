"""The text of a run.yaml, to be edited as text."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import TextArea


class YamlArea(TextArea):
    """Textual's editor, in which `esc` goes back to the form."""

    BINDINGS: ClassVar[list[BindingType]] = [
        # Without priority the editor takes it to move the focus on.
        Binding("escape", "screen.yaml", "form", id="yaml.leave", priority=True),
    ]

    def __init__(self, id: str) -> None:
        super().__init__(id=id, tab_behavior="indent", show_line_numbers=True, soft_wrap=False)
