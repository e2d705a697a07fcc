"""WeightWatcher's tables, and how ours must agree with them."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from lorabench.spectra.weightwatcher import Row

RELATIVE = 1e-6
EXACT = {
    "layer_id", "name", "longname", "M", "N", "layer_type", "num_evals", "peft", "rf", "has_esd",
    "matrix_rank", "rank_loss", "weak_rank_loss", "num_pl_spikes", "warning", "status",
}  # fmt: skip


def read_table(path: Path) -> list[dict[str, str]]:
    """Read one of WeightWatcher's tables, every field as text."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def assert_same_table(ours: Sequence[Row], theirs: Sequence[dict[str, str]], rounding: bool = False) -> None:
    """Assert the same columns, rows and numbers, but for the two defects that lorabench does not copy.

    Numbers to 1e-6. With `rounding`, to 2⁻²³·sv_max/sv_min where that is more: WeightWatcher rounds B·A to
    float32, which moves a singular value by up to about 2⁻²⁴·sv_max, and its square by twice that.
    """
    assert len(ours) == len(theirs)
    assert list(ours[0]) == list(theirs[0])
    for our_row, their_row in zip(ours, theirs, strict=True):
        spread = float(their_row["sv_max"]) / float(their_row["sv_min"]) if rounding else 0.0
        relative = max(RELATIVE, 2.0**-23 * spread)
        for column, written in their_row.items():
            where = f"{column} of {their_row['name']}"
            if not _is_defect(column, their_row):
                _assert_same(our_row[column], written, column, where, relative)


def _is_defect(column: str, row: dict[str, str]) -> bool:
    failed_is_over_trained = column == "warning" and row["status"] == "failed"
    sigma_without_alpha = column == "sigma" and row["status"] == "success" and float(row["sigma"]) < 0
    return failed_is_over_trained or sigma_without_alpha


def _assert_same(ours: str | int | float, written: str, column: str, where: str, relative: float) -> None:
    if isinstance(ours, str | bool):
        assert str(ours) == written, where
    elif column in EXACT:
        assert ours == float(written), where
    elif written in ("", "nan"):
        assert math.isnan(ours), where
    else:
        assert ours == pytest.approx(float(written), rel=relative, abs=0), where
