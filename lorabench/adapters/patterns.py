"""Regular expressions that anyone may have written, matched as PEFT does, in bounded time and memory."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from lorabench.text import shorten, visible

_SECONDS = 1.0
_LONGEST = 20.0
_PLAIN_TRIALS = 1_000_000  # half a second
# Word characters, hyphens and dots: no repetition, so nothing that could run for long.
_PLAIN = re.compile(r"[\w.-]+")
_HARMLESS = re.compile(r"(?:[\w.^$-]|\\\.)+")
_LATE = 24  # what a child that ran out of time ends with
# PEFT's get_pattern_key: the first pattern that matches the module's path from a dot, or from its start.
_MATCHER = r"""
import json, re, sys
patterns, modules = json.load(sys.stdin)
compiled = [(pattern, re.compile(rf"(.*\.)?({pattern})$")) for pattern in patterns]
json.dump({module: next((p for p, c in compiled if c.match(module)), None) for module in modules}, sys.stdout)
"""
# As PEFT does it: each anew for each name, through re's cache, which many expressions overflow.
# re looks for signals while it matches.
_TRIER = r"""
import json, os, re, signal, sys
seconds, expressions, names = json.load(sys.stdin)
number = 0
def late(*_):
    os.write(1, str(number).encode())
    os._exit(_LATE)
signal.signal(signal.SIGPROF, late)
signal.setitimer(signal.ITIMER_PROF, seconds)
try:
    for name in names:
        for number, (expression, whole) in enumerate(expressions):
            (re.fullmatch if whole else re.match)(expression, name)
finally:
    print(number, flush=True)
""".replace("_LATE", str(_LATE))
_LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**29, 2**29))\n"


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


@dataclass(frozen=True, slots=True)
class Expression:
    """A regular expression as PEFT makes it of a `pattern` in `field`; it has to match a name's beginning.

    A `whole` one has to match the name as a whole.
    """

    field: str
    pattern: str
    text: str
    whole: bool = False


def why_not(expressions: Sequence[Expression], names: Sequence[str]) -> str:
    """Say why PEFT must not be asked which of these names match; "" where trying them soon comes to an end.

    They have 2 s of processor time, and 10 µs more for each trial: several times what sane ones need.
    """
    if len(expressions) * len(names) <= _PLAIN_TRIALS:
        expressions = [each for each in expressions if not _HARMLESS.fullmatch(each.pattern)]
    if not expressions:
        return ""
    seconds = min(2 + 1e-5 * len(expressions) * len(names), _LONGEST)
    pairs = [(expression.text, expression.whole) for expression in expressions]
    done = _child(_TRIER, [seconds, pairs, names])
    if done.returncode == 0:
        return ""
    if done.returncode == _LATE:
        why = f"takes longer than {seconds:.0f} s to match with this model's modules"
    else:
        why = f"is no regular expression that can be matched ({_last_words(done)})"
    culprit = expressions[int(done.stdout or 0)]
    return f"{culprit.field}: {shorten(visible(culprit.pattern), 60)} {why}."


def unknowable(expressions: Sequence[Expression]) -> str:
    """Say which expression PEFT must not be asked about while nobody knows the names; "" where all may be."""
    for each in expressions:
        if not _HARMLESS.fullmatch(each.pattern):
            return (
                f"{each.field}: {shorten(visible(each.pattern), 60)} cannot be tried first, since this "
                "model's modules cannot be listed. Names in place of an expression would do."
            )
    return ""


def _match_in_a_child(
    patterns: Sequence[str], modules: Sequence[str], seconds: float
) -> tuple[dict[str, str], str]:
    done = _child(_MATCHER, [patterns, modules], seconds)
    if done.returncode != 0:
        return {}, _last_words(done)
    return {module: pattern for module, pattern in json.loads(done.stdout).items() if pattern is not None}, ""


def _child(program: str, told: object, seconds: float | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a program with memory for expressions of a sane size.

    Raises:
        subprocess.TimeoutExpired: it took longer.
    """
    command = [sys.executable, "-I", "-S", "-c", _LIMITED + program]
    if seconds is not None and seconds <= 0:
        raise subprocess.TimeoutExpired(command, seconds)
    return subprocess.run(command, input=json.dumps(told).encode(), capture_output=True, timeout=seconds)


def _last_words(done: subprocess.CompletedProcess[bytes]) -> str:
    words = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    return shorten(visible(words or "a regular expression is not valid"), 160)


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
