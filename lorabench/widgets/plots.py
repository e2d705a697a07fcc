"""Draw spectra with plotext, for the screens and for `--plot`.

Each function draws on a plotext figure (`plotext` itself, or `PlotextPlot.plt`) that was cleared before.
Titles carry the numbers and every mark has a word or a tick: nothing rests on colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from textwrap import wrap

import numpy as np

from lorabench.adapters.model import LoraLayer
from lorabench.spectra.model import LayerSpectrum
from lorabench.text import visible
from lorabench.widgets.axes import (
    Figure,
    Numbers,
    canvas,
    headroom,
    legend,
    limits,
    log_ticks,
    module_letters,
    padded,
    reach,
    short,
    ticks,
    whole_ticks,
)

Color = str | int | tuple[int, int, int]
Spectra = Sequence[LayerSpectrum]

# Finer markers than whole cells are rounded differently, and a line would miss the points that it joins.
LINE = "·"
BORDERS = (2.0, 4.0, 6.0)
MOST_POINTS = 600
FEWEST_COUNTS = 3
"""The count that a histogram's axis reaches at least: single values are no wall."""
_BINS = 24


@dataclass(frozen=True, slots=True)
class Colors:
    """What a plot is painted with: data, marks and fitted lines, borders, and series by module type.

    Entries of the 256-colour palette that no terminal theme redefines, of middle lightness: each has a
    contrast of 3 or more against white and against near black.
    """

    data: Color = 31
    mark: Color = 162
    border: Color = 244
    series: tuple[Color, ...] = (31, 162, 28, 166, 62, 160)


PLAIN = Colors()


def singular_values(plt: Figure, spectrum: LayerSpectrum, colors: Colors = PLAIN) -> None:
    """Draw the singular values, largest first, on a log scale."""
    values = spectrum.singular_values
    positive = values[values > 0]
    if not positive.size:
        return say(plt, "singular values", _nothing(spectrum))
    zeros = f", {values.size - positive.size} more are 0" if positive.size < values.size else ""
    plt.title(f"singular values of {spectrum.part}{zeros}")
    ranks, logs = _thin(np.arange(1, positive.size + 1), np.log10(positive))
    plt.plot(ranks, logs, marker=LINE, color=colors.border)
    plt.scatter(ranks, logs, marker="•", color=colors.data)
    limits(plt.xlim, 1, positive.size)
    limits(plt.ylim, logs[-1], logs[0])
    plt.xticks(whole_ticks(1, positive.size))
    plt.yticks(*log_ticks(logs[-1], logs[0]))
    plt.xlabel("k")


def eigenvalue_histogram(plt: Figure, spectrum: LayerSpectrum, colors: Colors = PLAIN) -> None:
    """Draw the histogram of log₁₀ λ, λ = σ², with x_min marked."""
    values = spectrum.singular_values
    logs = 2 * np.log10(values[values > 0])
    if not logs.size:
        return say(plt, "eigenvalues", _nothing(spectrum))
    low, high = padded(float(logs.min()), float(logs.max()))
    (label_row,) = _bars(plt, logs, (low, high), 1, colors.data)
    marked = ""
    if spectrum.alpha is not None:
        xmin = spectrum.alpha.fit.xmin
        marked = f", x_min {short(xmin)}"
        _mark(plt, "x_min", math.log10(xmin), label_row, (low, high), colors.mark)
    plt.title(f"eigenvalues λ of {spectrum.part}{marked}")
    plt.xticks(*log_ticks(logs.min(), logs.max()))
    plt.xlabel("λ = σ²")


def tail(plt: Figure, spectrum: LayerSpectrum, colors: Colors = PLAIN) -> None:
    """Draw how many eigenvalues are ≥ λ, log-log, with the line of the fitted power law."""
    if spectrum.alpha is None:
        return say(plt, "tail", f"no power law: {visible(spectrum.verdict.reason)}")
    fit = spectrum.alpha.fit
    logs = 2 * np.log10(spectrum.singular_values[: fit.points])
    counts = np.log10(np.arange(1, logs.size + 1))
    low, high = math.log10(fit.xmin), math.log10(fit.xmax)
    end = math.log10(fit.tail) - (fit.alpha - 1) * (high - low)
    plt.plot([low, high], [math.log10(fit.tail), end], marker=LINE, color=colors.mark)
    plt.scatter(*_thin(logs, counts), marker="•", color=colors.data)
    plt.title(f"tail: α {fit.alpha:.2f}, n {fit.tail} of {fit.points}, KS {fit.ks:.2f}")
    limits(plt.xlim, logs[-1], logs[0])
    limits(plt.ylim, min(0.0, end), counts[-1])
    plt.xticks(*log_ticks(logs[-1], logs[0]))
    plt.yticks(*log_ticks(0, counts[-1]))
    plt.xlabel("→ λ     ↑ how many are ≥ λ")


def energy(plt: Figure, spectrum: LayerSpectrum, colors: Colors = PLAIN) -> None:
    """Draw the share of Σσ² that the first k directions carry, with 90, 95 and 99 % marked."""
    squares = spectrum.singular_values**2
    if not squares.sum() > 0:
        return say(plt, "energy", _nothing(spectrum))
    share = 100 * np.concatenate([[0.0], np.cumsum(squares) / squares.sum()])
    ranks = [spectrum.rank90, spectrum.rank95, spectrum.rank99]
    # Rounded down to a row: only the whole of the energy is drawn in the row of 100.
    row = 100 / (canvas(plt, 4)[1] - 1)
    drawn = np.floor(share / row + 1e-6) * row
    level = math.floor(90 / row) * row
    plt.hline(level, colors.border)
    plt.plot(*_thin(np.arange(share.size), drawn), marker=LINE, color=colors.data)
    plt.scatter(ranks, drawn[ranks].tolist(), marker="◆", color=colors.mark)
    plt.title("energy: 90/95/99 % at k = " + "/".join(map(str, ranks)))
    limits(plt.xlim, 0, share.size - 1)
    plt.ylim(0, 100)
    plt.xticks(whole_ticks(0, share.size - 1))
    plt.yticks([0, 25, 50, 75, level, 100], ["0", "25", "50", "75", "90 %", "100"])
    plt.xlabel("k")


def alpha_histogram(plt: Figure, spectra: Spectra, colors: Colors = PLAIN) -> None:
    """Draw the histogram of alpha with its mean, the class borders and where untrained updates lie."""
    fitted = [s.alpha for s in spectra if s.alpha is not None and math.isfinite(s.alpha.fit.alpha)]
    if not fitted:
        return say(plt, "alpha", "No layer has an alpha.")
    values = np.array([alpha.fit.alpha for alpha in fitted])
    mean = fmean(values)
    spread = f" ± {stdev(values):.2f}" if values.size > 1 else ""
    null = [median(a.null_low for a in fitted), median(a.null_high for a in fitted)]
    marks = [*BORDERS, *(edge for edge in null if math.isfinite(edge))]
    low, high = min(*values, *marks), max(*values, *marks)
    span = padded(low, high)
    band_row, mean_row = _bars(plt, values, span, 2, colors.data)
    for border in BORDERS:
        plt.vline(border, colors.border)
    if all(map(math.isfinite, null)):
        plt.plot(null, [band_row] * 2, marker="━", color=colors.mark)
        plt.text("untrained", fmean(null), band_row, color=colors.mark, alignment="center")
    _mark(plt, "mean", mean, mean_row, span, colors.mark)
    plt.xticks(*ticks(low, high))
    plt.title(f"α of {values.size} {'layer' if values.size == 1 else 'layers'}: {mean:.2f}{spread}")
    plt.xlabel("→ α     ↑ layers     borders 2 4 6")


def alpha_by_depth(plt: Figure, spectra: Spectra, colors: Colors = PLAIN) -> None:
    """Draw alpha against depth, a letter for each module type, with the class borders near the values."""
    points = [(s, s.alpha.fit.alpha) for s in spectra if s.alpha is not None]
    by_depth(plt, points, "α by depth", "No layer has an alpha.", BORDERS, colors)


def norm_by_depth(plt: Figure, spectra: Spectra, colors: Colors = PLAIN) -> None:
    """Draw ‖ΔW‖ against depth, a letter for each module type."""
    points = [(s, s.frobenius_norm) for s in spectra]
    by_depth(plt, points, "‖ΔW‖ by depth", "No layer could be read.", (0.0,), colors)


def by_depth(
    plt: Figure,
    points: Sequence[tuple[LayerSpectrum, float]],
    title: str,
    empty: str,
    borders: Sequence[float],
    colors: Colors,
) -> None:
    """Scatter values over depth: module types side by side within their depth, one letter in a cell."""
    placed = [
        (s.layer, value) for s, value in points if s.layer.layer_index is not None and math.isfinite(value)
    ]
    if not placed:
        return say(plt, title, "The modules' names carry no depth." if points else empty)
    letters = module_letters(list(dict.fromkeys(layer.module_type for layer, _ in placed)))
    low, high, near = reach(np.array([value for _, value in placed]), borders)
    at, labels = ticks(low, high)
    columns, rows = canvas(plt, max(map(len, labels)))
    depths = np.array([layer.layer_index for layer, _ in placed])
    left, right = depths.min() - 0.5, depths.max() + 0.5
    column = _dodged(placed, letters, (left, right), columns)
    *above, below = legend(letters, columns, most=1 + rows // 3)
    bottom, top = padded(low, high)
    top, above_rows = headroom((bottom, top), rows, len(above))
    row = np.floor(0.5 + (rows - 1) * (np.array([value for _, value in placed]) - bottom) / (top - bottom))
    for border in near:
        plt.hline(border, colors.border)
    cells = {cell: number for number, cell in enumerate(zip(column.tolist(), row.tolist(), strict=True))}
    for number, (module_type, letter) in enumerate(letters.items()):
        shown = [at for at in cells.values() if placed[at][0].module_type == module_type]
        x = left + column[shown] / (columns - 1) * (right - left)
        y = [placed[at][1] for at in shown]
        plt.scatter(x.tolist(), y, marker=letter, color=colors.series[number % len(colors.series)])
    for line, line_row in zip(above, above_rows, strict=True):
        plt.text(line, (left + right) / 2, line_row, color="default", alignment="center")
    hidden, left_out = len(placed) - len(cells), len(points) - len(placed)
    counts = [f"{len(placed)} {'layer' if len(placed) == 1 else 'layers'}"]
    counts += [f"{number} {word}" for number, word in ((hidden, "hidden"), (left_out, "not shown")) if number]
    told = f"{title}: {', '.join(counts)}"
    plt.title(told if len(told) <= columns else title)  # or plotext leaves out a title that has no room
    plt.xlim(left, right)
    plt.ylim(bottom, top)
    plt.xticks(whole_ticks(int(depths.min()), int(depths.max())))
    plt.yticks(at, labels)
    plt.xlabel(below)


def _dodged(
    placed: Sequence[tuple[LoraLayer, float]],
    letters: Mapping[str, str],
    span: tuple[float, float],
    columns: int,
) -> Numbers:
    """Return each point's column: its depth's, moved sideways by module type as far as the slot has room."""
    slot = (columns - 1) / (span[1] - span[0])
    lanes = max(1, min(len(letters), int(slot)))
    lane = {module_type: number % lanes for number, module_type in enumerate(letters)}
    moved = [(lane[layer.module_type] + 0.5) / lanes - 0.5 for layer, _ in placed]
    depths = np.array([layer.layer_index for layer, _ in placed])
    return np.asarray(np.floor(0.5 + (depths + moved - span[0]) * slot))


def say(plt: Figure, title: str, sentence: str) -> None:
    """Draw a sentence where there is nothing to draw."""
    plt.title(title)
    plt.scatter([0, 1], [0, 1], marker=" ")
    plt.xlim(0, 1)
    plt.ylim(0, 1)
    plt.xfrequency(0)
    plt.yfrequency(0)
    columns, rows = canvas(plt, 0)
    lines = wrap(sentence, max(min(columns, 60), 20))[: max(rows, 1)]
    for number, line in enumerate(lines):
        row = 0.5 + ((len(lines) - 1) / 2 - number) / max(rows - 1, 1)
        plt.text(line, 0.5, row, color="default", alignment="center")


def _nothing(spectrum: LayerSpectrum) -> str:
    return f"{spectrum.verdict.word}: {visible(spectrum.verdict.reason)}"


def _bars(plt: Figure, values: Numbers, span: tuple[float, float], lines: int, color: Color) -> list[float]:
    """Draw a histogram that stands on the axis; return the rows for `lines` of labels above the bars."""
    low, high = float(values.min()), float(values.max())
    bins = min(_BINS, math.ceil(2 * math.sqrt(values.size)))
    if high - low <= 1e-9 * abs(high):
        low, high, bins = *padded(low, high), 1
    counts, edges = np.histogram(values, bins=bins, range=(low, high))
    highest = max(int(counts.max()), FEWEST_COUNTS)
    columns, rows = canvas(plt, len(str(highest)))
    # One point for each column, filled down to the axis; the last column of each bar stays empty.
    centres = np.linspace(*span, columns)
    column = (span[1] - span[0]) / (columns - 1)
    for count, left, right in zip(counts, edges, edges[1:], strict=False):
        inside = centres[
            (centres >= left - column / 2) & (centres < max(right - 1.5 * column, left + column / 2))
        ]
        if count:
            plt.scatter(inside.tolist(), [int(count)] * inside.size, marker="sd", color=color, fillx=True)
    top, label_rows = headroom((0, highest), rows, lines)
    plt.xlim(*span)
    plt.ylim(0, top)
    plt.yticks(whole_ticks(0, highest))
    return label_rows


def _mark(plt: Figure, name: str, at: float, row: float, span: tuple[float, float], color: Color) -> None:
    """Draw a line from the axis to `row`, over the bars, and its name at its upper end."""
    plt.plot([at, at], [0, row], marker="│", color=color)
    plt.text(name, at, row, color=color, alignment="left" if at < sum(span) / 2 else "right")


def _thin(x: Numbers, y: Numbers) -> tuple[list[float], list[float]]:
    """Keep at most MOST_POINTS points, the first and the last among them; plotext is slow with more."""
    keep = np.unique(np.linspace(0, x.size - 1, min(x.size, MOST_POINTS)).round().astype(int))
    return x[keep].tolist(), y[keep].tolist()
