"""The regular expressions of rank_pattern and alpha_pattern, matched as PEFT does, in bounded time."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence

from lorabench.text import visible

_SECONDS = 1.0
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


class PatternMatcher:
    """Match patterns from a file that anyone may have written: a regular expression can run for years.

    Plain names are matched here; all others in processes of their own. Those have one second altogether: an
    adapter may hold hundreds of adapters, or components of a pipeline, and each asks.
    """

    def __init__(self) -> None:
        self._left = _SECONDS

    def match(self, patterns: Sequence[str], modules: Sequence[str]) -> tuple[dict[str, str], str]:
        """Return for each module the first pattern that matches it, and what went wrong."""
        few = len(patterns) * len(modules) <= _PLAIN_TRIALS
        if few and all(_PLAIN.fullmatch(pattern) for pattern in patterns):
            return _match_plain(patterns, modules), ""
        begun = time.monotonic()
        try:
            return _match_in_a_child(patterns, modules, self._left)
        except subprocess.TimeoutExpired:
            return {}, f"its regular expressions took longer than {_SECONDS:.0f} s"
        finally:
            self._left = max(0.0, self._left - (time.monotonic() - begun))


def _match_in_a_child(
    patterns: Sequence[str], modules: Sequence[str], seconds: float
) -> tuple[dict[str, str], str]:
    command = [sys.executable, "-I", "-S", "-c", _MATCHER]
    if seconds <= 0:
        raise subprocess.TimeoutExpired(command, seconds)
    text = json.dumps([patterns, modules])
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=seconds)
    if done.returncode != 0:
        return {}, visible(done.stderr.strip().rpartition("\n")[2] or "a regular expression is not valid")
    return {module: pattern for module, pattern in json.loads(done.stdout).items() if pattern is not None}, ""


def _match_plain(patterns: Sequence[str], modules: Sequence[str]) -> dict[str, str]:
    tails = [(pattern, pattern.rpartition(".")[2]) for pattern in patterns]
    found = {}
    for module in modules:
        for pattern, tail in tails:
            start = len(module) - len(pattern)
            at_a_dot = start == 0 or (start > 0 and module[start - 1] == ".")
            if at_a_dot and module.endswith(tail) and re.compile(pattern).fullmatch(module, start):
                found[module] = pattern
                break
    return found
