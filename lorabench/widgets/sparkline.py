"""A line of values as one row of bars."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int) -> str:
    """Return `values` as at most `width` bars from their least to their greatest, later ones to the right.

    Where there are more values than bars each bar is the mean of its share.
    """
    if not values or width < 1:
        return ""
    bars = min(width, len(values))
    edges = [round(i * len(values) / bars) for i in range(bars + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, span = min(means), max(means) - min(means)
    if span == 0:
        return BARS[0] * bars
    return "".join(BARS[min(7, int(8 * (mean - low) / span))] for mean in means)
