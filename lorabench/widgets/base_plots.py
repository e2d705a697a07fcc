"""The pictures of an adapter against its base model, drawn with plotext."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lorabench.spectra.base_analysis import Comparison
from lorabench.spectra.base_columns import ratio
from lorabench.spectra.correlation import correlate, is_decided
from lorabench.spectra.verdict import HEAVY, RANDOM
from lorabench.widgets.axes import Figure, canvas, headroom, legend, module_letters, padded, ticks
from lorabench.widgets.plots import PLAIN, Colors, by_depth, say

UNDECIDED = "•"
Comparisons = Sequence[Comparison]


def alpha_scatter(plt: Figure, comparisons: Comparisons, colors: Colors = PLAIN) -> None:
    """Draw LoRA alpha over base alpha: a letter for each module type, a dot where one is undecided.

    Lines stand at base alpha 6 and at LoRA alpha 2, where the classes end. Title: the correlation.
    """
    points = [
        (c, c.base.alpha.fit.alpha, c.lora.alpha.fit.alpha)
        for c in comparisons
        if c.base is not None and c.base.alpha is not None and c.lora.alpha is not None
    ]
    if not points:
        return say(plt, "base α and LoRA α", "No layer has both alphas yet.")
    x, y = (np.array([point[axis] for point in points]) for axis in (1, 2))
    left, right = padded(min(float(x.min()), HEAVY), max(float(x.max()), RANDOM))
    low, high = padded(min(float(y.min()), HEAVY), max(float(y.max()), HEAVY))
    at, labels = ticks(low, high)
    columns, rows = canvas(plt, max(map(len, labels)))
    plt.vline(RANDOM, colors.border)
    plt.hline(HEAVY, colors.border)
    letters = _scatter(plt, points, colors)
    entries = legend(letters, columns, most=2)
    high, legend_rows = headroom((low, high), rows, len(entries))
    for line, row in zip(entries, legend_rows, strict=True):
        plt.text(line, (left + right) / 2, row, color="default", alignment="center")
    plt.title(_title(comparisons))
    plt.xlim(left, right)
    plt.ylim(low, high)
    plt.xticks(*ticks(left, right))
    plt.yticks(at, labels)
    plt.xlabel("→ base α, line at 6     ↑ LoRA α, line at 2")
    return None


def _scatter(
    plt: Figure, points: Sequence[tuple[Comparison, float, float]], colors: Colors
) -> dict[str, str]:
    """Draw the points, undecided ones first, and return what is drawn as which mark."""
    letters = module_letters(list(dict.fromkeys(c.layer.module_type for c, _, _ in points)))
    series: dict[str, list[tuple[float, float]]] = {"undecided": []}
    for comparison, base, lora in points:
        kind = comparison.layer.module_type if is_decided(comparison) else "undecided"
        series.setdefault(kind, []).append((base, lora))
    for kind, pairs in series.items():
        mark = letters.get(kind, UNDECIDED)
        at = list(letters).index(kind) if kind in letters else -1
        color = colors.border if at < 0 else colors.series[at % len(colors.series)]
        if pairs:
            bases, loras = zip(*pairs, strict=True)
            plt.scatter(list(bases), list(loras), marker=mark, color=color)
    marks = {**letters, "undecided": UNDECIDED}
    return {kind: mark for kind, mark in marks.items() if series.get(kind)}


def ratio_by_depth(plt: Figure, comparisons: Comparisons, colors: Colors = PLAIN) -> None:
    """Draw ‖ΔW‖/‖W‖ against depth, a letter for each module type."""
    points = [(c.lora, ratio(c)) for c in comparisons if c.base is not None]
    by_depth(plt, points, "‖ΔW‖/‖W‖ by depth", "No base weight was read yet.", (0.0,), colors)


def intruders_by_depth(plt: Figure, comparisons: Comparisons, colors: Colors = PLAIN) -> None:
    """Draw how many of the ten leading directions of W + ΔW are intruders, against depth."""
    points = [(c.lora, float(c.merged.intruders)) for c in comparisons if c.merged is not None]
    by_depth(plt, points, "intruders of 10 by depth", "W + ΔW was not looked at yet.", (0.0,), colors)


def _title(comparisons: Comparisons) -> str:
    found = correlate(comparisons)
    if found.sentence:
        return f"α of base and LoRA: {found.undecided} of {found.layers} undecided"
    if found.decided.pearson is not None:
        return f"α of base and LoRA: r {found.decided.pearson.value:+.2f}, {found.decided.layers} decided"
    over_all = found.over_all
    assert over_all.pearson is not None  # else there were a sentence
    return f"α of base and LoRA: r {over_all.pearson.value:+.2f}, {over_all.layers} layers"
