"""The regular expressions of rank_pattern and alpha_pattern, matched as PEFT does, in bounded time."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence

from lorabench.text import visible

_SECONDS = 5.0
_PLAIN_TRIALS = 1_000_000  # half a second
# Word characters, hyphens and dots: no repetition, so nothing that could run for long.
_PLAIN = re.compile(r"[\w.-]+")
# PEFT's get_pattern_key: the first pattern that matches the module's path from a dot, or from its start.
_MATCHER = r"""
import json, re, sys
patterns, modules = json.load(sys.stdin)
compiled = [(pattern, re.compile(rf"(.*\.)?({pattern})$")) for pattern in patterns]
json.dump({module: next((p for p, c in compiled if c.match(module)), None) for module in modules}, sys.stdout)
"""


def match_patterns(patterns: Sequence[str], modules: Sequence[str]) -> tuple[dict[str, str], str]:
    """Find for each module the first pattern that matches it; return {module: pattern} and what went wrong.

    The patterns come from a file that anyone may have written, and a regular expression can be made to run
    for years. Plain names are matched here; all others in a process of their own, which has 5 seconds.
    """
    few = len(patterns) * len(modules) <= _PLAIN_TRIALS
    if few and all(_PLAIN.fullmatch(pattern) for pattern in patterns):
        return _match_plain(patterns, modules), ""
    command = [sys.executable, "-I", "-S", "-c", _MATCHER]
    try:
        done = subprocess.run(
            command, input=json.dumps([patterns, modules]), capture_output=True, text=True, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        return {}, f"its regular expressions took longer than {_SECONDS:.0f} seconds"
    if done.returncode != 0:
        return {}, visible(done.stderr.strip().rpartition("\n")[2] or "a regular expression is not valid")
    return {module: pattern for module, pattern in json.loads(done.stdout).items() if pattern is not None}, ""


def _match_plain(patterns: Sequence[str], modules: Sequence[str]) -> dict[str, str]:
    compiled = [(pattern, pattern.rpartition(".")[2], re.compile(pattern)) for pattern in patterns]
    found = {}
    for module in modules:
        for pattern, tail, expression in compiled:
            start = len(module) - len(pattern)
            at_a_dot = start == 0 or (start > 0 and module[start - 1] == ".")
            if at_a_dot and module.endswith(tail) and expression.fullmatch(module, start):
                found[module] = pattern
                break
    return found
