"""What became of each layer of an adapter: from the factors in the file to a verdict."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from lorabench.adapters.model import Adapter, Finding, LoraLayer
from lorabench.errors import AdapterError
from lorabench.spectra import powerlaw
from lorabench.spectra.core import Factors, read_factors
from lorabench.spectra.interval import interval
from lorabench.spectra.model import Alpha, Float64Array, LayerSpectrum, Part, Verdict
from lorabench.spectra.null import null_band
from lorabench.spectra.ranks import effective_rank, energy_rank, stable_rank
from lorabench.spectra.verdict import judge
from lorabench.text import visible

_ROUNDOFF = {"F64": 2.0**-53, "F16": 2.0**-11, "BF16": 2.0**-9, "F8_E4M3": 2.0**-4, "F8_E5M2": 2.0**-3}
_FLOAT32_ROUNDOFF = 2.0**-24
_SMALLEST = float(np.finfo(np.float32).tiny)

_UNKNOWN_SCALING = Finding(
    "warning",
    "The scaling is not known, so it counts as 1: norms are those of B·A.",
    "Alpha and the ranks do not depend on it.",
)


Read = Callable[[LoraLayer], Factors]
Band = Callable[[tuple[int, int], int, Part], tuple[float, float]]


def analyze_layer(
    layer: LoraLayer, part: Part = "ΔW", *, read: Read = read_factors, band: Band = null_band
) -> LayerSpectrum:
    """Return the spectrum and verdict of ΔW = s·B·A, or of one factor, unscaled.

    A layer that cannot be read is `unreadable`. `read` reduces the factors to their triangles, `band` tells
    the null band of a shape and a rank.
    """
    try:
        return _spectrum(layer, read(layer), part, band)
    except (AdapterError, OSError) as error:
        return _unreadable(layer, part, error)


def analyze_factors(layer: LoraLayer) -> tuple[LayerSpectrum, LayerSpectrum]:
    """Return the spectra and verdicts of A alone and of B alone, both unscaled."""
    try:
        factors = read_factors(layer)
        return _spectrum(layer, factors, "A"), _spectrum(layer, factors, "B")
    except (AdapterError, OSError) as error:
        return _unreadable(layer, "A", error), _unreadable(layer, "B", error)


def spectra_of(adapter: Adapter, *, workers: int | None = None) -> Iterator[LayerSpectrum]:
    """Yield each layer's spectrum, in the order of the layers, as soon as it is there.

    `workers` threads (numpy frees the interpreter while it computes; by default one for each core, at most 4)
    work at most twice as many layers ahead, which bounds the memory. Closing the iterator drops what has not
    begun.
    """
    count = workers or default_workers()
    pool = ThreadPoolExecutor(count, thread_name_prefix="spectra")
    ahead: deque[Future[LayerSpectrum]] = deque()
    try:
        for layer in adapter.layers:
            ahead.append(pool.submit(analyze_layer, layer))
            if len(ahead) > 2 * count:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def default_workers() -> int:
    """Return how many threads read and compute layers at once where nobody says."""
    return min(4, os.cpu_count() or 1)


def _spectrum(layer: LoraLayer, factors: Factors, part: Part, band: Band = null_band) -> LayerSpectrum:
    scaling = 1.0 if layer.scaling is None or part != "ΔW" else layer.scaling
    values = factors.singular_values(part, scaling)
    roundoff = max(_roundoff(layer), len(values) * 2.0**-52)
    why_dead = _why_dead(factors, part, scaling, values, roundoff)
    alpha = None if why_dead else _alpha(layer, part, values, roundoff, band)
    above = int(np.count_nonzero(values > roundoff * values[0]))
    return LayerSpectrum(
        layer=layer,
        part=part,
        singular_values=values,
        norm_a=factors.norm_a,
        norm_b=factors.norm_b,
        frobenius_norm=float(np.linalg.norm(values)),
        spectral_norm=float(values[0]),
        stable_rank=stable_rank(values),
        effective_rank=effective_rank(values),
        rank90=energy_rank(values, 0.90),
        rank95=energy_rank(values, 0.95),
        rank99=energy_rank(values, 0.99),
        alpha=alpha,
        verdict=Verdict("dead", why_dead) if why_dead else judge(alpha, above, part),
        findings=_findings(layer),
    )


def _alpha(layer: LoraLayer, part: Part, values: Float64Array, roundoff: float, band: Band) -> Alpha | None:
    """Fit what stands above rounding, relative to the largest: so alpha does not depend on the scale."""
    top = values[0] ** 2
    relative = powerlaw.fit((values / values[0]) ** 2, roundoff**2)
    if relative is None:
        return None
    fit = replace(relative, xmin=relative.xmin * top, xmax=relative.xmax * top)
    return Alpha(fit, *interval(fit), *band(layer.shape, layer.rank, part))


def _roundoff(layer: LoraLayer) -> float:
    """Return the coarser unit round-off of the stored factors: what σ/σ₁ can be told from."""
    return max(_ROUNDOFF.get(source.dtype, _FLOAT32_ROUNDOFF) for source in (layer.source_a, layer.source_b))


def _why_dead(
    factors: Factors, part: Part, scaling: float, values: Float64Array, roundoff: float
) -> str | None:
    if part != "B" and factors.norm_a == 0:
        return "A is zero throughout."
    if part != "A" and factors.norm_b == 0:
        return "B is zero throughout: the layer has not been trained."
    if scaling == 0:
        return "the scaling is zero."
    if values[0] < _SMALLEST:
        return f"the spectral norm is {values[0]:.2g}, below the smallest float32."
    # The rounding of the factors alone moves σ by about round-off·‖A‖₂‖B‖₂, and ‖·‖_F ≤ √r·‖·‖₂.
    noise = roundoff * abs(scaling) * factors.norm_a * factors.norm_b / factors.triangle_a.shape[1]
    if part == "ΔW" and values[0] < noise:
        return f"B·A cancels: the spectral norm {values[0]:.2g} is below the factors' rounding, {noise:.2g}."
    return None


def _findings(layer: LoraLayer) -> tuple[Finding, ...]:
    unknown = (_UNKNOWN_SCALING,) if layer.scaling is None else ()
    return (*layer.findings, *unknown)


def _unreadable(layer: LoraLayer, part: Part, error: AdapterError | OSError) -> LayerSpectrum:
    if isinstance(error, AdapterError):
        finding = Finding("error", error.message, error.hint)
    else:
        finding = Finding("error", f"The factors cannot be read: {visible(error)}.")
    known = any(other.message == finding.message for other in layer.findings)
    findings = layer.findings if known else (*layer.findings, finding)
    return LayerSpectrum.without_numbers(layer, part, Verdict("unreadable", finding.message), findings)
