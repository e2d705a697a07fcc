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
    letters = module_letters(list(dict.fromkeys(c.layer.module_type for c, _, _ in points)))
    x_low, x_high = padded(min(float(x.min()), 2.0), max(float(x.max()), RANDOM))
    low, high = padded(min(float(y.min()), HEAVY), max(float(y.max()), HEAVY))
    at, labels = ticks(low, high)
    columns, rows = canvas(plt, max(map(len, labels)))
    shown = {kind: letter for kind, letter in letters.items() if _decided_of(points, kind)}
    entries = legend({**shown, "undecided": UNDECIDED} if shown else {"undecided": UNDECIDED}, columns, 2)
    high, legend_rows = headroom((low, high), rows, len(entries))
    plt.vline(RANDOM, colors.border)
    plt.hline(HEAVY, colors.border)
    undecided = [(b, a) for c, b, a in points if not is_decided(c)]
    if undecided:
        bases, loras = zip(*undecided, strict=True)
        plt.scatter(list(bases), list(loras), marker=UNDECIDED, color=colors.border)
    for number, (kind, letter) in enumerate(letters.items()):
        decided = _decided_of(points, kind)
        if not decided:
            continue
        plt.scatter(
            [base for base, _ in decided],
            [lora for _, lora in decided],
            marker=letter,
            color=colors.series[number % len(colors.series)],
        )
    for line, row in zip(entries, legend_rows, strict=True):
        plt.text(line, (x_low + x_high) / 2, row, color="default", alignment="center")
    plt.title(_title(comparisons))
    plt.xlim(x_low, x_high)
    plt.ylim(low, high)
    plt.xticks(*ticks(x_low, x_high))
    plt.yticks(at, labels)
    plt.xlabel("base α, line at 6        LoRA α, line at 2")
    return None


def ratio_by_depth(plt: Figure, comparisons: Comparisons, colors: Colors = PLAIN) -> None:
    """Draw ‖ΔW‖/‖W‖ against depth, a letter for each module type."""
    points = [(c.lora, ratio(c)) for c in comparisons if c.base is not None]
    by_depth(plt, points, "‖ΔW‖/‖W‖ by depth", "No base weight was read yet.", (0.0,), colors)


def intruders_by_depth(plt: Figure, comparisons: Comparisons, colors: Colors = PLAIN) -> None:
    """Draw how many of the ten leading directions of W + ΔW are intruders, against depth."""
    points = [(c.lora, float(c.merged.intruders)) for c in comparisons if c.merged is not None]
    by_depth(plt, points, "intruders of 10 by depth", "W + ΔW was not looked at yet.", (0.0,), colors)


def _decided_of(points: Sequence[tuple[Comparison, float, float]], kind: str) -> list[tuple[float, float]]:
    return [(base, lora) for c, base, lora in points if c.layer.module_type == kind and is_decided(c)]


def _title(comparisons: Comparisons) -> str:
    found = correlate(comparisons)
    if found.sentence:
        return f"α of base and LoRA: {found.undecided} of {found.layers} undecided"
    of, layers = (
        (found.decided, f"{found.decided.layers} decided")
        if found.decided.pearson
        else (found.over_all, f"{found.layers} layers")
    )
    return f"α of base and LoRA: r {of.pearson.value:+.2f}, {layers}" if of.pearson else ""
