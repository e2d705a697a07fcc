"""What ΔW was at one step, as the run's events tell it; of a run in memory, or of its checkpoints."""

from __future__ import annotations

import filecmp
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lorabench.adapters.open import open_adapter
from lorabench.errors import AdapterError
from lorabench.files import is_file
from lorabench.spectra.analysis import spectra_of
from lorabench.spectra.model import LayerSpectrum

_ADAPTER_FILE = "adapter_model.safetensors"
_CHECKPOINT = re.compile(r"checkpoint-(\d{1,15})")

Event = dict[str, Any]


def spectra_event(step: int, seconds: float, spectra: Iterable[LayerSpectrum]) -> Event:
    """Return the `spectra` event of one step: plain data, as events.jsonl holds it.

    `modules` has ‖ΔW‖ (Frobenius), σ₁, stable rank, alpha and its 90 % interval of each layer by name; alpha,
    low and high are None where there is no fit, and high is infinite where the interval has no upper end. All
    numbers have six digits.
    `dead` names the layers whose ΔW is zero, `unreadable` gives the reason where there are no numbers (a NaN
    in a factor), and `dora` says that ΔW is the direction part s·B·A, before DoRA's magnitude rescales
    W + ΔW. `seconds` is what it took.
    """
    known = list(spectra)
    readable = [spectrum for spectrum in known if spectrum.verdict.word != "unreadable"]
    return {
        "kind": "spectra",
        "step": step,
        "seconds": seconds,
        "modules": {spectrum.layer.name: _numbers(spectrum) for spectrum in readable},
        "dead": [spectrum.layer.name for spectrum in readable if spectrum.verdict.word == "dead"],
        "unreadable": {s.layer.name: s.verdict.reason for s in known if s.verdict.word == "unreadable"},
        "dora": any(spectrum.layer.dora for spectrum in known),
    }


def _numbers(spectrum: LayerSpectrum) -> dict[str, float | None]:
    alpha = spectrum.alpha
    numbers = {
        "norm": spectrum.frobenius_norm,
        "sigma1": spectrum.spectral_norm,
        "stable_rank": spectrum.stable_rank,
        "alpha": alpha.fit.alpha if alpha else None,
        "low": alpha.low if alpha else None,
        "high": alpha.high if alpha else None,
    }
    # Six digits: a model of many layers has long events, and a run has many.
    return {name: None if number is None else float(f"{number:.6g}") for name, number in numbers.items()}


def spectra_over(folder: Path, after: int = -1, last: int | None = None) -> Iterator[Event]:
    """Yield the `spectra` event of each checkpoint of a run, in the order of their steps, one by one.

    Those up to the step `after` are left out. The adapter that the run has saved at its end comes as that of
    the step `last`, unless that is unknown or a checkpoint's: the last one's, or the one's that was best.

    One checkpoint's adapter is open at a time. One that cannot be opened as an adapter is passed over: a torn
    checkpoint, or one of a run that trained no LoRA.

    Raises:
        OSError: the run's folder cannot be read.
    """
    found = ((match, path) for path in folder.iterdir() if (match := _CHECKPOINT.fullmatch(path.name)))
    saved = sorted((int(match[1]), path) for match, path in found)
    if last is not None and all(step < last and not _same(path, folder) for step, path in saved):
        saved.append((last, folder))
    for step, path in saved:
        if step <= after:
            continue
        begin = time.perf_counter()
        try:
            spectra = list(spectra_of(open_adapter(path)))
        except AdapterError:
            continue
        yield spectra_event(step, time.perf_counter() - begin, spectra)


def _same(checkpoint: Path, folder: Path) -> bool:
    """Whether a checkpoint has the very adapter that lies in a folder."""
    one, other = checkpoint / _ADAPTER_FILE, folder / _ADAPTER_FILE
    return is_file(one) and is_file(other) and filecmp.cmp(one, other, shallow=False)
