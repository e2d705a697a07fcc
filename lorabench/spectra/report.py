"""What an adapter learned, as one report: a summary, a table of layers, JSON, CSV, pandas."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lorabench.adapters.model import Adapter, Finding
from lorabench.adapters.open import Source, open_adapter
from lorabench.errors import LorabenchError
from lorabench.spectra.analysis import spectra_of
from lorabench.spectra.columns import COLUMNS, Column, Value
from lorabench.spectra.model import VERDICTS, LayerSpectrum, VerdictWord
from lorabench.spectra.weightwatcher import analyze_rows
from lorabench.text import visible

if TYPE_CHECKING:
    import pandas as pd

_DECIDED = {"well-formed", "heavy-tailed", "random-like"}


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of some layers' alphas, their standard deviation (None for one layer), how many they are."""

    mean: float
    deviation: float | None
    layers: int


@dataclass(frozen=True, slots=True)
class Extreme:
    """The layer where a number is smallest or largest."""

    module: str
    value: float


@dataclass(frozen=True, slots=True)
class Summary:
    """An adapter in a few numbers.

    `alpha` is over all layers that have one, `alpha_decided` over those whose verdict is a class. `norm`
    is the Frobenius norm of all ΔW together, √Σ‖ΔW‖².
    """

    layers: int
    verdicts: dict[VerdictWord, int]
    alpha: Mean | None
    alpha_decided: Mean | None
    alpha_smallest: Extreme | None
    alpha_largest: Extreme | None
    norm: float
    norm_largest: Extreme | None


def summarize(spectra: Sequence[LayerSpectrum]) -> Summary:
    """Count verdicts and gather alphas and norms of some layers of one adapter."""
    alphas = [(s.alpha.fit.alpha, s) for s in spectra if s.alpha is not None]
    norms = [(s.frobenius_norm, s) for s in spectra if math.isfinite(s.frobenius_norm)]
    counts = Counter(s.verdict.word for s in spectra)
    return Summary(
        layers=len(spectra),
        verdicts={word: counts[word] for word in VERDICTS if counts[word]},
        alpha=mean_of([alpha for alpha, _ in alphas]),
        alpha_decided=mean_of([alpha for alpha, s in alphas if s.verdict.word in _DECIDED]),
        alpha_smallest=_extreme(alphas, -1),
        alpha_largest=_extreme(alphas, 1),
        norm=math.hypot(*(norm for norm, _ in norms)),
        norm_largest=_extreme(norms, 1),
    )


def mean_of(values: Sequence[float]) -> Mean | None:
    """Return mean and sample standard deviation; None without values."""
    if not values:
        return None
    mean = math.fsum(values) / len(values)
    squares = math.fsum((value - mean) ** 2 for value in values)
    deviation = math.sqrt(squares / (len(values) - 1)) if len(values) > 1 else None
    return Mean(mean, deviation, len(values))


def _extreme(values: Sequence[tuple[float, LayerSpectrum]], sign: int) -> Extreme | None:
    if not values:
        return None
    value, spectrum = max(values, key=lambda pair: sign * pair[0])
    return Extreme(visible(spectrum.layer.name), value)


@dataclass(frozen=True)
class Report:
    """An adapter and the spectra of its layers, or of their factors."""

    adapter: Adapter
    spectra: tuple[LayerSpectrum, ...]

    @cached_property
    def summary(self) -> Summary:
        """The report in a few numbers."""
        return summarize(self.spectra)

    def to_dict(self) -> dict[str, Any]:
        """Return what `to_json` writes.

        `adapter` (name, path, format, base_model, config's numbers, findings), `summary` (as `Summary`),
        and `layers`: for each layer the columns of `COLUMNS` by name, with `singular_values`, descending.
        A number that a layer does not have is None.
        """
        return {
            "adapter": adapter_dict(self.adapter),
            "summary": asdict(self.summary),
            "layers": [
                {
                    **{column.name: column.value(spectrum) for column in COLUMNS},
                    "findings": [asdict(finding) for finding in spectrum.findings],
                    "singular_values": spectrum.singular_values.tolist(),
                }
                for spectrum in self.spectra
            ],
        }

    def to_json(self) -> str:
        """Return strict JSON (no NaN or Infinity: null), keys as `to_dict` says, ending in a newline."""
        return dump_json(self.to_dict())

    def to_csv(self, columns: Sequence[Column] = COLUMNS) -> str:
        """Return one row a layer under the columns' names; a missing value is an empty field."""
        return dump_csv(
            [column.name for column in columns],
            ([column.value(spectrum) for column in columns] for spectrum in self.spectra),
        )

    def details(self, *, peft: bool = True) -> pd.DataFrame:
        """Return WeightWatcher's table: its column names, order and numbers (unscaled B·A).

        `details = watcher.analyze(peft=True)` becomes `details = lorabench.analyze(model).details()`.
        With `peft=False` A and B are rows of their own. Layers that WeightWatcher leaves out for their size
        (r < 8) are here too.

        Raises:
            LorabenchError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise LorabenchError("details() needs pandas.", "Run: pip install pandas") from None
        return pd.DataFrame(analyze_rows(self.adapter, peft=peft, every=True))


def analyze(source: Source, *, config: Mapping[str, Any] | object | None = None) -> Report:
    """Open an adapter and compute the spectrum of every layer.

    `source` is a path, a state dict, a PeftModel in memory, or what `open_adapter` gave; `config` tells the
    scaling of a state dict.

    Raises:
        AdapterError: it cannot be read as LoRA; says why.
    """
    adapter = open_adapter(source, config=config)
    return Report(adapter, tuple(spectra_of(adapter)))


def adapter_dict(adapter: Adapter) -> dict[str, Any]:
    """Return what is known of an adapter without reading its weights, for JSON."""
    return {
        "name": visible(adapter.name),
        "path": None if adapter.path is None else visible(adapter.path),
        "files": [visible(file) for file in adapter.files],
        "format": adapter.format,
        "base_model": None if adapter.base_model is None else visible(adapter.base_model),
        "ranks": list(adapter.ranks),
        "target_modules": [visible(module) for module in adapter.target_modules],
        "parameters": adapter.parameters,
        "findings": findings_list(adapter.findings),
    }


def findings_list(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """Return findings as plain dicts with keys level, message, hint."""
    return [
        {"level": finding.level, "message": visible(finding.message), "hint": visible(finding.hint)}
        for finding in findings
    ]


def dump_json(value: object) -> str:
    """Write strict JSON, ending in a newline; what is not finite becomes null."""
    text = json.dumps(_finite(value), indent=2, allow_nan=False)
    return text.replace("\x7f", "\\u007f") + "\n"  # JSON leaves DEL as it is


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def dump_csv(names: Sequence[str], rows: Iterable[Sequence[Value]]) -> str:
    """Write a header and rows as CSV, text made visible; None and what is not finite are empty fields."""
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(
        [visible(value) if isinstance(value, str) else _finite(value) for value in row] for row in rows
    )
    return output.getvalue()
