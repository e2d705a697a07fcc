"""What would kill a command at once lets it close what is open, and give the terminal back."""

from __future__ import annotations

import signal
from types import FrameType


def end_by_exception() -> None:
    """Let SIGTERM and SIGHUP raise SystemExit, as SIGINT raises KeyboardInterrupt.

    One that is ignored stays ignored: this is what `nohup` asks for.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
