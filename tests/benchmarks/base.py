"""Base weights: their spectra beside WeightWatcher's, and how fast a second adapter of a base is answered."""

from __future__ import annotations

import importlib.util
import json
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.random import default_rng

from lorabench.adapters.base_model import open_base
from lorabench.adapters.open import open_adapter
from lorabench.spectra.against_base import BaseFacts
from lorabench.spectra.base_analysis import BaseAnalysis
from lorabench.spectra.base_cache import BaseCache
from lorabench.spectra.weight import fit_weight
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
_IMPORTS = """
from lorabench.adapters.base_model import open_base
from lorabench.adapters.open import open_adapter
from lorabench.spectra.base_analysis import BaseAnalysis
from lorabench.spectra.base_cache import BaseCache
from lorabench.spectra.correlation import correlate
"""
_OURS = _MEASURE.format(
    prepare=_IMPORTS,
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

_SECOND = _MEASURE.format(
    prepare=_IMPORTS,
    work="""
adapter = open_adapter(folder / "adapter")
analysis = BaseAnalysis(adapter, open_base(adapter), BaseCache(folder / "cache"))
analysis.look_up()
correlate(analysis.comparisons)
alpha = sum(comparison.base is not None for comparison in analysis.comparisons)
""",
)
_LLAMA_7B = {
    **{f"self_attn.{name}_proj": (4096, 4096) for name in "qkvo"},
    **{f"mlp.{name}_proj": (11008, 4096) for name in ("gate", "up")},
    "mlp.down_proj": (4096, 11008),
}


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
        yield Line(f"base {name}: full spectrum", seconds(ours), goal="3 ×, not measured")
        yield Line("  peak memory of the process", f"{peak:.0f} MB")
        return
    their_alpha, theirs, their_peak = _run(_THEIRS, place)
    yield Line(f"base {name}: full spectrum", seconds(ours), seconds(theirs), f"{theirs / ours:.1f} ×", "3 ×")
    ratio = f"{peak / their_peak:.2f}"
    yield Line("  peak memory of the process", f"{peak:.0f} MB", f"{their_peak:.0f} MB", ratio, "0.5")
    yield Line("  difference of alpha", f"{abs(alpha / their_alpha - 1):.1e}", goal="1e-6")


def second_adapter(folder: Path) -> Iterator[Line]:
    """All linear layers of a 7B model whose spectra are in the cache: from the files to the table's numbers.

    The base is a file without content: of a cached layer nothing but the header is read.
    """
    shapes = {f"model.layers.{at}.{name}": shape for at in range(32) for name, shape in _LLAMA_7B.items()}
    (base := folder / "base").mkdir()
    (base / "config.json").write_text("{}")
    _hollow(base / "model.safetensors", {f"{name}.weight": shape for name, shape in shapes.items()})
    adapter = open_adapter(write_adapter(folder / "adapter", shapes, base, rank=16))
    analysis, rng = BaseAnalysis(adapter, open_base(adapter), BaseCache(folder / "cache")), default_rng(0)
    for comparison in analysis.comparisons:
        assert comparison.weight is not None
        values = np.sort(rng.pareto(3, 4096) + 1)[::-1]
        left, right = (np.linalg.qr(rng.standard_normal((n, 10)))[0] for n in comparison.layer.shape)
        facts = BaseFacts(
            comparison.layer.shape, values, fit_weight(values), left.astype("f4"), right.astype("f4")
        )
        analysis.cache.keep_facts(analysis.key(comparison.weight), facts)
    told, duration, peak = _run(_SECOND, folder)
    assert told == len(shapes)
    yield Line(f"base: a second adapter, {len(shapes)} layers of 7B", seconds(duration), goal="1 s")
    yield Line("  peak memory of the process", f"{peak:.0f} MB")


def _hollow(path: Path, shapes: Mapping[str, tuple[int, int]]) -> None:
    """Write a safetensors file of 16-bit zeros that takes no room on the disk."""
    header, end = {}, 0
    for name, (out, inner) in shapes.items():
        header[name] = {"dtype": "F16", "shape": [out, inner], "data_offsets": [end, end + 2 * out * inner]}
        end += 2 * out * inner
    written = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(written)) + written)
        file.truncate(8 + len(written) + end)


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
