"""The 90 % confidence interval of alpha, exact for the whole fit, the choice of x_min included.

For N points of a power law, ln(λ/λ_min) are N exponential variables of rate alpha − 1. Which tail the fit
chooses, and T = (alpha − 1)·S with S = Σ ln(λ/x_min) over it, depend on neither alpha nor the scale: T is
pivotal. For a tail of n points fixed beforehand T is Gamma(n − 1); choosing the tail by the data spreads and
skews it. So T is taken to z by Wilson & Hilferty's cube root (1931), which is standard normal for a fixed
tail, and the 5 % and 95 % quantiles of z under the choice are tabulated by simulation.
"""

from __future__ import annotations

import numpy as np

from lorabench.spectra.model import Float64Array, PowerLaw
from lorabench.spectra.powerlaw import FEW, best_tails

LEVEL = 0.90

_TABLE = np.array(
    [
        (2, -1.552, 1.660),
        (3, -1.621, 1.650),
        (4, -1.634, 1.648),
        (5, -1.640, 1.647),
        (6, -1.642, 1.648),
        (7, -1.642, 1.647),
        (8, -1.643, 1.648),
        (9, -1.703, 1.655),
        (10, -1.749, 1.669),
        (11, -1.788, 1.682),
        (12, -1.820, 1.693),
        (14, -1.865, 1.711),
        (16, -1.898, 1.727),
        (19, -1.926, 1.748),
        (20, -2.025, 1.666),
        (24, -2.025, 1.683),
        (32, -2.019, 1.707),
        (48, -1.999, 1.738),
        (64, -1.987, 1.757),
        (96, -1.971, 1.773),
        (128, -1.957, 1.784),
        (192, -1.952, 1.818),
        (256, -1.952, 1.830),
        (384, -1.942, 1.824),
        (512, -1.912, 1.840),
    ]
)
"""(N, 5 % and 95 % quantile of z), from `simulate_quantiles(N, 2e8 // N**1.5 draws, at most 4e6)`."""


def interval(fit: PowerLaw) -> tuple[float, float]:
    """Return the 90 % confidence interval of alpha for a fit by `powerlaw.fit`.

    Exact where the spectrum is a power law of `fit.points` eigenvalues (to the table's error, at most 0.3 %
    of coverage); beyond the table's 512 points its last row is used, from which z no longer moves visibly.
    """
    free = fit.tail - 1
    log_sum = (fit.tail - (fit.points < FEW)) / (fit.alpha - 1)
    z = np.array([np.interp(np.log(fit.points), np.log(_TABLE[:, 0]), column) for column in _TABLE[:, 1:].T])
    low, high = free * np.maximum(1 - 1 / (9 * free) + z / (3 * np.sqrt(free)), 0) ** 3 / log_sum
    return float(1 + low), float(1 + high)


def simulate_quantiles(points: int, draws: int, seed: int = 0) -> tuple[float, float]:
    """Return the 5 % and 95 % quantiles of z for power laws of `points` eigenvalues: a row of the table."""
    rng = np.random.default_rng(seed)
    batch = max(1, min(draws, (1 << 21) // points**2))
    z = np.concatenate([_simulate(points, batch, rng) for _ in range(-(-draws // batch))])
    low, high = np.quantile(z, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _simulate(points: int, draws: int, rng: np.random.Generator) -> Float64Array:
    tails = best_tails(np.sort(rng.exponential(size=(draws, points)), axis=1))
    free = points - tails.start - 1
    z: Float64Array = (np.cbrt(tails.log_sum / free) - 1 + 1 / (9 * free)) * 3 * np.sqrt(free)
    return z
