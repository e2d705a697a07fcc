"""Keep the libraries from printing while they work for us."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import datasets
from transformers.utils import logging as transformers_logging


@contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings, log lines below errors, and the progress bars of transformers and datasets."""
    disabled = logging.root.manager.disable
    transformers_bars = transformers_logging.is_progress_bar_enabled()
    datasets_bars = datasets.is_progress_bar_enabled()
    logging.disable(logging.WARNING)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        if transformers_bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
        if datasets_bars:
            datasets.enable_progress_bars()
