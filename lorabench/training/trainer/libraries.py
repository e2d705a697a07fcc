"""Import what trains, in a process that shows screens meanwhile."""

from __future__ import annotations

import functools
import gc


@functools.cache
def import_libraries() -> None:
    """Import what trains, and leave what that made out of later garbage collections.

    A full collection over the libraries' objects stops the screen for 200 to 300 ms. What else there is then
    is left out too, with all that it comes to hold: this is done once, and before a model is loaded.
    """
    gc.disable()
    try:
        from lorabench.training.trainer import build, callback, watched  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()
