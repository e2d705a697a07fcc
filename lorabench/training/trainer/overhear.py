"""Pass on what the libraries warn of; it is still printed where they print it."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lorabench.text import visible

# These do not pass their records on to the root logger, or may be told not to.
_LIBRARIES = ("transformers", "trl", "peft", "datasets", "accelerate", "torch", "huggingface_hub")
# In the workbench's process this one speaks of the screens, never of the run.
_OF_THE_SCREENS = "asyncio"
_MOST_TEXTS = 1_000
_MOST_CHARACTERS = 2_000
_DEPRECATIONS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)

Tell = Callable[[str, str], object]


@contextmanager
def overheard(tell: Tell, names: Collection[str] = ()) -> Iterator[None]:
    """Call `tell(text, source)` for each Python warning and each log record from WARNING on, once a text.

    Of the deprecations only those that mention one of `names` are told: nobody here can mend the others.
    """
    listener = _Listener(tell)
    loggers = [logging.getLogger(name) for name in (None, *_LIBRARIES)]
    shown = warnings.showwarning

    def show(message: Any, category: type[Warning], filename: str, *rest: Any, **more: Any) -> None:
        if not issubclass(category, _DEPRECATIONS) or _words(str(message)).intersection(names):
            listener.hear(str(message), f"{category.__name__} in {_package(filename)}")
        shown(message, category, filename, *rest, **more)

    for logger in loggers:
        logger.addHandler(listener)
    warnings.showwarning = show
    try:
        yield
    finally:
        if warnings.showwarning is show:
            warnings.showwarning = shown
        for logger in loggers:
            logger.removeHandler(listener)


class _Listener(logging.Handler):
    def __init__(self, tell: Tell) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell
        self._told: set[str] = set()
        self._last: logging.LogRecord | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if record is self._last:  # it passed a library's logger, and then the root
            return
        self._last = record
        if record.name != _OF_THE_SCREENS:
            self.hear(record.getMessage().removeprefix("[RANK 0] "), record.name)
        if logging.lastResort is not None and self._is_alone(record.name):
            logging.lastResort.handle(record)

    def _is_alone(self, name: str) -> bool:
        """Say whether nobody else handles this logger's records: then Python would have printed them."""
        logger: logging.Logger | None = logging.getLogger(name)
        while logger is not None:
            if any(handler is not self for handler in logger.handlers):
                return False
            logger = logger.parent if logger.propagate else None
        return True

    def hear(self, text: str, source: str) -> None:
        text = visible(" ".join(text.split()))[:_MOST_CHARACTERS]
        if text not in self._told and len(self._told) < _MOST_TEXTS:
            self._told.add(text)
            self._tell(text, source)


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def _package(filename: str) -> str:
    """Return the package that a file belongs to, as one would name it: `torch` of …/site-packages/torch/…"""
    parts = Path(filename).parts
    for folder in ("site-packages", "dist-packages"):
        if folder in parts[:-1]:
            return parts[parts.index(folder) + 1]
    return Path(filename).name
