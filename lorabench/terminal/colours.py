"""The colours that one asks for: on the command line, or in the environment."""

from __future__ import annotations

from rich.console import COLOR_SYSTEMS
from textual import constants
from textual.theme import BUILTIN_THEMES

from lorabench.errors import LorabenchError
from lorabench.text import visible

# The grid's shades and plotext's colours need true colours, which these two have not.
ANSI_THEMES = ("ansi-dark", "ansi-light")


def first_theme(named: str | None) -> str:
    """Return the theme to begin with, that of `TEXTUAL_THEME` for None; before Textual reads either.

    Raises:
        LorabenchError: there is no such theme, or `TEXTUAL_COLOR_SYSTEM` names none; tells what there is.
    """
    _one_of(["auto", *COLOR_SYSTEMS], constants.COLOR_SYSTEM or "", "colour system")
    return _one_of(
        [t for t in BUILTIN_THEMES if t not in ANSI_THEMES], named or constants.DEFAULT_THEME, "theme"
    )


def _one_of(names: list[str], name: str, what: str) -> str:
    if name not in names:
        raise LorabenchError(f"There is no {what} {visible(name)}.", f"There are {', '.join(names)}.")
    return name
