"""Import what trains, in a process that shows screens meanwhile."""

from __future__ import annotations

import functools
import gc


@functools.cache
def import_libraries() -> None:
    """Import what trains, and leave what that made out of later garbage collections.

    A full collection over the libraries' objects stops the screen for 200 to 300 ms. This is done once: what
    a training leaves behind must not be frozen by the next.
    """
    gc.disable()
    try:
        from lorabench.training.trainer import build, callback, watched  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()
