"""lorabench: the terminal workbench for LoRA.

From Python: `lorabench.open_adapter(source)` tells what is in an adapter, `lorabench.analyze(source)` what
its updates became. A source is a path, a state dict, or a PeftModel in memory.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lorabench.adapters.open import open_adapter
    from lorabench.errors import LorabenchError
    from lorabench.spectra.report import Report, analyze

__version__ = "0.1.0"
__all__ = ["LorabenchError", "Report", "__version__", "analyze", "open_adapter"]

_HOME = {
    "LorabenchError": "lorabench.errors",
    "Report": "lorabench.spectra.report",
    "analyze": "lorabench.spectra.report",
    "open_adapter": "lorabench.adapters.open",
}


def __getattr__(name: str) -> Any:
    # The command line and the workbench start in a blink because importing lorabench imports nothing.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
