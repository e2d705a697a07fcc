"""Every layer of an adapter beside the base weight that it updates: from the files to numbers, in passes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from lorabench.adapters.base_match import BaseWeight, find_weight
from lorabench.adapters.base_model import BaseModel
from lorabench.adapters.model import Adapter, Finding, LoraLayer
from lorabench.errors import AdapterError
from lorabench.spectra.against_base import BaseFacts, Merged, Update, measure_base, measure_merged
from lorabench.spectra.analysis import default_workers, spectra_of
from lorabench.spectra.base_cache import BaseCache
from lorabench.spectra.gram import Eigenvalues, gram, on_cpu
from lorabench.spectra.model import LayerSpectrum
from lorabench.spectra.weight import WeightSpectrum
from lorabench.text import visible

_OF_ONE_LAYER = (AdapterError, OSError, ValueError, MemoryError)
"""What takes one layer away and no other; numpy's LinAlgError is a ValueError."""


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """A layer's update beside its base weight, as far as it is known.

    `base` is None until W's spectrum is there, and for good where `problem` says why. `share` is the part of
    ‖ΔW‖² inside W's leading directions. `merged` follows when W + ΔW has been looked at.
    """

    lora: LayerSpectrum
    weight: BaseWeight | None
    base: WeightSpectrum | None = None
    share: float = math.nan
    merged: Merged | None = None
    problem: str = ""

    @property
    def layer(self) -> LoraLayer:
        return self.lora.layer

    @property
    def cost(self) -> float:
        """How much work the layer is, in floating-point operations for its eigenvalues, about."""
        small, large = sorted(self.layer.shape)
        return float(small) ** 2 * (large + 1.4 * small)


class BaseAnalysis:
    """The comparison of an adapter with its base model; `comparisons` are in the order of the layers.

    Making one matches names and computes the spectra of the updates; the base weights are read by `run`.
    """

    def __init__(
        self,
        adapter: Adapter,
        base: BaseModel,
        cache: BaseCache | None = None,
        eigenvalues: Eigenvalues = on_cpu,
    ) -> None:
        self._eigenvalues = eigenvalues
        self.adapter = adapter
        self.base = base
        self.cache = cache or BaseCache()
        self.comparisons = [self._begin(spectrum) for spectrum in spectra_of(adapter)]

    @property
    def findings(self) -> list[tuple[str, Finding]]:
        """What should be known of the numbers: of the adapter (""), and of the layers by name."""
        of_layers = [(c.layer.name, f) for c in self.comparisons if not c.problem for f in c.lora.findings]
        return [("", finding) for finding in self.adapter.findings] + of_layers

    def look_up(self) -> None:
        """Take from the cache what it knows."""
        with ThreadPoolExecutor(default_workers(), thread_name_prefix="cache") as pool:
            self.comparisons[:] = pool.map(self._from_cache, self.comparisons)

    def compute(self, *, merged: bool = True) -> Iterator[int]:
        """Compute what the cache does not know, and yield the index of each comparison that is done.

        One layer after another, W read once for all that is asked of it. Closing the iterator stops between
        two layers; what is done is in the cache.
        """
        for index, comparison in enumerate(self.comparisons):
            if self._lacks(comparison, merged):
                self.comparisons[index] = self._measured(comparison, merged)
                yield index

    def left(self, *, merged: bool = True) -> float:
        """Return the work that is still to be done, in the unit of `Comparison.cost`."""
        return sum(
            ((c.base is None) + (merged and c.merged is None)) * c.cost
            for c in self.comparisons
            if self._lacks(c, merged)
        )

    def _lacks(self, comparison: Comparison, merged: bool) -> bool:
        unknown = comparison.base is None or (merged and comparison.merged is None)
        return unknown and comparison.weight is not None and not comparison.problem

    def _begin(self, lora: LayerSpectrum) -> Comparison:
        if not lora.singular_values.size:
            return Comparison(lora, None, problem=lora.verdict.reason)
        try:
            return Comparison(lora, find_weight(lora.layer, self.base))
        except AdapterError as error:
            return Comparison(lora, None, problem=str(error))

    def _from_cache(self, comparison: Comparison) -> Comparison:
        weight = comparison.weight
        if weight is None or comparison.merged is not None:
            return comparison
        try:
            facts = self.cache.facts(self.key(weight))
            if facts is None or facts.shape != comparison.layer.shape:
                return comparison
            update = Update(comparison.layer)
            merged = self.cache.merged(f"{self.key(weight)} {update.digest}")
            return replace(_with_base(comparison, facts, update), merged=merged)
        except _OF_ONE_LAYER as error:
            return replace(comparison, problem=_reason(error))

    def _measured(self, comparison: Comparison, merged: bool) -> Comparison:
        weight = comparison.weight
        assert weight is not None
        try:
            key = self.key(weight)
            values = weight.read()
            product = gram(values)
            facts = self.cache.facts(key)
            if facts is None:
                facts = measure_base(values, product, self._eigenvalues)
                self.cache.keep_facts(key, facts)
            update = Update(comparison.layer)
            found = _with_base(comparison, facts, update)
            if merged:
                whole = measure_merged(values, product, facts, update, self._eigenvalues)
                self.cache.keep_merged(f"{key} {update.digest}", whole)
                found = replace(found, merged=whole)
            return found
        except _OF_ONE_LAYER as error:
            return replace(comparison, problem=_reason(error))

    def key(self, weight: BaseWeight) -> str:
        """Return by what the cache knows a weight.

        Raises:
            NotFound: its file is not there.
        """
        turned = " transposed" if weight.layer.transposed else ""
        return f"{weight.identity} {weight.key} {weight.layer.shape}{turned}"


def problems(comparisons: Sequence[Comparison]) -> list[tuple[str, str]]:
    """Return what could not be compared, as pairs of a layer's name and the reason."""
    return [(visible(c.layer.name), c.problem) for c in comparisons if c.problem]


def _with_base(comparison: Comparison, facts: BaseFacts, update: Update) -> Comparison:
    norm = comparison.lora.frobenius_norm
    share = update.squared_norm_within(facts) / norm**2 if norm > 0 else math.nan
    return replace(comparison, base=facts.spectrum(), share=share)


def _reason(error: Exception) -> str:
    if isinstance(error, AdapterError):
        return str(error)
    if isinstance(error, OSError):
        return f"It cannot be read: {visible(error)}."
    return f"It cannot be computed: {visible(error) or type(error).__name__}."
