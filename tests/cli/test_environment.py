"""What the environment says of encodings, colours and sizes, whether it makes sense or not."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.terminal import COMMAND, Terminal, environment

C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def printed(*words: object, **env: str) -> bytes:
    """What a command prints that does its work."""
    command = [*COMMAND, *map(str, words)]
    done = subprocess.run(command, capture_output=True, env=environment(**env), timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


@pytest.mark.parametrize("command", ["analyze", "describe"])
@pytest.mark.parametrize(
    "env",
    [*({"PYTHONIOENCODING": name} for name in ("ascii", "latin1", "cp1252")), C_LOCALE],
    ids=["ascii", "latin1", "cp1252", "C"],
)
def test_what_an_encoding_has_not_is_escaped(command: str, env: dict[str, str], adapter: Path) -> None:
    encoding = env.get("PYTHONIOENCODING", "ascii")
    whole = printed(command, adapter, PYTHONIOENCODING="utf-8").decode()
    assert printed(command, adapter, **env) == whole.encode(encoding, "backslashreplace")
    assert not whole.isascii()


@pytest.mark.parametrize("encoding", ["latin1", "cp1252"])  # in ascii click takes UTF-8 for what is meant
def test_so_it_is_in_the_help(encoding: str) -> None:
    whole = printed("analyze", "--help", PYTHONIOENCODING="utf-8").decode()
    assert printed("analyze", "--help", PYTHONIOENCODING=encoding) == whole.encode(
        encoding, "backslashreplace"
    )


@pytest.mark.parametrize(
    "size", ["9" * 5000, "1000000000", "²", "-3"], ids=["huge", "large", "square", "less"]
)
def test_what_is_no_size_is_not_used_as_one(size: str, adapter: Path) -> None:
    assert printed("describe", adapter, COLUMNS=size) == printed("describe", adapter)


def test_the_workbench_opens_whatever_the_size_is_said_to_be(adapter: Path) -> None:
    terminal = Terminal(adapter, COLUMNS="9" * 5000, LINES="²")
    terminal.wait_for("style-r8")
    terminal.type("q")
    assert terminal.close() == 0


@pytest.mark.parametrize(
    ("words", "env", "said"),
    [
        ((), {"TEXTUAL_THEME": "nope"}, "There is no theme nope."),
        ((), {"TEXTUAL_THEME": "ansi-dark"}, "There is no theme ansi-dark."),
        (("--theme", "nope"), {}, "There is no theme nope."),
        ((), {"TEXTUAL_COLOR_SYSTEM": "nope"}, "There is no colour system nope."),
    ],
    ids=["unknown", "ansi", "option", "colours"],
)
def test_colours_that_there_are_not_are_named(
    words: tuple[str, ...], env: dict[str, str], said: str, adapter: Path
) -> None:
    terminal = Terminal(adapter, *words, **env)
    terminal.wait_for(said)
    terminal.wait_for("There are ")
    assert terminal.close() == 2
    assert b"Traceback" not in terminal.painted


def test_the_theme_on_the_command_line_goes_before_the_environment_s(adapter: Path) -> None:
    terminal = Terminal(adapter, "--theme", "nord", TEXTUAL_THEME="nope")
    terminal.wait_for("style-r8")
    terminal.type("q")
    assert terminal.close() == 0


def test_json_stays_json_in_every_encoding(adapter: Path) -> None:
    told = json.loads(printed("analyze", adapter, "--json", PYTHONIOENCODING="ascii"))
    assert told == json.loads(printed("analyze", adapter, "--json", PYTHONIOENCODING="utf-8"))
