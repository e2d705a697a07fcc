"""The numbered screens, each imported when it is wanted; the likeliest before."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from textual.screen import Screen

from lorabench.screens.bench import BenchScreen

# It takes a fifth of a second in all: not before somebody has the bench to look at.
PREFETCH_SECONDS = 0.5
ANALYSED = ("layers", "spectra", "base")
PREFETCHED = (
    "lorabench.screens.train",
    "lorabench.training.config.run_config",
    "rich.markdown",
)


def prefetch() -> None:
    """Import what the first `3`, `t` and `?` want."""
    for name in PREFETCHED:
        import_module(name)


def _config() -> Screen[None]:
    from lorabench.screens.config import ConfigScreen

    return ConfigScreen()


def _train() -> Screen[None]:
    from lorabench.screens.train import TrainScreen

    return TrainScreen()


def _layers() -> Screen[None]:
    from lorabench.screens.layers import LayersScreen

    return LayersScreen()


def _spectra() -> Screen[None]:
    from lorabench.screens.spectra import SpectraScreen

    return SpectraScreen()


def _base() -> Screen[None]:
    from lorabench.screens.base import BaseScreen

    return BaseScreen()


# Numpy and plotext wait until their screens are wanted, the bench until the first frame is painted.
MODES: dict[str, str | Callable[[], Screen[None]]] = {
    "bench": BenchScreen,
    "config": _config,
    "train": _train,
    "layers": _layers,
    "spectra": _spectra,
    "base": _base,
}
