"""Stop chat templates that do not end: they are programs, and come with models that anyone may have made."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

LIMIT = 20.0
"""Seconds of processor time for all that is rendered in a preparation; 2,000 of the demo's rows take 0.08."""

_LOOK_EVERY = 0.1  # seconds
_JINJA = "<template>"  # what jinja2 calls the file of a template that was made of a text


class SlowTemplate(BaseException):
    """A template took too long; not an Exception, which whatever calls the template might catch."""


@contextmanager
def templates_bounded() -> Iterator[None]:
    """Raise SlowTemplate in the template that this thread renders once templates have had LIMIT.

    A watching thread counts the processor time only where it sees this one within a template, and raises
    nowhere else. Signals would do this in a process's main thread alone.
    """
    done = threading.Event()
    watching = threading.Thread(target=_watch, args=(threading.get_ident(), done), daemon=True)
    watching.start()
    try:
        yield
    finally:
        done.set()
        watching.join()


def _watch(thread: int, done: threading.Event) -> None:
    spent, before = 0.0, time.process_time()
    while not done.wait(_LOOK_EVERY):
        now = time.process_time()
        if _in_template(sys._current_frames().get(thread)):
            spent += now - before
            if spent > LIMIT:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread), ctypes.py_object(SlowTemplate)
                )
        before = now


def _in_template(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == _JINJA:
            return True
        frame = frame.f_back
    return False
