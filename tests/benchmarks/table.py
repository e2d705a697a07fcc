"""The table that the benchmarks print."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """One line: what was measured, ours, the reference's, their ratio, and the goal."""

    benchmark: str
    ours: str
    reference: str = ""
    ratio: str = ""
    goal: str = ""

    def __str__(self) -> str:
        return (
            f"{self.benchmark:<52} {self.ours:>12} {self.reference:>12} {self.ratio:>9}  {self.goal}".rstrip()
        )


def seconds(value: float) -> str:
    """Return a duration in the unit a person would use."""
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"
