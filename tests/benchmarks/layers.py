"""One layer: ours beside WeightWatcher, or beside a dense SVD where WeightWatcher is not installed."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lorabench.adapters.open import open_adapter
from lorabench.spectra.analysis import spectra_of
from lorabench.spectra.weightwatcher import analyze_rows
from tests.benchmarks.table import Line, seconds
from tests.spectra.made import random_pair, write_adapter

HAS_WEIGHTWATCHER = importlib.util.find_spec("weightwatcher") is not None
REFERENCE = "WeightWatcher" if HAS_WEIGHTWATCHER else "B·A formed, then numpy's SVD (no WeightWatcher here)"


def best_of(runs: int, call: Callable[[], object]) -> float:
    """Return the shortest of several runs, in seconds: the one that others disturbed least."""
    durations = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        durations.append(time.perf_counter() - start)
    return min(durations)


def weightwatcher_table(folder: Path) -> Any:
    """Return what WeightWatcher's analyze gives for an adapter folder, without its messages."""
    logging.disable(logging.CRITICAL)
    with contextlib.redirect_stdout(io.StringIO()):
        import weightwatcher

        return weightwatcher.WeightWatcher().analyze(model=str(folder), peft=True)


def reference(folder: Path) -> None:
    """Analyse all layers of an adapter of plain matrices as the reference does."""
    if HAS_WEIGHTWATCHER:
        weightwatcher_table(folder)
    else:
        for layer in open_adapter(folder).layers:
            np.linalg.svd(layer.delta_weight(), compute_uv=False)


def square(folder: Path) -> Iterator[Line]:
    """A 4096 × 4096 layer of rank 64."""
    return _layer(folder, 4096, 4096, "300 ×")


def wide(folder: Path) -> Iterator[Line]:
    """A 28672 × 8192 layer of rank 64."""
    return _layer(folder, 28672, 8192, "1000 ×")


def _layer(folder: Path, out_features: int, in_features: int, goal: str) -> Iterator[Line]:
    a, b = random_pair(out_features, in_features, 64, decay=0.03)
    write_adapter(folder, {"0.self_attn.q_proj": (a, b)})
    name = f"{out_features} × {in_features}, r = 64, file to verdict"
    first = best_of(1, lambda: _analyze(folder))
    ours = best_of(20, lambda: _analyze(folder))
    if HAS_WEIGHTWATCHER:
        weightwatcher_table(write_adapter(folder / "small", {"0.q": random_pair(64, 64, 8)}))
        theirs = best_of(1, lambda: weightwatcher_table(folder))
    elif out_features <= 4096:
        theirs = best_of(1, lambda: np.linalg.svd(b @ a, compute_uv=False))
    else:
        # A dense SVD takes many minutes here.
        yield Line(name, seconds(ours), "—", goal=f"{goal}, not measured")
        return
    yield Line(name, seconds(ours), seconds(theirs), f"{theirs / ours:.0f} ×", goal)
    yield Line("  the first of its shape: with its null band", seconds(first), "", f"{theirs / first:.0f} ×")


def _analyze(folder: Path) -> None:
    list(spectra_of(open_adapter(folder)))


def agreement(folder: Path) -> Iterator[Line]:
    """The largest relative difference from WeightWatcher's alpha, over untrained and decaying spectra."""
    if not HAS_WEIGHTWATCHER:
        yield Line("alpha of 3 layers: difference", "—", goal="not measured")
        return
    for rank in (8, 16, 64, 128):
        pairs = {
            f"{depth}.self_attn.q_proj": random_pair(512, 384, rank, seed=depth, decay=10.0**-depth)
            for depth in range(3)
        }
        path = write_adapter(folder / str(rank), pairs)
        theirs = weightwatcher_table(path)["alpha"].to_numpy()
        ours = np.array([row["alpha"] for row in analyze_rows(open_adapter(path))])
        difference = np.abs(ours / theirs - 1).max()
        yield Line(f"alpha of 3 layers, r = {rank}: difference", f"{difference:.1e}", goal="1e-6")
