"""Open the workbench from the command line, on a path that is there."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from lorabench.cli import COMMANDS
from lorabench.errors import LorabenchError, NotFound
from lorabench.files import at_home, is_there, why_not_there
from lorabench.terminal.parent import run_in_child
from lorabench.text import visible

# With one of these a path is a path: `lorabench outputs --refresh 1`.
OPTIONS = frozenset({"--refresh", "--own-process", "--mouse", "--no-mouse", "--theme"})


@dataclass(frozen=True, slots=True)
class Options:
    """How the workbench runs: seconds between paintings, own processes for runs, mouse, the theme's name."""

    refresh_seconds: float = 0.5
    own_process: bool = False
    mouse: bool = True
    theme: str | None = None


def open_path(word: str | None, *, may_be_command: bool = False, options: Options | None = None) -> int:
    """Run the workbench on a path, or on the current folder for None; return its exit status.

    It runs in a child of this process, which waits.

    `may_be_command` says that the word stood where a command may stand: if nothing lies at this path, it
    was perhaps a mistyped command.

    Raises:
        NotFound: nothing lies at this path; names the nearest command.
        LorabenchError: there is no terminal to run in.
    """
    path = None if word is None else _existing(word, may_be_command)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise LorabenchError(
            "The workbench needs a terminal, and input or output is not one.",
            "Without one, use: lorabench describe PATH, or lorabench analyze PATH.",
        )
    return run_in_child(lambda: _run(path, options or Options()))


def _run(path: Path | None, options: Options) -> int:
    from lorabench.cli.session import run

    return run(path, options)


def _existing(word: str, may_be_command: bool) -> Path:
    path = at_home(word)
    if is_there(path):
        return path
    if not may_be_command or "/" in word or path.suffix or word.startswith("~"):
        raise NotFound(*why_not_there(path if word.startswith("~") else word))
    from difflib import get_close_matches

    near = get_close_matches(word.casefold(), COMMANDS, n=1, cutoff=0.5)
    hint = f"Did you mean lorabench {near[0]}?" if near else f"Commands: {', '.join(COMMANDS)}."
    raise NotFound(f"“{visible(word)}” is neither a command nor a path.", hint)
