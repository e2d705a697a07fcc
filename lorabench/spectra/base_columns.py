"""The columns of the table of an adapter against its base, declared once: table, JSON and CSV."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lorabench.spectra.base_analysis import BaseAnalysis, Comparison, problems
from lorabench.spectra.columns import MISSING, Value, format_value
from lorabench.spectra.correlation import correlate
from lorabench.spectra.model import Alpha
from lorabench.spectra.report import dump_csv, dump_json, findings_list
from lorabench.spectra.verdict import written_interval
from lorabench.spectra.weight import WeightSpectrum
from lorabench.text import visible


@dataclass(frozen=True, slots=True)
class BaseColumn:
    """One number of a layer against its base: its name in JSON and CSV, its title, what it is.

    `value` gives None where the layer has no such number; `text` what a table shows of it.
    """

    name: str
    title: str
    help: str
    read: Callable[[Comparison], Value]
    write: Callable[[Comparison], str] | None = None
    numeric: bool = True

    def value(self, comparison: Comparison) -> Value:
        value = self.read(comparison)
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return visible(value) if isinstance(value, str) else value

    def text(self, comparison: Comparison) -> str:
        value = self.value(comparison)
        if value is None:
            return MISSING
        return self.write(comparison) if self.write else format_value(value)


def _base(read: Callable[[WeightSpectrum], Value]) -> Callable[[Comparison], Value]:
    return lambda c: None if c.base is None else read(c.base)


def _fit(read: Callable[[Alpha], Value]) -> Callable[[Comparison], Value]:
    return lambda c: None if c.base is None or c.base.alpha is None else read(c.base.alpha)


def _lora(read: Callable[[Alpha], Value]) -> Callable[[Comparison], Value]:
    return lambda c: None if c.lora.alpha is None else read(c.lora.alpha)


def ratio(comparison: Comparison) -> float:
    """Return ‖ΔW‖/‖W‖, Frobenius; NaN where one is not known."""
    base = comparison.base
    return comparison.lora.frobenius_norm / base.frobenius_norm if base and base.frobenius_norm else math.nan


def _spectral_ratio(comparison: Comparison) -> float:
    base = comparison.base
    return comparison.lora.spectral_norm / base.spectral_norm if base and base.spectral_norm else math.nan


def _merged_alpha(comparison: Comparison) -> Value:
    merged = comparison.merged
    return None if merged is None or merged.fit is None else merged.fit.alpha


def _place(comparison: Comparison) -> Value:
    known = comparison.merged and comparison.lora.spectral_norm > 0 and not _is_zero(comparison)
    return comparison.merged.place if comparison.merged and known else None


def _intruders(comparison: Comparison) -> Value:
    return comparison.merged.intruders if comparison.merged and not _is_zero(comparison) else None


def _is_zero(comparison: Comparison) -> bool:
    return comparison.base is not None and comparison.base.spectral_norm == 0


def _written(alpha: Alpha | None) -> str:
    assert alpha is not None
    return f"{alpha.fit.alpha:.2f} {written_interval(alpha.low, alpha.high)}"


def _two_digits(read: Callable[[Comparison], Value]) -> Callable[[Comparison], str]:
    return lambda c: f"{read(c):.2f}"


def _percent(read: Callable[[Comparison], float]) -> Callable[[Comparison], str]:
    return lambda c: f"{100 * read(c):.3g} %"


BASE_COLUMNS: tuple[BaseColumn, ...] = (
    BaseColumn("layer", "layer", "Depth.", lambda c: c.layer.layer_index),
    BaseColumn("module", "module", "The module's path.", lambda c: c.layer.name, numeric=False),
    BaseColumn("type", "type", "Last part of the path.", lambda c: c.layer.module_type, numeric=False),
    BaseColumn(
        "weight",
        "base tensor",
        "The base model's tensor.",
        lambda c: c.weight.key if c.weight else None,
        numeric=False,
    ),
    BaseColumn(
        "note",
        "note",
        "How it was found: part of a fused one, tied, or under another prefix than the adapter's.",
        lambda c: (c.weight.note or None) if c.weight else None,
        numeric=False,
    ),
    BaseColumn(
        "shape",
        "shape",
        "out × in.",
        lambda c: f"{c.layer.shape[0]}×{c.layer.shape[1]}",
        numeric=False,
    ),
    BaseColumn(
        "base_alpha",
        "base α [90 % interval]",
        "Power-law exponent of all eigenvalues σ² of W.",
        _fit(lambda a: a.fit.alpha),
        lambda c: _written(c.base.alpha if c.base else None),
    ),
    BaseColumn("base_alpha_low", "base α low", "Its 90 % interval.", _fit(lambda a: a.low)),
    BaseColumn("base_alpha_high", "base α high", "Its 90 % interval.", _fit(lambda a: a.high)),
    BaseColumn("base_verdict", "base verdict", "W's class.", _base(lambda b: b.verdict), numeric=False),
    BaseColumn(
        "alpha",
        "LoRA α [90 % interval]",
        "Power-law exponent of ΔW.",
        _lora(lambda a: a.fit.alpha),
        lambda c: _written(c.lora.alpha),
    ),
    BaseColumn("alpha_low", "LoRA α low", "Its 90 % interval.", _lora(lambda a: a.low)),
    BaseColumn("alpha_high", "LoRA α high", "Its 90 % interval.", _lora(lambda a: a.high)),
    BaseColumn("verdict", "LoRA verdict", "ΔW's class.", lambda c: c.lora.verdict.word, numeric=False),
    BaseColumn(
        "merged_alpha",
        "W+ΔW α",
        "Power-law exponent of W + ΔW.",
        _merged_alpha,
        _two_digits(_merged_alpha),
    ),
    BaseColumn("norm_ratio", "‖ΔW‖/‖W‖", "Ratio of the Frobenius norms.", ratio),
    BaseColumn("spectral_ratio", "σ₁/σ₁(W)", "Ratio of the spectral norms.", _spectral_ratio),
    BaseColumn(
        "intruders",
        "intruders",
        "Intruder dimensions: of the 10 leading left singular vectors of W + ΔW, those whose |cos| with each "
        "of W's is below 0.5 (Shuttleworth et al. 2024).",
        _intruders,
    ),
    BaseColumn(
        "share",
        "in W's top 10",
        "Share of ‖ΔW‖² between the 10 leading left and right directions of W.",
        lambda c: c.share,
        _percent(lambda c: c.share),
    ),
    BaseColumn(
        "place",
        "σ place",
        "Where ΔW's first direction v₁ lies in W's spectrum: 1 is among what W amplifies most "
        "(1 + how many singular values of W exceed ‖W·v₁‖).",
        _place,
        lambda c: f"{_place(c)}/{min(c.layer.shape)}",
    ),
    BaseColumn("base_norm", "‖W‖", "Frobenius norm.", _base(lambda b: b.frobenius_norm)),
    BaseColumn("base_sigma1", "σ₁(W)", "Spectral norm.", _base(lambda b: b.spectral_norm)),
    BaseColumn("base_stable_rank", "stable rank", "Σσ²/σ₁² of W.", _base(lambda b: b.stable_rank)),
    BaseColumn("base_effective_rank", "eff. rank", "exp of the entropy.", _base(lambda b: b.effective_rank)),
    BaseColumn("base_rank90", "r 90 %", "Rank of 90 % of the energy.", _base(lambda b: b.rank90)),
    BaseColumn("base_rank95", "r 95 %", "Rank of 95 % of the energy.", _base(lambda b: b.rank95)),
    BaseColumn("base_rank99", "r 99 %", "Rank of 99 % of the energy.", _base(lambda b: b.rank99)),
    BaseColumn("base_tail", "n", "Eigenvalues in the fitted tail.", _fit(lambda a: a.fit.tail)),
    BaseColumn("base_points", "points", "Eigenvalues above rounding.", _fit(lambda a: a.fit.points)),
    BaseColumn("base_ks", "KS", "Kolmogorov-Smirnov distance.", _fit(lambda a: a.fit.ks)),
    BaseColumn("base_xmin", "x_min", "Where the tail begins.", _fit(lambda a: a.fit.xmin)),
    BaseColumn("problem", "problem", "Why there is no base.", lambda c: c.problem or None, numeric=False),
)

_SHOWN = (
    "layer", "module", "shape", "base_alpha", "alpha", "verdict", "merged_alpha",
    "norm_ratio", "spectral_ratio", "intruders", "share", "place",
)  # fmt: skip
SHOWN_COLUMNS = tuple(column for column in BASE_COLUMNS if column.name in _SHOWN)


def to_csv(comparisons: Sequence[Comparison]) -> str:
    """Return one row a layer under the columns' names; a missing value is an empty field."""
    names = [column.name for column in BASE_COLUMNS]
    return dump_csv(names, ([column.value(c) for column in BASE_COLUMNS] for c in comparisons))


def to_dict(analysis: BaseAnalysis) -> dict[str, Any]:
    """Return adapter, base, correlations, layers (by `BASE_COLUMNS`), findings and what was not compared."""
    adapter, correlations = analysis.adapter, correlate(analysis.comparisons)
    return {
        "adapter": visible(adapter.name),
        "base": visible(analysis.base.folder),
        "correlation": {**asdict(correlations), "sentence": correlations.sentence},
        "layers": [
            {column.name: column.value(comparison) for column in BASE_COLUMNS}
            for comparison in analysis.comparisons
        ],
        "findings": [
            {"module": visible(name), **findings_list([finding])[0]} for name, finding in analysis.findings
        ],
        "problems": [{"module": name, "reason": why} for name, why in problems(analysis.comparisons)],
    }


def to_json(analysis: BaseAnalysis) -> str:
    """Return what `to_dict` does as strict JSON, ending in a newline."""
    return dump_json(to_dict(analysis))
