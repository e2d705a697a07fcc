"""The table that the benchmarks print."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """One line: what was measured, ours, the reference's, their ratio, and the goal; for 100 columns."""

    benchmark: str
    ours: str
    reference: str = ""
    ratio: str = ""
    goal: str = ""

    def __str__(self) -> str:
        numbers = f"{self.ours:>10} {self.reference:>10} {self.ratio:>7}"
        return f"{self.benchmark:<48} {numbers}  {self.goal}".rstrip()


def seconds(value: float) -> str:
    """Return a duration in the unit a person would use."""
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"
