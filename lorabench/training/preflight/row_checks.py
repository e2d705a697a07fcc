"""What may be wrong with a row, told from the row alone: no tokenizer, no template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

Format = Literal["messages", "prompt-completion", "text", "tokens", "images"]

ROLES = {"system", "developer", "user", "assistant", "tool", "function", "ipython", "environment"}


class Fault(NamedTuple):
    """One thing that is wrong with a row.

    `kind` completes the sentence "3 rows …" and groups rows. A `fatal` fault stops TRL before the first
    step; any other trains, on something else than was meant.
    """

    kind: str
    fatal: bool


def format_of(columns: Sequence[str], text_field: str) -> Format | None:
    """Return what TRL takes rows of these columns for; None where it can do nothing with them."""
    if "input_ids" in columns:
        return "tokens"
    if "image" in columns or "images" in columns:
        return "images"
    if "prompt" in columns:
        return "prompt-completion" if "completion" in columns else None
    if "messages" in columns or "conversations" in columns:
        return "messages"
    return "text" if text_field in columns else None


def faults(row: Mapping[str, Any], kind: Format, text_field: str) -> set[Fault]:
    """Return what is wrong with one row of this format."""
    if kind == "messages":
        field = "messages" if row.get("messages") is not None else "conversations"
        value = row.get(field)
        return {Fault("have no messages", True)} if value is None else set(_conversation(value))
    if kind == "prompt-completion":
        return set(_pair(row.get("prompt"), row.get("completion")))
    if kind == "text":
        return set(_text(row.get(text_field), text_field))
    return set()


def _text(value: Any, field: str) -> Iterator[Fault]:
    if value is None:
        yield Fault(f"have no {field}", True)
    elif not isinstance(value, str):
        yield Fault(f"hold a {_type(value)} as {field}, not a text", True)
    elif not value.strip():
        yield Fault(f"have an empty {field}", False)


def _pair(prompt: Any, completion: Any) -> Iterator[Fault]:
    for field, value in (("prompt", prompt), ("completion", completion)):
        if value is None:
            yield Fault(f"have no {field}", True)
        elif not isinstance(value, str | list):
            yield Fault(f"hold a {_type(value)} as {field}, not a text and not messages", True)
        elif not value:
            yield Fault(f"have an empty {field}", isinstance(value, list))
        elif isinstance(value, list):
            yield from _messages(value)
    both = prompt is not None and completion is not None
    if both and isinstance(prompt, str) != isinstance(completion, str):
        yield Fault("mix a text and messages in prompt and completion", True)
    if isinstance(completion, str) and completion and not completion.strip():
        yield Fault("have an empty completion", False)
    if isinstance(prompt, list) and isinstance(completion, list):
        yield from _turns([_role(message) for message in (*prompt, *completion)])


def _conversation(messages: Any) -> Iterator[Fault]:
    if not isinstance(messages, list):
        yield Fault(f"hold a {_type(messages)} as messages, not a list", True)
    elif not messages:
        yield Fault("have an empty list of messages", True)
    else:
        yield from _messages(messages)
        yield from _turns([_role(message) for message in messages])


def _messages(messages: Sequence[Any]) -> Iterator[Fault]:
    for message in messages:
        role = _role(message)
        if not isinstance(message, Mapping):
            yield Fault(f"hold a {_type(message)} in place of a message", True)
            continue
        if role is None:
            yield Fault("have a message without a role", True)
        elif role not in ROLES:
            yield Fault(f"have the unknown role {role!r}", False)
        content = message.get("content", message.get("value"))
        if content is None and not message.get("tool_calls"):
            yield Fault("have a message without content", True)
        elif content is not None and not isinstance(content, str | list):
            yield Fault(f"hold a {_type(content)} as content", True)
        elif role == "assistant" and not message.get("tool_calls") and not _has_text(content):
            yield Fault("have an empty answer", False)


def _turns(roles: Sequence[str | None]) -> Iterator[Fault]:
    """Look at the order in which people and the assistant speak."""
    if any(role is None for role in roles):
        return
    if "assistant" not in roles:
        yield Fault("have no assistant turn", False)
        return
    spoken = [role for role in roles if role in ("user", "assistant")]
    if any(role in ("system", "developer") for role in roles[1:]):
        yield Fault("have a system message that is not the first", False)
    if spoken[0] == "assistant":
        yield Fault("begin with the assistant", False)
    if roles[-1] == "user":
        yield Fault("end with a question that nobody answers", False)
    if any(first == second and first in ("user", "assistant") for first, second in pairwise(roles)):
        yield Fault("have two turns of one role in a row", False)


def _role(message: Any) -> str | None:
    """Return a message's role; the older from/value form names it `from`, and TRL renames it."""
    if not isinstance(message, Mapping):
        return None
    role = message.get("role", message.get("from"))
    return role if isinstance(role, str) and role else None


def _has_text(content: Any) -> bool:
    return bool(content.strip()) if isinstance(content, str) else bool(content)


def _type(value: Any) -> str:
    name = type(value).__name__
    return {"str": "text", "dict": "mapping", "int": "number", "float": "number"}.get(name, name)
