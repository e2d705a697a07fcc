"""What is wrong with a row is told from the row alone."""

from __future__ import annotations

from typing import Any

import pytest

from lorabench.training.preflight.row_checks import Fault, faults, format_of
from tests.training.preflight_data.conftest import conversation, turn


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        (["messages"], "messages"),
        (["id", "conversations"], "messages"),
        (["prompt", "completion", "messages"], "prompt-completion"),
        (["prompt", "messages"], None),
        (["text"], "text"),
        (["story"], None),
        (["input_ids", "text"], "tokens"),
        (["messages", "images"], "images"),
    ],
)
def test_the_columns_decide_the_format_as_they_do_in_trl(columns: list[str], kind: str | None) -> None:
    assert format_of(columns, "text") == kind


def test_the_text_column_may_have_another_name() -> None:
    assert format_of(["story"], "story") == "text"


@pytest.mark.parametrize(
    "row",
    [
        conversation("Hello", "Ahoy!"),
        conversation("Hello", "Ahoy!", "Bye", "Fair winds!"),
        {"messages": [turn("system", "Be brief."), turn("user", "Hi"), turn("assistant", "Ahoy!")]},
        {"conversations": [{"from": "user", "value": "Hi"}, {"from": "assistant", "value": "Ahoy!"}]},
        {"messages": [turn("user", "3+4?"), {**turn("assistant", None), "tool_calls": [{"name": "add"}]}]},
        {"messages": [turn("user", [{"type": "text", "text": "Hi"}]), turn("assistant", "Ahoy!")]},
    ],
)
def test_a_good_conversation_has_no_fault(row: dict[str, Any]) -> None:
    assert faults(row, "messages", "text") == set()


@pytest.mark.parametrize(
    ("row", "kind", "fatal"),
    [
        ({"messages": None}, "have no messages", True),
        ({"messages": "Hi"}, "hold a text as messages, not a list", True),
        ({"messages": []}, "have an empty list of messages", True),
        ({"messages": ["Hi"]}, "hold a text in place of a message", True),
        ({"messages": [{"content": "Hi"}, turn("assistant", "A")]}, "have a message without a role", True),
        ({"messages": [turn("user", None), turn("assistant", "A")]}, "have a message without content", True),
        ({"messages": [turn("user", 3), turn("assistant", "A")]}, "hold a number as content", True),
        ({"messages": [turn("user", "Q"), turn("asistant", "A")]}, "have the unknown role 'asistant'", False),
        (conversation("Q", "  "), "have an empty answer", False),
        (conversation("Q"), "have no assistant turn", False),
        (conversation("Q", "A", "Q"), "end with a question that nobody answers", False),
        (
            {"messages": [turn("assistant", "A"), turn("user", "Q"), turn("assistant", "A")]},
            "begin with the assistant",
            False,
        ),
        (
            {"messages": [turn("user", "Q"), turn("system", "S"), turn("assistant", "A")]},
            "have a system message that is not the first",
            False,
        ),
        (
            {"messages": [turn("user", "Q"), turn("assistant", "A"), turn("assistant", "B")]},
            "have two turns of one role in a row",
            False,
        ),
    ],
)
def test_a_fault_of_a_conversation_is_named(row: dict[str, Any], kind: str, fatal: bool) -> None:
    assert Fault(kind, fatal) in faults(row, "messages", "text")


@pytest.mark.parametrize(
    ("row", "kind", "fatal"),
    [
        ({"prompt": "Q", "completion": None}, "have no completion", True),
        ({"prompt": None, "completion": "A"}, "have no prompt", True),
        ({"prompt": "Q", "completion": 7}, "hold a number as completion, not a text and not messages", True),
        ({"prompt": "Q", "completion": ""}, "have an empty completion", False),
        ({"prompt": "Q", "completion": " \n"}, "have an empty completion", False),
        ({"prompt": [turn("user", "Q")], "completion": []}, "have an empty completion", True),
        (
            {"prompt": [turn("user", "Q")], "completion": "A"},
            "mix a text and messages in prompt and completion",
            True,
        ),
        (
            {"prompt": [turn("user", "Q")], "completion": [turn("assistant", "")]},
            "have an empty answer",
            False,
        ),
    ],
)
def test_a_fault_of_a_pair_is_named(row: dict[str, Any], kind: str, fatal: bool) -> None:
    assert Fault(kind, fatal) in faults(row, "prompt-completion", "text")


@pytest.mark.parametrize(
    ("row", "kind", "fatal"),
    [
        ({"text": None}, "have no text", True),
        ({}, "have no text", True),
        ({"text": 3.5}, "hold a number as text, not a text", True),
        ({"text": ""}, "have an empty text", False),
    ],
)
def test_a_fault_of_a_text_is_named(row: dict[str, Any], kind: str, fatal: bool) -> None:
    assert faults(row, "text", "text") == {Fault(kind, fatal)}
