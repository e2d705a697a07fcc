"""ΔW alive: the spectra of the adapter that is being trained, read from the model between two steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from math import nan
from typing import Any

import numpy as np
import torch
from torch.distributed.tensor import DTensor

from lorabench.adapters.model import LoraLayer
from lorabench.adapters.open import open_adapter
from lorabench.errors import LorabenchError
from lorabench.spectra.analysis import analyze_layer
from lorabench.spectra.core import Factors, read_factors, triangle_of_gram
from lorabench.spectra.model import Float64Array, LayerSpectrum, Part
from lorabench.spectra.moment import Event, spectra_event

SHARE = 0.02
"""The most of the wall time that the spectra may take."""

SPACING = 0.005
"""The least time between two measurements, as a part of all time so far.

An event of a 7B model has 50 kB: so a day's run has some 2,000 of them, and not 10,000.
"""

Fetch = Callable[[Sequence[torch.Tensor]], list[Float64Array]]


class LiveSpectra:
    """The spectra of a model's active adapter, at those logging intervals where the time allows it.

    `layers` hold the model's own parameters, so each measurement sees the values of its moment. Names,
    scaling (rsLoRA, rank_pattern, alpha_pattern) and numbers are those that `analyze` gives of the adapter
    saved at this step. With DoRA ΔW is the direction part s·B·A, before the magnitude vector.
    """

    def __init__(
        self, model: Any, *, clock: Callable[[], float] = time.perf_counter, fetch: Fetch | None = None
    ) -> None:
        """Find the layers, and time one measurement: of A alone, for B is zero before the first step.

        `fetch` brings what was computed on a GPU from there; a given one is used for every device.

        Raises:
            LorabenchError: the model has no LoRA layers, or this process holds a share of them only.
        """
        self._clock = clock
        self._fetch = fetch
        self._begin = clock()
        self.layers = _layers(model)
        self.spectra("A")
        self.cost = self.spent = clock() - self._begin
        self.skipped = 0
        self._last: float | None = None

    def measure(self, step: int) -> Event | None:
        """Return the `spectra` event of now; None where it would take too much time, or comes too soon.

        Beside the fields of `spectra_event` it has `skipped`: how many calls before it were passed over.
        """
        begin = self._clock()
        elapsed = begin - self._begin
        too_soon = self._last is not None and begin - self._last < SPACING * elapsed
        if too_soon or self.spent + self.cost > SHARE * (elapsed + self.cost):
            self.skipped += 1
            return None
        self._last = begin
        spectra = self.spectra()
        seconds = self._clock() - begin
        self.spent += seconds
        self.cost = max(self.cost, seconds)
        event = spectra_event(step, seconds, spectra) | {"skipped": self.skipped}
        self.skipped = 0
        return event

    def spectra(self, part: Part = "ΔW") -> list[LayerSpectrum]:
        """Return the spectrum of each layer as it is now; the null band, which takes long, is not told."""
        on_device = [layer for layer in self.layers if _has_matrices(layer) and self._is_far(layer)]
        grams = _grams(on_device, self._fetch or _through_pinned_memory)

        def read(layer: LoraLayer) -> Factors:
            a, b = (triangle_of_gram(gram) for gram in grams.get(layer.name, (_UNKNOWN, _UNKNOWN)))
            return read_factors(layer) if a is None or b is None else Factors(a, b)

        return [analyze_layer(layer, part, read=read, band=_no_band) for layer in self.layers]

    def _is_far(self, layer: LoraLayer) -> bool:
        return self._fetch is not None or _value(layer.source_a).is_cuda


_UNKNOWN = np.full((1, 1), nan)


def _no_band(shape: tuple[int, int], rank: int, part: Part) -> tuple[float, float]:
    return nan, nan


def _layers(model: Any) -> tuple[LoraLayer, ...]:
    adapter = getattr(model, "active_adapter", None)
    if adapter not in getattr(model, "peft_config", ()):
        raise LorabenchError("The model has no active adapter: there is no ΔW to look at.")
    parameters = {
        name: value for name, value in model.named_parameters(remove_duplicate=False) if "lora_" in name
    }
    if any(isinstance(value, DTensor) or hasattr(value, "ds_id") for value in parameters.values()):
        raise LorabenchError("The adapter is spread over several processes: ΔW is not looked at.")
    layers = open_adapter(parameters, config=model.peft_config[adapter]).layers
    return tuple(layer for layer in layers if layer.adapter == adapter)


def _has_matrices(layer: LoraLayer) -> bool:
    """Whether A and B are this layer's alone and whole: not shared by experts, no diagonal blocks."""
    if layer.expert is not None or any(finding.level == "error" for finding in layer.findings):
        return False
    return _value(layer.source_b).numel() == layer.shape[0] * layer.rank


def _value(source: Any) -> torch.Tensor:
    value: torch.Tensor = source.value
    return value.detach()


def _grams(layers: Sequence[LoraLayer], fetch: Fetch) -> dict[str, tuple[Float64Array, Float64Array]]:
    """Compute A·Aᵀ and Bᵀ·B, float64, where the factors are, and fetch them in one copy a device."""
    places: dict[torch.device, list[LoraLayer]] = {}
    for layer in layers:
        places.setdefault(_value(layer.source_a).device, []).append(layer)
    fetched = fetch([torch.cat([_both(layer) for layer in here]) for here in places.values()])
    grams = {}
    for here, numbers in zip(places.values(), fetched, strict=True):
        start = 0
        for layer in here:
            size = layer.rank**2
            a, b = numbers[start : start + 2 * size].reshape(2, layer.rank, layer.rank)
            grams[layer.name] = (a, b)
            start += 2 * size
    return grams


def _both(layer: LoraLayer) -> torch.Tensor:
    a = _value(layer.source_a).reshape(layer.rank, -1).double()
    b = _value(layer.source_b).reshape(-1, layer.rank).double().to(a.device)
    return torch.cat([(a @ a.T).flatten(), (b.T @ b).flatten()])


def _through_pinned_memory(tensors: Sequence[torch.Tensor]) -> list[Float64Array]:
    """Start all copies from the GPUs, then wait for them."""
    hosts = [torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True) for tensor in tensors]
    for host, tensor in zip(hosts, tensors, strict=True):
        host.copy_(tensor, non_blocking=True)
    for tensor in tensors:
        torch.cuda.current_stream(tensor.device).synchronize()
    return [host.numpy() for host in hosts]
