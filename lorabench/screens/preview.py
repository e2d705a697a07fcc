"""Which adapters the bench analyses by itself, and what that gives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lorabench.errors import LorabenchError
from lorabench.text import visible

if TYPE_CHECKING:
    from lorabench.screens.listing import Row
    from lorabench.spectra.report import Summary

# Larger adapters, and pickles, are analysed when they are opened and not by passing by.
PREVIEW_BYTES = 256_000_000


def previewed(row: Row) -> bool:
    """Say whether the bench analyses this row by itself."""
    location = row.location
    return (
        location is not None
        and 0 < row.size <= PREVIEW_BYTES
        and all(file.suffix == ".safetensors" for file in location.files)
    )


def preview(path: Path) -> Summary | LorabenchError:
    """Analyse an adapter for its line in the table; what goes wrong is what the line tells."""
    from lorabench.adapters.open import open_adapter
    from lorabench.spectra.analysis import spectra_of
    from lorabench.spectra.report import summarize

    try:
        return summarize(list(spectra_of(open_adapter(path))))
    except LorabenchError as error:
        return error
    except Exception as error:  # noqa: BLE001  one file that we cannot cope with must not end the others'
        return LorabenchError(f"{type(error).__name__}: {visible(error)}", "This is a defect of lorabench.")
