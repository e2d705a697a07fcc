"""Trying expressions takes as long as matching them, and names the one that does not end."""

from __future__ import annotations

import pytest

from lorabench.adapters.patterns import Expression, why_not

NAMES = [f"model.layers.{layer}.mlp.experts.{at}.up_proj" for layer in range(240) for at in range(128)]


def ranks(*patterns: str) -> list[Expression]:
    return [Expression("rank_pattern", pattern, rf"(.*\.)?({pattern})$") for pattern in patterns]


@pytest.mark.parametrize(("patterns", "modules"), [(480, 1040), (13, 30720)])
def test_hundreds_of_sane_expressions_pass(patterns: int, modules: int) -> None:
    some = ranks(*(rf"^model\.layers\.{layer}\.mlp\.(up|down)_proj" for layer in range(patterns)))
    assert why_not(some, NAMES[:modules]) == ""


def test_the_endless_one_among_many_is_named() -> None:
    some = ranks(*(f"(up|down)_proj{number}" for number in range(40)), "(.+)+X", "(gate|up)_proj")
    assert why_not(some, NAMES[:100]) == (
        "rank_pattern: (.+)+X takes longer than 2 s to match with this model's modules."
    )
