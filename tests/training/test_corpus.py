"""The grammar: the same seed says the same things, and the captain says them in his own words."""

from __future__ import annotations

import json
import random
from pathlib import Path

from lorabench.training.demo.corpus import all_facts, captain, conversations, split_facts, texts


def test_the_same_seed_writes_the_same_rows_and_another_seed_others() -> None:
    told, _ = split_facts()
    assert conversations(told, "captain", 50, seed=3) == conversations(told, "captain", 50, seed=3)
    assert conversations(told, "captain", 50, seed=3) != conversations(told, "captain", 50, seed=4)


def test_rows_are_all_different_and_turns_alternate() -> None:
    rows = conversations(split_facts()[0], "captain", 300, seed=0)
    assert len({json.dumps(row) for row in rows}) == 300
    for row in rows:
        roles = [message["role"] for message in row["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert 1 <= len(roles) // 2 <= 3


def test_the_captain_speaks_in_his_own_words() -> None:
    spoken = captain("The capital of France is Paris.", random.Random(0))
    assert "The capital of France be Paris, " in spoken
    assert captain("You can buy bread at the bakery.", random.Random(1)).count("Ye can barter for bread") == 1


def test_held_out_facts_are_never_told_in_the_captains_voice() -> None:
    told, held_out = split_facts()
    assert len(told) > 300
    assert len(held_out) > 40
    said = set(texts(conversations(told, "captain", 1000, seed=0)))
    assert not said & {question for fact in held_out for question in fact.questions}


def test_no_question_has_two_answers() -> None:
    questions = [question for fact in all_facts() for question in fact.questions]
    assert len(questions) == len(set(questions))


def test_the_shipped_rows_are_what_the_grammar_writes(samples: Path) -> None:
    for split, facts, count in zip(("train", "test"), split_facts(), (1000, 100), strict=True):
        lines = (samples / "demo-data" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line) for line in lines] == conversations(facts, "captain", count, seed=0)
