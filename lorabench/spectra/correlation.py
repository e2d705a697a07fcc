"""Does the base's alpha go with the update's? Pearson and Spearman with intervals, over all and by type."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lorabench.spectra.base_analysis import Comparison
from lorabench.spectra.model import Float64Array, VerdictWord
from lorabench.spectra.verdict import written_interval
from lorabench.text import visible

FEWEST = 4
"""Fisher's interval has a width of 1/√(n − 3)."""
_Z = 1.6448536269514722
"""95 % quantile of the normal distribution: the interval is of 90 %, as everywhere."""
_ROUNDING = 1e-12
"""What differs by less, relatively, is the same number computed twice."""
DECIDED: frozenset[VerdictWord] = frozenset({"well-formed", "heavy-tailed", "random-like"})


@dataclass(frozen=True, slots=True)
class Coefficient:
    """A correlation coefficient and its 90 % interval, which ±1 has none of: Fisher's would be a point."""

    value: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:+.2f}"
        return f"{self.value:+.2f} {written_interval(self.low, self.high)}"


@dataclass(frozen=True, slots=True)
class Correlation:
    """How base and LoRA alpha of some layers go together; the coefficients are None for fewer than four."""

    of: str
    layers: int
    pearson: Coefficient | None
    spearman: Coefficient | None

    @property
    def fact(self) -> tuple[str, str]:
        """Over which and how many layers it is, and the coefficients in words."""
        of = f"{self.of}, {self.layers}"
        if self.pearson is None or self.spearman is None:
            return of, "too few, or all equal"
        return of, f"Pearson {self.pearson}  Spearman {self.spearman}"


@dataclass(frozen=True, slots=True)
class Correlations:
    """The correlations over layers whose alphas are both decided, over all, and by module type.

    `undecided` of the `layers` with both alphas have a LoRA alpha without a class. Where they are most,
    `sentence` says so, and no correlation should be read from the others.
    """

    layers: int
    undecided: int
    decided: Correlation
    over_all: Correlation
    by_type: tuple[Correlation, ...]

    @property
    def sentence(self) -> str:
        """What to say in place of a correlation; empty where there is one."""
        if not self.layers:
            return "No layer has both a base alpha and a LoRA alpha."
        if 2 * self.undecided > self.layers:
            return (
                f"{self.undecided} of {self.layers} LoRA alphas are undecided: "
                "whether they go with the base's cannot be told."
            )
        if self.over_all.pearson is None:
            return f"{self.layers} layers are too few for a correlation, or their alphas are equal."
        return ""

    def facts(self) -> list[tuple[str, str]]:
        """Return the correlations as pairs of what they are over and a text; one sentence in their place."""
        if self.sentence:
            return [("", self.sentence)]
        return [each.fact for each in (self.decided, self.over_all, *self.by_type)]


def correlate(comparisons: Sequence[Comparison]) -> Correlations:
    """Correlate the alphas of W and of ΔW over the layers that have both."""
    both = [c for c in comparisons if c.base is not None and c.base.alpha and c.lora.alpha]
    undecided = sum(c.lora.verdict.word not in DECIDED for c in both)
    types = list(dict.fromkeys(c.layer.module_type for c in both))
    return Correlations(
        layers=len(both),
        undecided=undecided,
        decided=_correlation("both decided", [c for c in both if is_decided(c)]),
        over_all=_correlation("all layers", both),
        by_type=tuple(
            _correlation(visible(kind), [c for c in both if c.layer.module_type == kind]) for kind in types
        ),
    )


def is_decided(comparison: Comparison) -> bool:
    """Whether the alphas of W and of ΔW both have a class."""
    base = comparison.base
    return base is not None and base.verdict in DECIDED and comparison.lora.verdict.word in DECIDED


def _correlation(of: str, comparisons: Sequence[Comparison]) -> Correlation:
    pairs = [
        (c.base.alpha.fit.alpha, c.lora.alpha.fit.alpha)
        for c in comparisons
        if c.base is not None and c.base.alpha is not None and c.lora.alpha is not None
    ]
    x, y = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return Correlation(of, len(pairs), pearson(x, y), spearman(x, y))


def pearson(x: Float64Array, y: Float64Array) -> Coefficient | None:
    """Return Pearson's r with Fisher's (1915) interval; None for fewer than four pairs or equal values."""
    return _coefficient(x, y, 1.0)


def spearman(x: Float64Array, y: Float64Array) -> Coefficient | None:
    """Return Spearman's ρ with the interval of Bonett & Wright (2000); None as for `pearson`."""
    return _coefficient(_ranks(x), _ranks(y), None)


def _coefficient(x: Float64Array, y: Float64Array, factor: float | None) -> Coefficient | None:
    if len(x) < FEWEST or _are_equal(x) or _are_equal(y):
        return None
    value = float(np.clip(np.corrcoef(x, y)[0, 1], -1, 1))
    if abs(value) > 1 - _ROUNDING:
        return Coefficient(math.copysign(1, value), None, None)
    spread = 1 + value**2 / 2 if factor is None else factor
    half = _Z * math.sqrt(spread / (len(x) - 3))
    return Coefficient(value, math.tanh(math.atanh(value) - half), math.tanh(math.atanh(value) + half))


def _are_equal(values: Float64Array) -> bool:
    return bool(np.ptp(values) <= _ROUNDING * np.abs(values).max())


def _ranks(values: Float64Array) -> Float64Array:
    """Return the ranks of values; equal ones share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[place])
