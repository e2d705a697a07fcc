"""WeightWatcher's tables of a LoRA adapter, in its column names and order, to compare with its results.

These are *parity* numbers, of the unscaled B·A with an absolute cut, for the layers that WeightWatcher 0.7.7
itself would list: 2-D factors whose smaller side is at least 8 and whose larger is at most 50,000. Two things
differ on purpose: where fewer than 8 eigenvalues are left sigma is (alpha − 1)/√n, not −1/√n, and a failed
fit carries no warning. A layer that would end its run (B = 0, NaN) is a row with status `failed`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from lorabench.adapters.model import Adapter, LoraLayer, Tensor
from lorabench.errors import AdapterError
from lorabench.spectra import powerlaw
from lorabench.spectra.core import read_factors, triangle
from lorabench.spectra.model import Float64Array, LayerSpectrum, Part
from lorabench.spectra.verdict import HEAVY, RANDOM

Row = dict[str, str | int | float]

MIN_EVALS, MAX_EVALS = 8, 50_000
_CUT = 1e-5
_WEAK = 1e-6
_WEIGHT = ".weight"
_FAILED: Row = {"D": -1, "alpha": -1, "num_pl_spikes": -1, "sigma": -1, "xmax": math.nan, "xmin": -1}


class _Entry(NamedTuple):
    """A matrix that WeightWatcher lists: B·A, one factor, or a full matrix that the adapter saved."""

    name: str
    layer_id: int
    shape: tuple[int, int]
    layer: LoraLayer | None
    part: Part
    tensor: Tensor


def describe_rows(adapter: Adapter, *, peft: bool = True) -> list[Row]:
    """Return `watcher.describe(peft=…)`: one row for each B·A, with `peft=False` each matrix stored."""
    return [_described(entry, peft) for entry in _entries(adapter, peft)]


def analyze_rows(adapter: Adapter, *, peft: bool = True, every: bool = False) -> list[Row]:
    """Return `watcher.analyze(peft=…)`: the same rows, with the spectrum of each.

    `every` adds the layers that WeightWatcher leaves out for their size: r = 4 is common.
    """
    entries = _entries(adapter, peft, every)
    return [_analyzed(_described(entry, peft), _singular_values(entry)) for entry in entries]


def parity_row(spectrum: LayerSpectrum, layer_id: int) -> Row:
    """Return WeightWatcher's row for a spectrum that is already there, whatever its size.

    `layer_id` is WeightWatcher's number of the layer: lora_A's place among the sorted `….weight` tensors.
    """
    layer, part = spectrum.layer, spectrum.part
    entry = _entry(layer, part, layer_id)
    scaling = 1.0 if layer.scaling is None or part != "ΔW" else abs(layer.scaling)
    values = spectrum.singular_values / scaling if scaling else _singular_values(entry)
    return _analyzed(_described(entry, peft=part == "ΔW"), values)


def _entries(adapter: Adapter, peft: bool, every: bool = False) -> list[_Entry]:
    stored = {source.name for layer in adapter.layers for source in (layer.source_a, layer.source_b)}
    stored |= {other.tensor.name for other in adapter.others}
    ids = {name: index for index, name in enumerate(sorted(n for n in stored if n.endswith(_WEIGHT)))}
    entries = [entry for entry in _matrices(adapter, peft, ids) if every or _listed(entry)]
    return sorted(entries, key=lambda entry: entry.layer_id)


def _matrices(adapter: Adapter, peft: bool, ids: dict[str, int]) -> Iterator[_Entry]:
    parts: tuple[Part, ...] = ("ΔW",) if peft else ("A", "B")
    for layer in adapter.layers:
        if layer.kind == "linear" and (peft or layer.whole):
            for part in parts:
                yield _entry(layer, part, ids.get(_source(layer, part).name, len(ids)))
    for tensor in () if peft else _loose(adapter):
        if tensor.name in ids and len(tensor.shape) == 2:
            rows, columns = tensor.shape
            yield _Entry(
                tensor.name.removesuffix(_WEIGHT), ids[tensor.name], (rows, columns), None, "ΔW", tensor
            )


def _loose(adapter: Adapter) -> Iterator[Tensor]:
    """The tensors that are no factor of a whole layer."""
    for layer in adapter.layers:
        if not layer.whole:
            yield from (layer.source_a, layer.source_b)
    yield from (other.tensor for other in adapter.others)


def _entry(layer: LoraLayer, part: Part, layer_id: int) -> _Entry:
    source = _source(layer, part)
    out_features, in_features = layer.shape
    shape = {"ΔW": layer.shape, "A": (layer.rank, in_features), "B": (out_features, layer.rank)}[part]
    name = source.name.removesuffix(_WEIGHT)
    if part == "ΔW":
        before, found, after = name.rpartition("lora_A")
        name = f"{before}lora_BA{after}" if found else f"{layer.name}.lora_BA"
    return _Entry(name, layer_id, shape, layer, part, source)


def _source(layer: LoraLayer, part: Part) -> Tensor:
    return layer.source_b if part == "B" else layer.source_a


def _listed(entry: _Entry) -> bool:
    sides = list(entry.shape) if entry.layer is None else [*entry.layer.shape, entry.layer.rank]
    return min(sides) >= MIN_EVALS and max(sides) <= MAX_EVALS


def _described(entry: _Entry, peft: bool) -> Row:
    m, n = sorted(entry.shape)
    row: Row = {
        "layer_id": entry.layer_id,
        "name": entry.name,
        "M": m,
        "N": n,
        "Q": n / m if m else math.nan,
        "layer_type": "dense",
        "longname": entry.name,
        "num_evals": m,
        "peft": True,
        "rf": 1,
    }
    return row if peft else {column: value for column, value in row.items() if column != "peft"}


def _singular_values(entry: _Entry) -> Float64Array:
    """Return the unscaled singular values, none where they cannot be had."""
    try:
        if entry.layer is not None:
            return read_factors(entry.layer).singular_values(entry.part)
        matrix = entry.tensor.read()
        tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
        return np.asarray(np.linalg.svd(triangle(tall, entry.tensor), compute_uv=False), dtype=np.float64)
    except (AdapterError, OSError):
        return np.empty(0)


def _analyzed(described: Row, values: Float64Array) -> Row:
    columns = {**described, **_numbers(values, int(described["N"]))}
    first = ("layer_id", "name", "D", "M", "N", "Q")
    rest = sorted((column for column in columns if column not in first), key=str.lower)
    return {column: columns[column] for column in (*first, *rest)}


def _numbers(values: Float64Array, longer_side: int) -> Row:
    """Return the columns that depend on the singular values; NaN where there are none or all are zero."""
    eigenvalues = np.square(values)
    total = float(eigenvalues.sum()) if len(values) else math.nan
    top = float(values.max()) if len(values) else math.nan
    rank = int(np.count_nonzero(values > top * longer_side * np.finfo(float).eps))
    return {
        **_tail(eigenvalues),
        "entropy": _entropy(eigenvalues / total, rank) if total > 0 else math.nan,
        "has_esd": bool(len(values)),
        "lambda_max": top**2,
        "log_norm": _log10(total),
        "log_spectral_norm": _log10(top**2),
        "matrix_rank": rank,
        "norm": total,
        "num_evals": len(values),
        "rank_loss": len(values) - rank,
        "spectral_norm": top**2,
        "stable_rank": total / top**2 if total > 0 else math.nan,
        "sv_max": top,
        "sv_min": float(values.min(initial=top)),
        "weak_rank_loss": int(np.count_nonzero(eigenvalues < _WEAK)),
    }


def _tail(eigenvalues: Float64Array) -> Row:
    """Return the columns of the power-law fit, and those that are weighted with its alpha."""
    fit = powerlaw.fit(eigenvalues, _CUT)
    row = (
        _FAILED
        if fit is None
        else {
            "D": fit.ks,
            "alpha": fit.alpha,
            "num_pl_spikes": int(np.count_nonzero(eigenvalues >= fit.xmin)),
            "sigma": fit.sigma,
            "xmax": fit.xmax,
            "xmin": fit.xmin,
        }
    )
    alpha = float(row["alpha"])
    warning = (
        "" if fit is None else "over-trained" if alpha < HEAVY else "under-trained" if alpha > RANDOM else ""
    )
    top = float(eigenvalues.max(initial=0))
    weighted = alpha * _log10(top)
    powers = float(np.sum((eigenvalues[eigenvalues > 0] / top) ** alpha)) if top else math.nan
    return {
        **row,
        "alpha_weighted": weighted,
        "log_alpha_norm": weighted + _log10(powers),
        "status": "failed" if fit is None else "success",
        "warning": warning,
    }


def _entropy(shares: Float64Array, rank: int) -> float:
    p = shares + 1e-10
    return float(-np.sum(p * np.log(p)) / math.log(rank + 1e-10))


def _log10(value: float) -> float:
    return math.log10(value) if value > 0 else math.nan
