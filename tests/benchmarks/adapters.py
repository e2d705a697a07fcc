"""Whole adapters, generated: the time from file to report, and the memory that it takes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lorabench.adapters.open import open_adapter
from lorabench.spectra import null
from lorabench.spectra.analysis import spectra_of
from lorabench.spectra.report import Report
from tests.benchmarks.layers import best_of, reference
from tests.benchmarks.table import Line, seconds
from tests.spectra.made import PREFIX, write_config

RANK = 64
_FLOAT32 = 4

_REPORT_MEMORY = """
import json, pathlib, re, sys, time
import numpy
def peak():  # VmHWM and not ru_maxrss, which a process inherits from the one that starts it
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search("VmHWM:\\s+([0-9]+)", status)[1]) * 1024 / 1e6
numpy.linalg.svd(numpy.eye(2))
before = peak()
start = time.perf_counter()
from lorabench.adapters.open import open_adapter
from lorabench.spectra.analysis import spectra_of
layers = sum(1 for _ in spectra_of(open_adapter(sys.argv[1])))
print(json.dumps([layers, peak() - before, time.perf_counter() - start]))
"""


def generate(folder: Path, modules: dict[str, tuple[int, int]]) -> Path:
    """Write an adapter of rank 64 in float32: module under `PREFIX` → (out, in).

    The values are slices of one random block, from another place for each tensor; B's columns decay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shapes = {}
    for module, (out_features, in_features) in modules.items():
        shapes[f"{PREFIX}{module}.lora_A.weight"] = (RANK, in_features)
        shapes[f"{PREFIX}{module}.lora_B.weight"] = (out_features, RANK)
    header, offset = {}, 0
    for name, (rows, columns) in shapes.items():
        end = offset + rows * columns * _FLOAT32
        header[name] = {"dtype": "F32", "shape": [rows, columns], "data_offsets": [offset, end]}
        offset = end
    rng = np.random.default_rng(0)
    block = rng.standard_normal(1 << 22, dtype=np.float32)
    decay = np.geomspace(1, 0.03, RANK, dtype=np.float32)
    with (folder / "adapter_model.safetensors").open("wb") as file:
        written = json.dumps(header).encode()
        file.write(len(written).to_bytes(8, "little") + written)
        for rows, columns in shapes.values():
            start = int(rng.integers(len(block) - rows * columns))
            values = block[start : start + rows * columns].reshape(rows, columns)
            file.write((values * decay if columns == RANK else values).tobytes())
    write_config(folder, r=RANK, lora_alpha=16)
    return folder


def llama_7b(folder: Path) -> Iterator[Line]:
    """q_proj and v_proj of the 32 layers of Llama-7B, and the same as a process."""
    modules = {f"{i}.self_attn.{name}": (4096, 4096) for i in range(32) for name in ("q_proj", "v_proj")}
    path = generate(folder, modules)
    ours = best_of(5, lambda: _from_file_to_report(path, 64))
    yield Line("Llama-7B q, v, r = 64: file to report, 64 layers", seconds(ours), goal="< 1 s")
    whole = best_of(3, lambda: _run("-m", "lorabench", "analyze", str(path)))
    numpy = best_of(3, lambda: _run("-c", "import numpy"))
    ratio = f"{whole / numpy:.1f} ×"
    yield Line("  lorabench analyze, beside python and numpy", seconds(whole), seconds(numpy), ratio, "< 1 s")


def report_560(folder: Path) -> Iterator[Line]:
    """The report of 560 layers of 512 × 512, r = 64; the reference's time is that of 8 of them, times 70."""
    sides = dict.fromkeys((f"{i}.self_attn.q_proj" for i in range(560)), (512, 512))
    path = generate(folder / "all", sides)
    eight = generate(folder / "eight", dict(list(sides.items())[:8]))
    ours = best_of(3, lambda: _from_file_to_report(path, 560))
    theirs = 70 * best_of(2, lambda: reference(eight))
    yield Line(
        "560 layers of 512 × 512: file to report",
        seconds(ours),
        seconds(theirs),
        f"{theirs / ours:.0f} ×",
        "10 ×",
    )


def _from_file_to_report(path: Path, layers: int) -> None:
    null._simulated_band.cache_clear()
    adapter = open_adapter(path)
    report = Report(adapter, tuple(spectra_of(adapter)))
    assert report.to_json().count('"verdict"') >= layers


def _run(*words: str) -> None:
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)


def memory_70b(folder: Path) -> Iterator[Line]:
    """All seven modules of the 80 layers of a 70B Llama."""
    sides = {
        "self_attn.q_proj": (8192, 8192),
        "self_attn.k_proj": (1024, 8192),
        "self_attn.v_proj": (1024, 8192),
        "self_attn.o_proj": (8192, 8192),
        "mlp.gate_proj": (28672, 8192),
        "mlp.up_proj": (28672, 8192),
        "mlp.down_proj": (8192, 28672),
    }
    path = generate(folder, {f"{i}.{name}": shape for i in range(80) for name, shape in sides.items()})
    size = (path / "adapter_model.safetensors").stat().st_size
    run = subprocess.run([sys.executable, "-c", _REPORT_MEMORY, str(path)], check=True, capture_output=True)
    layers, megabytes, duration = json.loads(run.stdout)
    name = f"{layers} layers of a 70B model, {size / 1e9:.1f} GB"
    yield Line(f"{name}: memory over numpy's", f"{megabytes:.0f} MB", goal="< 150 MB")
    yield Line(f"{name}: time", seconds(duration))
