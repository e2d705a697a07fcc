"""What PyYAML finds wrong with a text, and where, in words that somebody who writes a run.yaml knows."""

from __future__ import annotations

import re

import yaml
from yaml.reader import ReaderError

from lorabench.text import visible
from lorabench.training.config.field import FieldProblem

# What PyYAML says → what to say, and whether it is where PyYAML began to read this, not where it gave up.
_PLAIN = (
    (r"'\\t'", "a tab where YAML wants spaces", False),
    (r"expected a single document", "there is a second document below ---, and TRL reads one", False),
    (r"flow sequence", "this [ has no ]", True),
    (r"flow mapping", "this { has no }", True),
    (r"quoted scalar.*end of stream", "this quote is not closed", True),
    (r"could not find expected ':'", "a line without a colon: write lora_r: 8", True),
    (
        r"cannot start any token|undefined alias|constructor for the tag",
        "a text that begins so must stand in quotes",
        False,
    ),
    (
        r"mapping values are not allowed",
        "a colon out of place: look at the indentation, for one missing above, and for text without quotes",
        False,
    ),
    (
        r"expected <block end>",
        "this does not go on from what stands above: look at the indentation, and for quotes within quotes",
        False,
    ),
)


def told(error: yaml.YAMLError, text: str) -> FieldProblem:
    """Say what is wrong with this text, and in which line and column; both count from 1."""
    if isinstance(error, ReaderError):
        before = text[: error.position]
        line, column = before.count("\n"), len(before) - before.rfind("\n") - 1
        return _placed(line, column, f"a character that YAML does not allow, U+{error.character:04X}")
    if not isinstance(error, yaml.MarkedYAMLError):
        return FieldProblem("", f"This is not YAML: {visible(error)}.")
    what = " ".join(filter(None, (error.context, error.problem)))
    plain, begins = next(
        ((words, begun) for pattern, words, begun in _PLAIN if re.search(pattern, what)),
        (visible(what), False),
    )
    begun = error.context_mark if begins else None
    mark = begun or error.problem_mark or error.context_mark
    return FieldProblem("", f"{plain}.") if mark is None else _placed(mark.line, mark.column, plain)


def _placed(line: int, column: int, what: str) -> FieldProblem:
    return FieldProblem("", f"Line {line + 1}, column {column + 1}: {what}.", line=line + 1)
