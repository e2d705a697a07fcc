"""Draw spectra with plotext, for the screens and for `--plot`.

Each function draws on a plotext figure (`plotext` itself, or `PlotextPlot.plt`) that was cleared before.
Titles carry the numbers and every mark has a word or a tick: nothing rests on colour alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from string import ascii_lowercase
from textwrap import wrap
from typing import Any

import numpy as np
import numpy.typing as npt

from lorabench.spectra.model import LayerSpectrum
from lorabench.text import visible

Figure = Any  # plotext carries no types
Color = str | int | tuple[int, int, int]
Spectra = Sequence[LayerSpectrum]
Numbers = npt.NDArray[Any]

# Finer markers than whole cells are rounded differently, and a line would miss the points that it joins.
LINE = "·"
BORDERS = (2.0, 4.0, 6.0)
MOST_POINTS = 600
LEGEND_WIDTH = 50
_BINS = 24


@dataclass(frozen=True, slots=True)
class Colors:
    """What a plot is painted with: data, marks and fitted lines, borders, and series by module type."""

    data: Color = "cyan"
    mark: Color = "magenta"
    border: Color = "gray"
    series: tuple[Color, ...] = ("cyan", "magenta", "green", "orange", "blue", "red")


PLAIN = Colors()


def singular_values(plt: Figure, spectrum: LayerSpectrum, colors: Colors = PLAIN) -> None:
    """Draw the singular values, largest first, on a log scale."""
    values = spectrum.singular_values
    positive = values[values > 0]
    if not positive.size:
        return _say(plt, "singular values", _nothing(spectrum))
    zeros = f", {values.size - positive.size} more are 0" if positive.size < values.size else ""
    plt.title(f"singular values of {spectrum.part}{zeros}")
    ranks, logs = _thin(np.arange(1, positive.size + 1), np.log10(positive))
    plt.plot(ranks, logs, marker=LINE, color=colors.border)
    plt.scatter(ranks, logs, marker="•", color=colors.data)
    _limits(plt.xlim, 1, positive.size)
    _limits(plt.ylim, logs[-1], logs[0])
    plt.xticks(_whole_ticks(1, positive.size))
    plt.yticks(*_log_ticks(logs[-1], logs[0]))
    plt.xlabel("k")


def eigenvalue_histogram(plt: Figure, spectrum: LayerSpectrum, colors: Colors = PLAIN) -> None:
    """Draw the histogram of log₁₀ λ, λ = σ², with x_min marked."""
    values = spectrum.singular_values
    logs = 2 * np.log10(values[values > 0])
    if not logs.size:
        return _say(plt, "eigenvalues", _nothing(spectrum))
    top = _bars(plt, logs, colors.data)
    marked = ""
    if spectrum.alpha is not None:
        xmin = spectrum.alpha.fit.xmin
        marked = f", x_min {_short(xmin)}"
        plt.vline(math.log10(xmin), colors.mark)
        plt.text("x_min", math.log10(xmin), top, color=colors.mark, alignment="left")
    plt.title(f"eigenvalues λ of {spectrum.part}{marked}")
    plt.xticks(*_log_ticks(logs.min(), logs.max()))
    plt.xlabel("λ = σ²")


def tail(plt: Figure, spectrum: LayerSpectrum, colors: Colors = PLAIN) -> None:
    """Draw how many eigenvalues are ≥ λ, log-log, with the line of the fitted power law."""
    if spectrum.alpha is None:
        return _say(plt, "tail", f"no power law: {visible(spectrum.verdict.reason)}")
    fit = spectrum.alpha.fit
    logs = 2 * np.log10(spectrum.singular_values[: fit.points])
    counts = np.log10(np.arange(1, logs.size + 1))
    low, high = math.log10(fit.xmin), math.log10(fit.xmax)
    end = math.log10(fit.tail) - (fit.alpha - 1) * (high - low)
    plt.plot([low, high], [math.log10(fit.tail), end], marker=LINE, color=colors.mark)
    plt.scatter(*_thin(logs, counts), marker="•", color=colors.data)
    plt.title(f"tail: α {fit.alpha:.2f}, n {fit.tail} of {fit.points}")
    _limits(plt.xlim, logs[-1], logs[0])
    _limits(plt.ylim, min(0.0, end), counts[-1])
    plt.xticks(*_log_ticks(logs[-1], logs[0]))
    plt.yticks(*_log_ticks(0, counts[-1]))
    plt.xlabel("λ        how many are ≥ λ")


def energy(plt: Figure, spectrum: LayerSpectrum, colors: Colors = PLAIN) -> None:
    """Draw the share of Σσ² that the first k directions carry, with 90, 95 and 99 % marked."""
    squares = spectrum.singular_values**2
    if not squares.sum() > 0:
        return _say(plt, "energy", _nothing(spectrum))
    share = 100 * np.concatenate([[0.0], np.cumsum(squares) / squares.sum()])
    ranks = (spectrum.rank90, spectrum.rank95, spectrum.rank99)
    for level in (90, 99):
        plt.hline(level, colors.border)
    plt.plot(*_thin(np.arange(share.size), share), marker=LINE, color=colors.data)
    plt.scatter(ranks, [share[rank] for rank in ranks], marker="◆", color=colors.mark)
    plt.title("energy: 90/95/99 % at k = " + "/".join(map(str, ranks)))
    _limits(plt.xlim, 0, share.size - 1)
    plt.ylim(0, 100)
    plt.xticks(_whole_ticks(0, share.size - 1))
    plt.yticks([0, 25, 50, 75, 90, 100], ["0", "25", "50", "75", "90 %", "100"])
    plt.xlabel("k")


def alpha_histogram(plt: Figure, spectra: Spectra, colors: Colors = PLAIN) -> None:
    """Draw the histogram of alpha with its mean, the class borders and where untrained updates lie."""
    fitted = [s.alpha for s in spectra if s.alpha is not None and math.isfinite(s.alpha.fit.alpha)]
    if not fitted:
        return _say(plt, "alpha", "No layer has an alpha.")
    values = np.array([alpha.fit.alpha for alpha in fitted])
    mean = fmean(values)
    spread = f" ± {stdev(values):.2f}" if values.size > 1 else ""
    null = [median(a.null_low for a in fitted), median(a.null_high for a in fitted)]
    top = _bars(plt, values, colors.data)
    for border in BORDERS:
        plt.vline(border, colors.border)
    plt.vline(mean, colors.mark)
    plt.text("mean", mean, top, color=colors.mark, alignment="left")
    low, high = min(*values, *BORDERS, *null), max(*values, *BORDERS, *null)
    if all(map(math.isfinite, null)):
        plt.plot(null, [top * 1.2] * 2, marker="━", color=colors.mark)
        plt.text("untrained", fmean(null), top * 1.2, color=colors.mark, alignment="center")
    plt.ylim(0, top * 1.25)
    _limits(plt.xlim, low, high)
    plt.xticks(_border_ticks(low, high))
    plt.title(f"α of {values.size} {'layer' if values.size == 1 else 'layers'}: {mean:.2f}{spread}")
    plt.xlabel("α        borders 2 4 6")


def alpha_by_depth(plt: Figure, spectra: Spectra, colors: Colors = PLAIN) -> None:
    """Draw alpha against depth, a letter for each module type, with the class borders."""
    points = [(s, s.alpha.fit.alpha) for s in spectra if s.alpha is not None]
    values = _by_depth(plt, points, "α by depth", "No layer has an alpha.", colors)
    if values:
        low, high = min(*values, BORDERS[0]), max(*values, BORDERS[1])
        for border in BORDERS:
            if low <= border <= high:
                plt.hline(border, colors.border)
        _limits(plt.ylim, low, high)
        plt.yticks(_border_ticks(low, high))


def norm_by_depth(plt: Figure, spectra: Spectra, colors: Colors = PLAIN) -> None:
    """Draw ‖ΔW‖ against depth, a letter for each module type."""
    points = [(s, s.frobenius_norm) for s in spectra]
    values = _by_depth(plt, points, "‖ΔW‖ by depth", "No layer could be read.", colors)
    if values:
        top = max(values) or 1.0
        plt.ylim(0, top * 1.05)
        plt.yticks(*_ticks(top))


def _by_depth(
    plt: Figure, points: Sequence[tuple[LayerSpectrum, float]], title: str, empty: str, colors: Colors
) -> list[float]:
    """Scatter values over depth, and return those drawn."""
    placed = [
        (s.layer, value) for s, value in points if s.layer.layer_index is not None and math.isfinite(value)
    ]
    if not placed:
        _say(plt, title, "The modules' names carry no depth." if points else empty)
        return []
    types = list(dict.fromkeys(layer.module_type for layer, _ in placed))
    letters = _letters(types)
    for number, module_type in enumerate(types):
        depths = [layer.layer_index for layer, _ in placed if layer.module_type == module_type]
        values = [value for layer, value in placed if layer.module_type == module_type]
        color = colors.series[number % len(colors.series)]
        plt.scatter(*_thin(np.array(depths), np.array(values)), marker=letters[module_type], color=color)
    left_out = len(points) - len(placed)
    plt.title(f"{title}{f', {left_out} not shown' if left_out else ''}")
    deepest = [layer.layer_index or 0 for layer, _ in placed]
    _limits(plt.xlim, min(deepest), max(deepest))
    plt.xticks(_whole_ticks(min(deepest), max(deepest)))
    plt.xlabel(_legend(letters))
    return [value for _, value in placed]


def _letters(types: Sequence[str]) -> dict[str, str]:
    """Give each module type a letter: the one that it is known by (q_proj, to_k), else one of its own."""
    taken: dict[str, str] = {}
    for name in types:
        words = [word for word in re.split(r"[^A-Za-z0-9]+", name) if word]
        known_by = [word for word in words if len(word) == 1]
        own = [word[0] for word in words] + list("".join(words))
        choices = (*known_by, *map(str.upper, known_by), *own, *map(str.upper, own), *ascii_lowercase)
        taken[name] = next((c for c in choices if c.isascii() and c not in taken.values()), "*")
    return taken


def _legend(letters: dict[str, str]) -> str:
    """Write which letter is which; plotext shows no label at all that is wider than the plot."""
    text = " ".join(f"{letter}={visible(name)}" for name, letter in letters.items())
    return text if len(text) <= LEGEND_WIDTH else f"{text[: LEGEND_WIDTH - 1]}…"


def _say(plt: Figure, title: str, sentence: str) -> None:
    """Draw a sentence where there is nothing to draw."""
    plt.title(title)
    plt.scatter([0, 1], [0, 1], marker=" ")
    plt.xlim(0, 1)
    plt.ylim(0, 1)
    plt.xfrequency(0)
    plt.yfrequency(0)
    lines = wrap(sentence, 34)[:5]
    for number, line in enumerate(lines):
        plt.text(line, 0.5, 0.5 + 0.2 * ((len(lines) - 1) / 2 - number), alignment="center")


def _nothing(spectrum: LayerSpectrum) -> str:
    return f"{spectrum.verdict.word}: {visible(spectrum.verdict.reason)}"


def _bars(plt: Figure, values: Numbers, color: Color) -> int:
    """Draw a histogram and return its highest count."""
    low, high = _padded(float(values.min()), float(values.max()))
    bins = min(_BINS, max(4, values.size))
    counts, edges = np.histogram(values, bins=bins, range=(low, high))
    plt.bar(((edges[:-1] + edges[1:]) / 2).tolist(), counts.tolist(), width=1, color=color)
    plt.xlim(low, high)
    plt.ylim(0, int(counts.max()) * 1.15)
    plt.yticks(_whole_ticks(0, int(counts.max())))
    return int(counts.max())


def _thin(x: Numbers, y: Numbers) -> tuple[list[float], list[float]]:
    """Keep at most MOST_POINTS points, the first and the last among them; plotext is slow with more."""
    keep = np.unique(np.linspace(0, x.size - 1, min(x.size, MOST_POINTS)).round().astype(int))
    return x[keep].tolist(), y[keep].tolist()


def _padded(low: float, high: float) -> tuple[float, float]:
    room = (high - low) * 0.03 or 0.5
    return low - room, high + room


def _limits(set_limits: Any, low: float, high: float) -> None:
    set_limits(*_padded(float(low), float(high)))


def _whole_ticks(low: int, high: int) -> list[int]:
    step = next(s for s in (b * 10**e for e in range(9) for b in (1, 2, 5)) if (high - low) / s <= 6)
    return sorted({low, *range(-(-low // step) * step, high + 1, step)})


def _short(value: float) -> str:
    text = f"{value:.0f}" if 100 <= value < 10_000 else f"{value:.2g}"
    return text.replace("e+0", "e").replace("e-0", "e-")


def _ticks(top: float) -> tuple[list[float], list[str]]:
    """Ticks from 0 to `top` in steps of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(top))
    step = next(power * b for b in (0.2, 0.5, 1, 2, 5) if top / (power * b) <= 5)
    values = [step * number for number in range(int(top / step) + 1)]
    return values, [_short(value) for value in values]


def _border_ticks(low: float, high: float) -> list[int]:
    step = 1 if high - low <= 8 else max(2, 2 * round((high - low) / 12))
    return list(range(math.ceil(low), math.floor(high) + 1, step))


def _log_ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """Ticks for log₁₀ values: decades where there are two or more, else 1-2-5 steps."""
    decades = range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)
    if len(decades) >= 2:
        every = -(-len(decades) // 6)
        return [float(d) for d in decades[::every]], [f"1e{d}" if d else "1" for d in decades[::every]]
    steps = [digit * 10.0**d for d in range(math.floor(low), math.ceil(high) + 1) for digit in range(1, 10)]
    inside = [step for step in steps if low - 1e-9 <= math.log10(step) <= high + 1e-9]
    shown = inside[:: -(-len(inside) // 4)] if inside else [10.0 ** ((low + high) / 2)]
    return [math.log10(step) for step in shown], [_short(step) for step in shown]
