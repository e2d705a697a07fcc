"""What every hostile case must keep to: an answer, soon, in little memory, nothing that a terminal obeys."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from hypothesis import HealthCheck, settings

from lorabench.errors import LorabenchError

LONG = bool(os.environ.get("LORABENCH_TEST_LONG"))
MOST_SECONDS = 2.0
MOST_BYTES = 500_000_000
HANGS = 30  # seconds by the clock, which others may be using too
_OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_STATUS = Path("/proc/self/status")


def examples(normal: int, long: int) -> settings:
    """Ask for so many cases, the same ones each time unless the long mode is on."""
    return settings(
        max_examples=long if LONG else normal,
        deadline=None,
        database=None,
        derandomize=not LONG,
        suppress_health_check=list(HealthCheck),
    )


@contextlib.contextmanager
def bounds(most_seconds: float = MOST_SECONDS) -> Iterator[None]:
    """Fail where what is done within takes more than 2 s of processors, or 500 MB, or does not end."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # begins the peak anew (proc_pid_clear_refs(5))
    memory, seconds = _status("VmRSS"), _processor_seconds()
    unlimited = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_status("VmData") + 4 * MOST_BYTES, unlimited[1]))
    before = signal.signal(signal.SIGALRM, _hangs)
    signal.setitimer(signal.ITIMER_REAL, HANGS)
    gc.disable()  # what hypothesis has heaped up by then takes seconds to go through
    try:
        yield
        spent, grown = _processor_seconds() - seconds, _status("VmHWM") - memory
    finally:
        gc.enable()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_DATA, unlimited)
    assert spent < most_seconds, f"{spent:.1f} s"
    assert grown < MOST_BYTES, f"{grown / 1e6:.0f} MB"


def sentence_or(answer: Callable[[], str]) -> str:
    """Return the answer, or the sentence in its place; within the bounds, and harmless to a terminal."""
    with bounds():
        try:
            said = answer()
        except LorabenchError as error:
            said = str(error)
            assert said
    assert harmless(said), repr(said[:500])
    return said


def harmless(text: str) -> bool:
    """Say whether a terminal would only show this text, line by line."""
    return not any(unicodedata.category(c) in _OBEYED for c in set(text) - {"\n"})


def _hangs(_signal: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"not done after {HANGS} s")


def _processor_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _status(name: str) -> int:
    lines = _STATUS.read_text().splitlines() if _STATUS.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)
