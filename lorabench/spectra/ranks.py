"""How many directions a spectrum has: three answers, softer and harder.

Each takes singular values, descending, and gives 0 where all of them are zero.
"""

from __future__ import annotations

import numpy as np

from lorabench.spectra.model import Float64Array


def stable_rank(singular_values: Float64Array) -> float:
    """Return Σσ²/σ₁²: how many directions carry the energy."""
    top = singular_values[0]
    return float(np.square(singular_values / top).sum()) if top > 0 else 0.0


def effective_rank(singular_values: Float64Array) -> float:
    """Return exp(−Σ p ln p) with p = σ/Σσ (Roy & Vetterli 2007)."""
    positive = singular_values[singular_values > 0]
    p = positive / positive.sum()
    return float(np.exp(-np.sum(p * np.log(p)))) if len(p) else 0.0


def energy_rank(singular_values: Float64Array, share: float) -> int:
    """Return the smallest k whose k largest σ² hold at least `share` (below 1) of Σσ²."""
    if not singular_values[0] > 0:
        return 0
    energy = np.cumsum(np.square(singular_values / singular_values[0]))
    return int(np.searchsorted(energy, share * energy[-1])) + 1
