"""Run lorabench: a path goes straight to the workbench, all else to the command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from lorabench.errors import LorabenchError

_MOST_DIGITS = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status: 0, 1 (a check or a run failed), 2 (usage, input), 130."""
    _fill_what_is_closed()
    _print_all_characters()
    _forget_what_is_no_size()
    try:
        return _dispatch(list(sys.argv[1:] if arguments is None else arguments))
    except LorabenchError as error:
        _say(error)
        return 2
    except OSError as error:  # where no better sentence was found: a disk, a folder or a pipe that is gone
        from lorabench.files import cannot

        _say(LorabenchError(*cannot(error.filename or "A file", "used", error)))
        return 2
    except KeyboardInterrupt:
        return 130


def _say(error: LorabenchError) -> None:
    for line in filter(None, (f"lorabench: {error.message}", error.hint)):
        print(line, file=sys.stderr)  # noqa: T201


def _fill_what_is_closed() -> None:
    """Open /dev/null where a standard stream was closed: else the next file would take its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            stream = os.fdopen(null, "w" if number else "r")
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def _print_all_characters() -> None:
    """Write as an escape what the encoding of standard output has not, rather than raise."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _forget_what_is_no_size() -> None:
    """Drop COLUMNS and LINES that no terminal has: rich would raise, or take all memory."""
    for name in ("COLUMNS", "LINES"):
        value = os.environ.get(name, "")
        if not (value.isascii() and value.isdecimal() and len(value) <= _MOST_DIGITS):
            os.environ.pop(name, None)


def _dispatch(arguments: list[str]) -> int:
    # Not above: ctrl+c may come already while these are imported.
    from lorabench.cli import COMMANDS, workbench

    # The workbench must not wait for typer: only what is not plainly a path goes through it.
    if "_LORABENCH_COMPLETE" not in os.environ:
        if not arguments:
            return workbench.open_path(None)
        words = arguments[1:] if arguments[0] == "open" else arguments
        if len(words) == 1 and not words[0].startswith("-") and arguments[0] not in COMMANDS[1:]:
            return workbench.open_path(words[0], may_be_command=words is arguments)
        if arguments[0] not in COMMANDS and workbench.OPTIONS.intersection(_names(arguments)):
            arguments = ["open", *arguments]
    from lorabench.cli.commands import run

    return run(arguments)


def _names(arguments: list[str]) -> list[str]:
    """Return what may be options, without the values that are written to them (`--refresh=1`)."""
    return [argument.partition("=")[0] for argument in arguments]


if __name__ == "__main__":
    sys.exit(main())
