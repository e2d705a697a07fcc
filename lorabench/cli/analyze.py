"""`lorabench analyze`: what the update became, as a table, JSON, CSV or plots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lorabench.adapters.model import Adapter
from lorabench.cli.adapter import adapter_at
from lorabench.cli.describe import adapter_facts, add_findings
from lorabench.cli.output import Field, Page, with_progress
from lorabench.spectra.analysis import analyze_factors, spectra_of
from lorabench.spectra.columns import COLUMNS, LAYER_COLUMNS, Column, format_value, pick
from lorabench.spectra.expression import parse_filter, sort_spectra
from lorabench.spectra.model import LayerSpectrum
from lorabench.spectra.parity_columns import PARITY_COLUMNS, PARITY_VIEW
from lorabench.spectra.report import Extreme, Mean, Report, Summary, dump_csv, dump_json, mean_of, summarize
from lorabench.spectra.weightwatcher import Row, parity_row

_FACTOR_COLUMNS = tuple(
    replace(column, title="norm") if column.name == "norm" else column
    for column in pick(
        COLUMNS, "layer module part shape norm sigma1 stable_rank effective_rank rank90 alpha tail verdict"
    )
)
# What a narrow terminal leaves out first; what is not here goes before.
_LEFT_OUT = (
    *("stable_rank", "effective_rank", "rank90", "scaling", "shape", "sigma1", "sigma", "tail"),
    *(
        "num_pl_spikes",
        "num_evals",
        "D",
        "r",
        "layer",
        "norm",
        "warning",
        "verdict",
        "alpha",
        "part",
        "adapter",
    ),
)


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks `analyze` for; `style` is text, json or csv."""

    style: str = "text"
    weightwatcher: bool = False
    factors: bool = False
    sort: str = ""
    filter: str = ""
    plot: bool = False

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns that filter and sort know: WeightWatcher's names come first where they are shown."""
        return (*PARITY_COLUMNS, *COLUMNS) if self.weightwatcher else COLUMNS

    def shown(self, adapter: Adapter) -> tuple[Column, ...]:
        """The columns of the printed table: the adapter's name where there are several in one."""
        columns = PARITY_VIEW if self.weightwatcher else _FACTOR_COLUMNS if self.factors else LAYER_COLUMNS
        layer, module, *rest = columns
        more = pick(COLUMNS, "adapter") if adapter.is_several else ()
        if self.weightwatcher and self.factors:
            more = (*more, *pick(COLUMNS, "part"))
        return (layer, module, *more, *rest)


def analyze(path: Path, page: Page, options: Options) -> str:
    """Compute the spectra of an adapter's layers and return the report as `options.style` says."""
    fits = parse_filter(options.filter, options.columns)
    if options.sort:
        sort_spectra([], options.sort, options.columns)  # a typo shows before the work, not after
    adapter = adapter_at(path)
    count = len(adapter.layers) * (2 if options.factors else 1)
    stream = _factor_spectra(adapter) if options.factors else spectra_of(adapter)
    spectra = [spectrum for spectrum in with_progress(stream, count, "analyzing") if fits(spectrum)]
    if options.sort:
        spectra = sort_spectra(spectra, options.sort, options.columns)
    report = Report(adapter, tuple(spectra))
    if options.style == "json":
        return dump_json(_parity_rows(report)) if options.weightwatcher else report.to_json()
    if options.style == "csv":
        if not options.weightwatcher:
            return report.to_csv()
        rows = _parity_rows(report)
        return dump_csv(list(rows[0]) if rows else [], [list(row.values()) for row in rows])
    _fill(page, report, count, options)
    return page.text() + (_plots(report, page) if options.plot else "")


def _factor_spectra(adapter: Adapter) -> Iterator[LayerSpectrum]:
    for layer in adapter.layers:
        yield from analyze_factors(layer)


def _fill(page: Page, report: Report, count: int, options: Options) -> None:
    page.pairs(adapter_facts(report.adapter)[:6])
    page.line()
    add_table(page, options.shown(report.adapter), report.spectra)
    page.line()
    shown = len(report.spectra)
    filtered = [("filter", f"{shown} of {count} rows fit")] if shown < count else []
    if options.factors and not options.weightwatcher:
        page.pairs(filtered)
        for part in ("A", "B"):
            page.line(f"{part} alone", "bold")
            page.pairs(summary_facts([s for s in report.spectra if s.part == part]))
    else:
        summary = parity_facts if options.weightwatcher else summary_facts
        page.pairs([*filtered, *summary(report.spectra)])
    add_findings(
        page,
        [("", finding) for finding in report.adapter.findings]
        + [(s.layer.name, finding) for s in report.spectra for finding in s.findings],
    )


def add_table(page: Page, columns: Sequence[Column], spectra: Sequence[LayerSpectrum]) -> None:
    """Add the layers as a table of these columns."""
    if not spectra:
        page.line("No layer fits the filter.")
        return
    page.table(
        [
            Field(
                column.title,
                [column.text(spectrum) for spectrum in spectra],
                right=column.numeric and column.name != "alpha",
                elastic=column.name in ("module", "name"),
                keep=_LEFT_OUT.index(column.name) if column.name in _LEFT_OUT else -1,
            )
            for column in columns
        ]
    )


def summary_facts(spectra: Sequence[LayerSpectrum]) -> list[tuple[str, str]]:
    """Return the summary of layers as pairs of a name and a text."""
    summary = summarize(spectra)
    words = " · ".join(f"{number} {word}" for word, number in summary.verdicts.items())
    facts = [
        ("verdicts", words),
        ("alpha", _mean(summary.alpha, "all that have one")),
        ("", _mean(summary.alpha_decided, "those with a decided verdict")),
        ("", _range(summary.alpha_smallest, summary.alpha_largest)),
        ("norm", _norm(summary)),
    ]
    return [(name, text) for name, text in facts if text]


def parity_facts(spectra: Sequence[LayerSpectrum]) -> list[tuple[str, str]]:
    """Return the summary of WeightWatcher's alphas and warnings."""
    alpha, warning = pick(PARITY_COLUMNS, "alpha warning")
    alphas = [float(value) for s in spectra if (value := alpha.value(s)) not in (None, -1)]
    warnings = Counter(warning.value(s) or "without a warning" for s in spectra)
    return [
        ("warnings", " · ".join(f"{number} {word}" for word, number in warnings.items())),
        ("alpha", _mean(mean_of(alphas), "all whose fit succeeded") or "no fit succeeded"),
    ]


def _mean(mean: Mean | None, of_what: str) -> str:
    if mean is None:
        return ""
    deviation = "" if mean.deviation is None else f" ± {mean.deviation:.2f}"
    layers = "1 layer" if mean.layers == 1 else f"{mean.layers} layers"
    return f"mean {mean.mean:.2f}{deviation} over {layers}, {of_what}"


def _range(smallest: Extreme | None, largest: Extreme | None) -> str:
    if smallest is None or largest is None or smallest == largest:
        return ""
    return f"from {smallest.value:.2f} ({smallest.module}) to {largest.value:.2f} ({largest.module})"


def _norm(summary: Summary) -> str:
    largest = summary.norm_largest
    if largest is None or largest.value == 0:
        return ""
    in_all, most = format_value(summary.norm), format_value(largest.value)
    return f"{in_all} in all, √Σ‖·‖²; the largest {most} ({largest.module})"


def _parity_rows(report: Report) -> list[Row]:
    """Return WeightWatcher's columns of every layer shown, small ones too, with its numbers of the layers."""
    adapter = report.adapter
    tensors = [source for layer in adapter.layers for source in (layer.source_a, layer.source_b)]
    tensors += [other.tensor for other in adapter.others]
    names = sorted(tensor.name for tensor in tensors if tensor.name.endswith(".weight"))
    numbers = {name: number for number, name in enumerate(names)}
    rows = []
    for spectrum in report.spectra:
        source = spectrum.layer.source_b if spectrum.part == "B" else spectrum.layer.source_a
        rows.append(parity_row(spectrum, numbers.get(source.name, len(names))))
    return rows


def _plots(report: Report, page: Page) -> str:
    from lorabench.cli.plots import draw_report

    return draw_report(report, page)
