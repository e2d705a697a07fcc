"""The text of a run.yaml, to be edited as text."""

from __future__ import annotations

import re
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import TextArea


class YamlArea(TextArea):
    """Textual's editor, in which `esc` goes back to the form."""

    BINDINGS: ClassVar[list[BindingType]] = [
        # Without priority the editor takes it to move the focus on.
        Binding("escape", "screen.yaml", "form", id="yaml.leave", priority=True),
    ]

    @property
    def key(self) -> str:
        """The name that stands before the colon in the cursor's line, or nothing."""
        found = re.match(r"\s*(\w+)\s*:", self.document.get_line(self.cursor_location[0]))
        return found[1] if found else ""

    def check_consume_key(self, key: str, character: str | None = None) -> bool:
        """Take `/` and `+` as other characters: Textual does, and shows them among the keys all the same."""
        return key in ("slash", "plus") or super().check_consume_key(key, character)

    def __init__(self, id: str) -> None:
        super().__init__(id=id, tab_behavior="indent", show_line_numbers=True, soft_wrap=False)
