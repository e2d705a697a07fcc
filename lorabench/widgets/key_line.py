"""The line of keys at the bottom of every numbered screen."""

from __future__ import annotations

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import Binding
from textual.events import Resize
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer
from textual.widgets._footer import FooterKey

LAST = ("save", "help", "quit")
ALWAYS = ("help", "quit")


class KeyLine(Footer):
    """Textual's footer with as many keys as fit, what is the same on all screens last; help and quit stay.

    It makes its keys anew only where they are others than those that it shows. Textual's would on every
    change of focus and of screen, and to style new widgets takes longer than all else then.
    """

    def __init__(self) -> None:
        super().__init__(show_command_palette=False)
        self._shown: list[tuple[Binding, bool]] | None = None
        self._fitted = 0

    def compose(self) -> ComposeResult:
        keys = sorted(super().compose(), key=_place)
        self._fitted, idle = self.app.size.width, _idle(self.screen)
        room = self._fitted - sum(_width(key) for key in keys if _stays(key))
        for key in keys:
            if _action(key) in idle:
                continue
            room -= 0 if _stays(key) else _width(key)
            if room >= 0 or _stays(key):
                yield key

    def on_resize(self, event: Resize) -> None:
        """Show as many keys as fit now."""
        if self.app.size.width != self._fitted:
            self.call_after_refresh(self.recompose)

    def bindings_changed(self, screen: Screen[object]) -> None:
        """Show the keys that one may press now."""
        bindings, idle = screen.active_bindings.values(), _idle(screen)
        keys = [
            (binding, enabled)
            for _node, binding, enabled, _tooltip in bindings
            if binding.show and binding.action not in idle
        ]
        if keys != self._shown and self.is_attached and screen.app.app_focus:
            self._shown = keys
            super().bindings_changed(screen)


def _place(key: Widget) -> int:
    return LAST.index(key.action) + 1 if isinstance(key, FooterKey) and key.action in LAST else 0


def _idle(screen: Screen[object]) -> frozenset[str]:
    """What a screen has no use for now; one of another kind than ours says nothing of that."""
    return getattr(screen, "idle", frozenset())


def _action(key: Widget) -> str:
    return key.action if isinstance(key, FooterKey) else ""


def _stays(key: Widget) -> bool:
    return isinstance(key, FooterKey) and key.action in ALWAYS


def _width(key: Widget) -> int:
    """Return the cells of a key, of what it does, and of the blanks around them."""
    return cell_len(key.key_display) + cell_len(key.description) + 3 if isinstance(key, FooterKey) else 0
