"""Axes and legends of the plots: size in characters, range, ticks, and a letter for each module type."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from string import ascii_lowercase
from textwrap import wrap
from typing import Any

import numpy.typing as npt

from lorabench.text import visible

Figure = Any  # plotext carries no types
Numbers = npt.NDArray[Any]


def canvas(plt: Figure, label_width: int) -> tuple[int, int]:
    """Return the columns and rows within the axes, beside labels of so many characters; 2×2 at least."""
    width, height = plt.plot_size()
    return max(2, width - 2 - label_width), max(2, height - 5)


def headroom(span: tuple[float, float], rows: int, lines: int) -> tuple[float, list[float]]:
    """Return the top of a y axis with room for `lines` of text above `span`, and where the lines go."""
    low, high = span
    lines_kept = min(lines, max(rows - 2, 0))
    top = low + (high - low) * (rows - 1) / max(rows - 1 - lines_kept, 1)
    return top, [low + (top - low) * (1 - min(line / (rows - 1), 1)) for line in range(lines)]


def padded(low: float, high: float) -> tuple[float, float]:
    room = (high - low) * 0.03 or abs(high) * 0.1 or 0.5
    return low - room, high + room


def reach(values: Numbers, borders: Sequence[float]) -> tuple[float, float, list[float]]:
    """Return the range of the values and of the borders within or next to it, and those borders."""
    low, high = float(values.min()), float(values.max())
    room = (high - low) * 0.2
    near = [border for border in borders if low - room <= border <= high + room]
    return min(low, *near, high), max(high, *near, low), near


def limits(set_limits: Any, low: float, high: float) -> None:
    set_limits(*padded(float(low), float(high)))


def whole_ticks(low: int, high: int) -> list[int]:
    step = next(s for s in (b * 10**e for e in range(9) for b in (1, 2, 5)) if (high - low) / s <= 6)
    return sorted({low, *range(-(-low // step) * step, high + 1, step)})


def short(value: float) -> str:
    text = f"{value:.0f}" if 100 <= value < 10_000 else f"{value:.2g}"
    return text.replace("e+0", "e").replace("e-0", "e-")


def ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """Ticks in steps of 1, 2 or 5 times a power of ten."""
    if high - low <= 1e-9 * abs(high):
        return [high], [f"{high:.3g}"]
    power = 10.0 ** math.floor(math.log10(high - low))
    step = next(power * b for b in (0.2, 0.5, 1, 2) if (high - low) / (power * b) <= 6)
    values = [
        step * number for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    ]
    decimals = max(0, -math.floor(math.log10(step)))
    plain = decimals <= 4 and high < 1e5
    return values, [f"{value:.{decimals}f}" if plain else f"{value:.3g}" for value in values]


def log_ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """Ticks for log₁₀ values: decades where there are two or more, else 1-2-5 steps."""
    decades = range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)
    if len(decades) >= 2:
        every = -(-len(decades) // 6)
        return [float(d) for d in decades[::every]], [_decade(d) for d in decades[::every]]
    steps = [digit * 10.0**d for d in range(math.floor(low), math.ceil(high) + 1) for digit in range(1, 10)]
    inside = [step for step in steps if low - 1e-9 <= math.log10(step) <= high + 1e-9]
    shown = inside[:: -(-len(inside) // 4)] if inside else [10.0 ** ((low + high) / 2)]
    return [math.log10(step) for step in shown], [short(step) for step in shown]


def _decade(exponent: int) -> str:
    return f"{10.0**exponent:g}" if abs(exponent) <= 3 else f"1e{exponent}"


def module_letters(types: Sequence[str]) -> dict[str, str]:
    """Give each module type a letter: the one that it is known by (q_proj, to_k), else one of its own."""
    taken: dict[str, str] = {}
    for name in types:
        words = [word for word in re.split(r"[^A-Za-z0-9]+", name) if word]
        known_by = [word for word in words if len(word) == 1]
        own = [word[0] for word in words] + list("".join(words))
        choices = (*known_by, *map(str.upper, known_by), *own, *map(str.upper, own), *ascii_lowercase)
        taken[name] = next((c for c in choices if c.isascii() and c not in taken.values()), "*")
    return taken


def legend(letters: Mapping[str, str], columns: int, most: int) -> list[str]:
    """Write which letter is which, on as many lines as it takes, `most` at most.

    plotext shows no label at all that is wider than the plot. What all names begin with is left out where
    one line does not hold them.
    """
    names = list(map(visible, letters))
    if sum(map(len, names)) + 3 * len(names) > columns:
        first, last = min(names), max(names)
        shared = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
        cut = max(first.rfind(".", 0, shared), first.rfind("_", 0, shared)) + 1
        names = [name[cut:] for name in names]
    entries = [f"{letter}={name}" for letter, name in zip(letters.values(), names, strict=True)]
    return wrap(" ".join(entries), max(columns, 8), break_on_hyphens=False, max_lines=most, placeholder=" …")
