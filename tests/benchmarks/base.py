"""The full spectrum of base weights: time and memory beside WeightWatcher, each in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.base.made import weight, write_adapter, write_base
from tests.benchmarks.table import Line, seconds

SHAPES = ((4096, 4096), (4096, 11008))
_MEASURE = """
import json, pathlib, re, sys, time
def peak():  # VmHWM and not ru_maxrss, which a process inherits from the one that starts it
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search("VmHWM:\\\\s+([0-9]+)", status)[1]) * 1024 / 1e6
folder = pathlib.Path(sys.argv[1])
{prepare}
start = time.perf_counter()
{work}
print(json.dumps([alpha, time.perf_counter() - start, peak()]), file=sys.stderr)
"""
_OURS = _MEASURE.format(
    prepare="""
from lorabench.adapters.base_model import open_base
from lorabench.adapters.open import open_adapter
from lorabench.spectra.base_analysis import BaseAnalysis
from lorabench.spectra.base_cache import BaseCache
""",
    work="""
adapter = open_adapter(folder / "adapter")
analysis = BaseAnalysis(adapter, open_base(adapter), BaseCache(folder / "cache"))
list(analysis.compute(merged=False))
alpha = analysis.comparisons[0].base.alpha.fit.alpha
""",
)
_THEIRS = _MEASURE.format(
    prepare="""
import logging, torch, weightwatcher
from safetensors.torch import load_file
logging.disable(logging.CRITICAL)
""",
    work="""
stored = load_file(folder / "base" / "model.safetensors")["layers.0.q_proj.weight"]
layer = torch.nn.Linear(stored.shape[1], stored.shape[0], bias=False)
layer.weight = torch.nn.Parameter(stored)
table = weightwatcher.WeightWatcher(model=torch.nn.Sequential(layer)).analyze()
alpha = float(table["alpha"][0])
""",
)


def base_layers(folder: Path) -> Iterator[Line]:
    """A square and a wide weight of a 7B model, float32, from the file to alpha and ten directions."""
    for shape in SHAPES:
        place = folder / f"{shape[0]}x{shape[1]}"
        base = write_base(place / "base", {"layers.0.q_proj.weight": weight(*shape)})
        write_adapter(place / "adapter", {"layers.0.q_proj": shape}, base)
        yield from compared(place, f"{shape[0]} × {shape[1]}")


def compared(place: Path, name: str) -> Iterator[Line]:
    """Measure one layer by ours and by theirs."""
    alpha, ours, peak = _run(_OURS, place)
    if importlib.util.find_spec("weightwatcher") is None:
        yield Line(f"base {name}: full spectrum", seconds(ours), goal="3 × (no WeightWatcher here)")
        yield Line("  peak memory of the process", f"{peak:.0f} MB")
        return
    their_alpha, theirs, their_peak = _run(_THEIRS, place)
    yield Line(f"base {name}: full spectrum", seconds(ours), seconds(theirs), f"{theirs / ours:.1f} ×", "3 ×")
    ratio = f"{peak / their_peak:.2f}"
    yield Line("  peak memory of the process", f"{peak:.0f} MB", f"{their_peak:.0f} MB", ratio, "0.5")
    yield Line("  difference of alpha", f"{abs(alpha / their_alpha - 1):.1e}", goal="1e-6")


def _run(script: str, place: Path) -> tuple[float, float, float]:
    done = subprocess.run(
        [sys.executable, "-c", script, str(place)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    alpha, duration, peak = json.loads(done.stderr.strip().splitlines()[-1])
    return alpha, duration, peak
