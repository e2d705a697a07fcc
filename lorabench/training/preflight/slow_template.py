"""Stop chat templates that do not end: they are programs, and come with models that anyone may have made."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from lorabench.text import visible

if TYPE_CHECKING:
    from lorabench.training.config.run_config import RunConfig

LIMIT = 20.0
"""Seconds of processor time for the rows that the preflight measures, or for one row of a training.

2,000 of the demo's rows take 0.08 s.
"""

_LOOK_EVERY = 0.1  # seconds
_JINJA = "<template>"  # what jinja2 calls the file of a template that was made of a text


class SlowTemplate(BaseException):
    """A template took too long; not an Exception, which whatever calls the template might catch."""


def endless(config: RunConfig, what: str) -> str:
    """Say that the run's template took too long to render `what`."""
    name = config.get("chat_template_path") or f"of {config.get('model_name_or_path')}"
    limit = f"takes longer than {LIMIT:.0f} s to render {what}"
    return f"The chat template {visible(name)} {limit}. Does it come to an end?"


@contextmanager
def templates_bounded(*, each: bool = False) -> Iterator[None]:
    """Raise SlowTemplate in the template that this thread renders once templates have had LIMIT.

    With `each` that is meant for every rendering alone, however many there are. A watching thread counts the
    processor time only where it sees this one within a template, and raises nowhere else. Signals would do
    this in a process's main thread alone.
    """
    done = threading.Event()
    watching = threading.Thread(target=_watch, args=(threading.get_ident(), done, each), daemon=True)
    watching.start()
    try:
        yield
    finally:
        done.set()
        watching.join()


def _watch(thread: int, done: threading.Event, each: bool) -> None:
    spent, before, rendering = 0.0, time.process_time(), None
    while not done.wait(_LOOK_EVERY):
        now = time.process_time()
        seen, rendering = rendering, _rendering(sys._current_frames().get(thread))
        if each and rendering is not seen:
            spent = 0.0
        if rendering is not None:
            spent += now - before
            if spent > LIMIT:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread), ctypes.py_object(SlowTemplate)
                )
        before = now


def _rendering(frame: FrameType | None) -> FrameType | None:
    """Return the outermost frame of the template that is rendered, which is one for each rendering."""
    found = None
    while frame is not None:
        if frame.f_code.co_filename == _JINJA:
            found = frame
        frame = frame.f_back
    return found
