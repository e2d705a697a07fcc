"""What the command palette offers: themes, the keys of the screen with what they do, the samples."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import cast

from textual.app import App, SystemCommand
from textual.screen import Screen

from lorabench.screens.work_screen import Workbench


def commands(app: App[None], screen: Screen[object]) -> Iterator[SystemCommand]:
    """Yield what can be done now; Textual's own list has keys and a quit that ours know better."""
    yield SystemCommand("Theme", "Choose other colours, light ones too", app.action_change_theme)
    samples = cast("Workbench", app).open_samples
    yield SystemCommand("Open the sample adapters", "Show the adapters that ship with lorabench", samples)
    seen: set[str] = set()
    for node, binding, enabled, tooltip in screen.active_bindings.values():
        moves = binding.id is None or binding.id.startswith("table.")
        if enabled and not moves and binding.description and binding.action not in seen:
            seen.add(binding.action)
            title = f"{binding.description} ({app.get_key_display(binding)})"
            act = partial(app.run_action, binding.action, default_namespace=node)
            yield SystemCommand(title, tooltip or binding.description, act)
