"""What ΔW became: plain data, computed once per layer."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import Literal

import numpy as np
import numpy.typing as npt

from lorabench.adapters.model import Finding, LoraLayer

Float64Array = npt.NDArray[np.float64]

VerdictWord = Literal["dead", "undecided", "heavy-tailed", "well-formed", "random-like", "unreadable"]
Part = Literal["ΔW", "A", "B"]
VERDICTS: tuple[VerdictWord, ...] = (
    "well-formed",
    "heavy-tailed",
    "random-like",
    "undecided",
    "dead",
    "unreadable",
)


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """A power law p(λ) ∝ λ^-alpha fitted to the tail λ ≥ xmin of a spectrum (λ = σ²).

    `points` eigenvalues survived the cut, `tail` of them are ≥ xmin; `ks` is the Kolmogorov-Smirnov
    distance (weightwatcher's D). `sigma` = (alpha − 1)/√tail.
    """

    alpha: float
    xmin: float
    xmax: float
    ks: float
    tail: int
    points: int
    sigma: float


@dataclass(frozen=True, slots=True)
class Alpha:
    """Our alpha of a layer: the fit, how well it is known, and what noise alone would give.

    `low`, `high` is the 90 % confidence interval, exact for a power law of `fit.points` eigenvalues
    with x_min chosen by this same fit. `null_low`, `null_high` is the 5–95 % range of alpha of an
    untrained B·A of the same shape and rank.
    """

    fit: PowerLaw
    low: float
    high: float
    null_low: float
    null_high: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """One word for a layer, and the reason in a sentence."""

    word: VerdictWord
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class LayerSpectrum:
    """The spectrum of ΔW = s·B·A of one layer, or of one of its factors alone (`part`).

    `singular_values` are those of the scaled ΔW, descending, shape (min(r, out, in),), float64, all
    zero where A or B is zero and empty for an unreadable layer. Where the scaling is unknown (`layer.scaling`
    is None) it counts as 1 and a finding says so.
    """

    layer: LoraLayer
    part: Part
    singular_values: Float64Array
    norm_a: float
    norm_b: float
    frobenius_norm: float
    spectral_norm: float
    stable_rank: float
    effective_rank: float
    rank90: int
    rank95: int
    rank99: int
    alpha: Alpha | None
    verdict: Verdict
    findings: tuple[Finding, ...] = ()

    @classmethod
    def without_numbers(
        cls, layer: LoraLayer, part: Part, verdict: Verdict, findings: tuple[Finding, ...] = ()
    ) -> LayerSpectrum:
        """Return the spectrum of a layer that cannot be read, or is still to come: NaN and 0 throughout."""
        return cls(
            layer=layer,
            part=part,
            singular_values=np.empty(0),
            norm_a=nan,
            norm_b=nan,
            frobenius_norm=nan,
            spectral_norm=nan,
            stable_rank=nan,
            effective_rank=nan,
            rank90=0,
            rank95=0,
            rank99=0,
            alpha=None,
            verdict=verdict,
            findings=findings,
        )
