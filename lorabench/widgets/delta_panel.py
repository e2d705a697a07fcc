"""ΔW while it grows: its size, its stable rank, its alphas now and before, what is dead and what grows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from statistics import median
from typing import Any, ClassVar, TypeGuard

from rich.text import Text

from lorabench.runs.record import RunRecord
from lorabench.text import shorten, visible
from lorabench.widgets.painting import Painting
from lorabench.widgets.sparkline import BARS, sparkline

NAME_WIDTH = 12
VALUE_WIDTH = 7
DEAD_WIDTH = 30
GROWING_WIDTH, GAP = 46, 4
ALPHA_BORDERS = (2, 4, 6)
ALPHA_LEAST, ALPHA_MOST = 1.0, 7.0
MISSING = "—"

Modules = Mapping[str, Mapping[str, Any]]


def modules_of(event: Mapping[str, Any] | None) -> Modules:
    """Return the modules of a spectra event that are as they should be."""
    modules = event.get("modules") if event else None
    return {k: v for k, v in modules.items() if isinstance(v, dict)} if isinstance(modules, dict) else {}


def values_of(modules: Modules, field: str) -> list[float]:
    """Return a field of all modules that have a finite number there."""
    found = (module.get(field) for module in modules.values())
    return [float(v) for v in found if _is_number(v)]


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)


def growth(now: Modules, before: Modules) -> list[tuple[str, float, float]]:
    """Return (module, ‖ΔW‖ now, growth of ‖ΔW‖ as a share of what it was), the fastest growing first.

    What grew from nothing has grown infinitely.
    """
    grown = []
    for name, module in now.items():
        norm, old = (at.get("norm") for at in (module, before.get(name, {})))
        if _is_number(norm) and _is_number(old) and norm > 0:
            grown.append((name, norm, norm / old - 1 if old > 0 else math.inf))
    return sorted(grown, key=lambda at: (-at[2], -at[1]))


def dead_of(event: Mapping[str, Any] | None) -> list[str]:
    """Return the names of the modules whose ΔW is zero."""
    dead = event.get("dead") if event else None
    return [str(name) for name in dead] if isinstance(dead, list) else []


def alpha_bars(alphas: list[float], width: int, highest: int) -> str:
    """Return how many alphas lie where between ALPHA_LEAST and ALPHA_MOST, as bars up to `highest`."""
    counts = Counter(_bin(alpha, width) for alpha in alphas)
    return "".join(
        BARS[math.ceil(8 * counts[at] / highest) - 1] if counts[at] else " " for at in range(width)
    )


def _bin(alpha: float, width: int) -> int:
    share = (alpha - ALPHA_LEAST) / (ALPHA_MOST - ALPHA_LEAST)
    return min(max(int(share * width), 0), width - 1)


def alpha_axis(width: int) -> str:
    """Return the axis below the bars, with the class borders."""
    axis = [" "] * width
    for border in ALPHA_BORDERS:
        axis[_bin(border, width)] = str(border)
    axis[0], axis[-1] = f"{ALPHA_LEAST:.0f}", f"{ALPHA_MOST:.0f}"
    return "".join(axis)


def short_module(name: str) -> str:
    """Return what tells a module apart: `layers.3.self_attn.q_proj` as `3.q_proj`."""
    words = name.split(".")
    numbers = [word for word in words[:-1] if word.isdigit()]
    return visible(".".join([*numbers, words[-1]]))


def update_text(update: Mapping[str, Any]) -> str:
    """Return what an update event says: how far the step moved A and B, its scale c, and what stood still."""
    groups = update.get("groups")
    shares = groups.items() if isinstance(groups, dict) else ()
    parts = [f"{visible(name)} {100 * at:.2g} %" for name, at in shares if isinstance(at, int | float)]
    scale, still = update.get("c"), update.get("still")
    parts += [f"c {scale:.3g}"] if isinstance(scale, int | float) else []
    parts += [f"{len(still)} still"] if isinstance(still, list) and still else []
    return "  ".join(parts)


class DeltaPanel(Painting):
    """The newest spectra of a run, beside those before; in a low one only the numbers."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"delta--name", "delta--line", "delta--before", "delta--warning"}

    def show(self, record: RunRecord) -> None:
        """Write what the run's last two spectra say."""
        now, before = modules_of(record.spectra), modules_of(record.spectra_before)
        if self.styles.is_auto_height:
            self.paint(self._short(record, now, before))
            return
        lines = [*self._numbers(record, now, before), Text()]
        lines += [*self._alphas(now, before), Text()]
        lines += [self._dead(record, self.size.width), *self._update(record)]
        room = self.size.height - len(lines)
        self.paint([*lines, *self._growing(now, before, room)])

    def look(self, name: str) -> Any:
        """Return the style of a part of the panel."""
        return self.get_component_rich_style(f"delta--{name}")

    def _numbers(self, record: RunRecord, now: Modules, before: Modules) -> list[Text]:
        norms = record.norms
        width = self.size.width - NAME_WIDTH - VALUE_WIDTH - 2
        first = self._pair("‖ΔW‖", "" if norms.last is None else f"{norms.last:.3g}", "")
        first.append(sparkline(norms.points().mean, width), self.look("line"))
        ranks = self._now_and_before("stable rank", now, before, "stable_rank")
        steps = self._pair("step", str(_step(record.spectra)), f"before {_step(record.spectra_before)}")
        return [steps, first, ranks, self._now_and_before("α median", now, before, "alpha")]

    def _pair(self, name: str, value: str, more: str) -> Text:
        line = Text().append(f"{name:<{NAME_WIDTH}} ", self.look("name"))
        return line.append(f"{value or MISSING:<{VALUE_WIDTH}} ").append(more, self.look("before"))

    def _now_and_before(self, name: str, now: Modules, before: Modules, field: str) -> Text:
        newest, older = values_of(now, field), values_of(before, field)
        value = f"{median(newest):.2f}" if newest else ""
        return self._pair(name, value, f"before {median(older):.2f}" if older else "")

    def _alphas(self, now: Modules, before: Modules) -> list[Text]:
        newest, older = values_of(now, "alpha"), values_of(before, "alpha")
        if not newest:
            return [self._pair("α", "no module has one" if now else "no spectra yet", "")]
        width = max(12, self.size.width - 8)
        highest = max(
            count
            for alphas in (newest, older)
            for count in [0, *Counter(_bin(a, width) for a in alphas).values()]
        )
        bars = alpha_bars(newest, width, highest)
        lines = [Text().append("now    ", self.look("name")).append(bars, self.look("line"))]
        if older:
            bars = alpha_bars(older, width, highest)
            lines.append(Text().append("before ", self.look("name")).append(bars, self.look("before")))
        lines.append(Text(f"α      {alpha_axis(width)}", self.look("name")))
        return lines

    def _dead(self, record: RunRecord, width: int) -> Text:
        spectra = record.spectra or {}
        dead, unreadable = dead_of(spectra), spectra.get("unreadable")
        if isinstance(unreadable, dict) and unreadable:
            return Text(f"▲ {len(unreadable)} modules hold a NaN or an infinity", self.look("warning"))
        if not dead:
            return Text().append("dead ", self.look("name")).append("0" if spectra else MISSING)
        names = " ".join(short_module(name) for name in dead)
        line = Text().append(f"▲ {len(dead)} dead (B = 0) ", self.look("warning"))
        return line.append(shorten(names, max(8, width - line.cell_len)))

    def _update(self, record: RunRecord) -> list[Text]:
        text = update_text(record.update or {})
        return [self._pair("last update", text, "")] if text else []

    def _growing(self, now: Modules, before: Modules, room: int) -> list[Text]:
        """As many modules as there is room for, one below the other, in columns where the panel is wide."""
        across = max(1, self.size.width // GROWING_WIDTH)
        grown = growth(now, before)[: max(0, room - 1) * across]
        width = self.size.width // across - 17 - GAP * (across > 1)
        if not grown or width < 1:
            return []
        title = f"{'growing fastest':<{width}} {'‖ΔW‖':>7} {'growth':>8}"
        cells = [
            f"{shorten(short_module(name), width):<{width}} {norm:>7.3g} {_percent(share):>8}"
            for name, norm, share in grown
        ]
        height = -(-len(cells) // across)
        gap = " " * GAP
        rows = [Text(gap.join(cells[row::height])) for row in range(height)]
        titles = gap.join([title] * len(cells[::height]))
        return [Text(titles, self.look("name")), *rows]

    def _short(self, record: RunRecord, now: Modules, before: Modules) -> list[Text]:
        if not now:
            return [Text("ΔW  no spectra yet", self.look("name"))]
        numbers = Text().append("‖ΔW‖ ", self.look("name")).append(f"{record.norms.last or 0:.3g} ")
        numbers.append(sparkline(record.norms.points().mean, 16), self.look("line"))
        for name, field in (("stable rank", "stable_rank"), ("α", "alpha")):
            newest, older = values_of(now, field), values_of(before, field)
            numbers.append(f"  {name} ", self.look("name"))
            numbers.append(f"{median(newest):.2f}" if newest else MISSING)
            numbers.append(f" before {median(older):.2f}" if older else "", self.look("before"))
        second = self._dead(record, DEAD_WIDTH)
        if text := update_text(record.update or {}):
            second.append("  last update ", self.look("name")).append(text)
        for name, _, share in growth(now, before)[:1]:
            second.append("  growing ", self.look("name"))
            second.append(f"{short_module(name)} {_percent(share)}")
        return [numbers, second]


def _step(event: Mapping[str, Any] | None) -> object:
    return event.get("step", "") if event else MISSING


def _percent(share: float) -> str:
    if not math.isfinite(share):
        return "new"
    return f"{100 * share:+.1f} %" if abs(share) >= 0.01 else f"{100 * share:+.2f} %"
