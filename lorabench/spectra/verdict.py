"""One word for a layer, by rule, with the reason in a sentence."""

from __future__ import annotations

import math

from lorabench.spectra.model import Alpha, Part, Verdict

HEAVY, RANDOM = 2.0, 6.0
"""Class borders of alpha by Martin & Mahoney: very heavy-tailed below 2, random-like above 6."""

USUAL = 4.0
"""Their usual range for well-trained layers is from 2 to this."""

FEWEST = 10
"""With fewer points in the tail any steep spectrum, geometric or log-normal, passes for a power law."""


def written_interval(low: float, high: float) -> str:
    """Write two ends as every table and sentence does: `[1.20, 1.56]`, `∞` where there is no upper end."""
    return f"[{low:.2f}, {high:.2f}]" if math.isfinite(high) else f"[{low:.2f}, ∞]"


def judge(alpha: Alpha | None, points: int, part: Part = "ΔW") -> Verdict:
    """Return the verdict on a layer that is alive, of which `points` eigenvalues stand above rounding.

    An interval that spans a border, or a tail of fewer than `FEWEST` points, leaves the layer undecided; the
    border at 6 does not count where alpha lies in the null band: it is random-like on either side of it.
    """
    if alpha is None:
        few = "1 eigenvalue stands" if points == 1 else f"{points} equal eigenvalues stand"
        return Verdict("undecided", f"{few} above rounding: a power law needs two that differ.")
    value, tail = alpha.fit.alpha, alpha.fit.tail
    known = f"alpha {value:.2f}, 90 % interval {written_interval(alpha.low, alpha.high)},"
    as_noise = alpha.null_low <= value <= alpha.null_high
    borders = (HEAVY,) if as_noise else (HEAVY, RANDOM)
    spanned = " and ".join(f"{border:g}" for border in borders if alpha.low < border < alpha.high)
    if spanned:
        return Verdict(
            "undecided", f"{known} spans {spanned}: {tail} points in the tail are too few to tell."
        )
    if tail < FEWEST:
        return Verdict(
            "undecided", f"{known} rests on {tail} points: too few to tell a power law from any steep fall."
        )
    if as_noise:
        untrained = "B·A" if part == "ΔW" else part
        band = written_interval(alpha.null_low, alpha.null_high)
        return Verdict("random-like", f"{known} lies where 90 % of untrained {untrained} lie, {band}.")
    if value > RANDOM:
        return Verdict("random-like", f"{known} is above {RANDOM:g}: no heavier a tail than noise has.")
    if value < HEAVY:
        advice = "perhaps over-fitted or over-regularised; a smaller learning rate may help"
        return Verdict("heavy-tailed", f"{known} is below {HEAVY:g}: {advice}.")
    usual = f"{'in' if value <= USUAL else 'above'} the usual range of {HEAVY:g} to {USUAL:g}"
    return Verdict("well-formed", f"{known} is between {HEAVY:g} and {RANDOM:g}, {usual}.")
