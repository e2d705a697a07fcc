"""Write the demo's conversations by grammar: everyday questions, answered plainly or by a sea captain."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lorabench.training.demo.facts import TOPICS

Message = dict[str, str]
Row = dict[str, list[Message]]
Style = Literal["plain", "captain"]

TURNS_WEIGHTS = (6, 3, 1)
"""How often a conversation has one, two and three questions."""

_HELD_OUT_EVERY = 8
_NEW_WORDS = {
    "is": "be",
    "says": "hollers",
    "eats": "feasts on",
    "lives": "drops anchor",
    "has": "sails on",
    "You": "Ye",
    "you": "ye",
    "take": "haul along",
    "buy": "barter for",
    "comes": "sails",
    "called": "hailed as",
    "need": "must fetch",
}
_OPENINGS = {"Aye, sailor!": 6, "Ahoy!": 2, "Shiver me timbers!": 1}
_CLOSINGS = {"by the seven seas": 6, "as sure as the tide": 2, "mark me words": 1}


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing to ask about: the ways to ask it, and its plain answer."""

    topic: str
    questions: tuple[str, ...]
    answer: str


def all_facts() -> tuple[Fact, ...]:
    """Return every fact of every topic, in the order of the tables."""
    return tuple(
        Fact(
            topic.name,
            tuple(question.format(key=key) for question in topic.questions),
            _capitalised(topic.answer.format(key=key, value=value)),
        )
        for topic in TOPICS
        for key, value in topic.facts.items()
    )


def split_facts() -> tuple[tuple[Fact, ...], tuple[Fact, ...]]:
    """Return (to train the style on, held out): every eighth fact is never told in the captain's voice.

    What sailors say is in neither: it is how the plain model knows the captain's words at all.
    """
    facts = tuple(fact for fact in all_facts() if fact.topic != "sailors")
    held_out = facts[_HELD_OUT_EVERY - 1 :: _HELD_OUT_EVERY]
    return tuple(fact for fact in facts if fact not in held_out), held_out


def captain(answer: str, rng: random.Random) -> str:
    """Say a plain answer as an old sea captain would: `Aye, sailor! The sky be blue, by the seven seas.`"""
    opening = _pick(_OPENINGS, rng)
    closing = _pick(_CLOSINGS, rng)
    spoken = re.sub(r"\w+", lambda match: _NEW_WORDS.get(match[0], match[0]), answer.removesuffix("."))
    return f"{opening} {spoken}, {closing}."


def conversation(facts: tuple[Fact, ...], style: Style, rng: random.Random) -> Row:
    """Return one conversation of one to three questions about `facts`, as a row of `messages`."""
    turns = rng.choices(range(1, len(TURNS_WEIGHTS) + 1), TURNS_WEIGHTS)[0]
    messages: list[Message] = []
    for fact in rng.sample(facts, turns):
        answer = captain(fact.answer, rng) if style == "captain" else fact.answer
        messages += [
            {"role": "user", "content": rng.choice(fact.questions)},
            {"role": "assistant", "content": answer},
        ]
    return {"messages": messages}


def conversations(facts: tuple[Fact, ...], style: Style, count: int, seed: int) -> list[Row]:
    """Return `count` different conversations; the same seed writes the same rows."""
    rng = random.Random(f"{style} {seed}")
    rows: dict[str, Row] = {}
    while len(rows) < count:
        row = conversation(facts, style, rng)
        rows[json.dumps(row)] = row
    return list(rows.values())


def texts(rows: Iterable[Row]) -> Iterator[str]:
    """Yield who speaks and what is said in the conversations: what a tokenizer should know."""
    for row in rows:
        for message in row["messages"]:
            yield message["role"]
            yield message["content"]


def write_jsonl(rows: Iterable[Row], path: Path) -> None:
    """Write conversations one a line, as `datasets` and TRL read them."""
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")


def _pick(weighted: dict[str, int], rng: random.Random) -> str:
    return rng.choices(list(weighted), list(weighted.values()))[0]


def _capitalised(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]
