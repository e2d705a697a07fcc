"""Every command's help has examples, and they are as they would be typed in the checkout."""

import re
import shlex

import pytest
import typer.main

from lorabench.cli import COMMANDS, workbench
from lorabench.cli.commands import app
from tests.conftest import REPOSITORY

GROUP = typer.main.get_command(app)


def examples(help_text: str) -> list[list[str]]:
    """The words of each command line below `Example:`; several on a line stand apart by `;`."""
    block = re.search(r"Example: (.*?)(?:\n\s*\n|\Z)", help_text, re.DOTALL)
    lines = block[1].splitlines() if block else []
    return [shlex.split(part) for line in lines for part in line.split(";")]


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_a_command_has_examples_that_parse_and_name_what_is_there(name: str) -> None:
    command = GROUP.commands[name] if name else GROUP
    shown = examples(command.help)
    assert shown
    assert any(name in ("", "open", words[1]) for words in shown)
    for program, *words in shown:
        assert program == "lorabench"
        verb, *rest = words if words[0] in COMMANDS else ["open", *words]
        context = GROUP.commands[verb].make_context(verb, rest)  # ends with an error where it does not parse
        assert words[0] == verb or len(words) == 1 or workbench.OPTIONS.intersection(words)
        for path in map(str, context.params.values()):
            # A run of the examples is made by the first of them; all else is in the checkout.
            assert not path.startswith("sample_adapters") or (REPOSITORY / path).exists(), path
            assert not path.startswith("outputs")


def test_every_command_of_the_help_is_one_that_may_stand_first() -> None:
    assert set(GROUP.commands) == set(COMMANDS)
