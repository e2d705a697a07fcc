"""`lorabench base`: an adapter against its base model, layer by layer, and how their alphas go together."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from lorabench.adapters.base_fetch import fetch_base
from lorabench.cli.adapter import adapter_at
from lorabench.cli.describe import add_findings
from lorabench.cli.output import Field, Page, emit
from lorabench.spectra.base_analysis import BaseAnalysis, problems
from lorabench.spectra.base_columns import SHOWN_COLUMNS, to_csv, to_json
from lorabench.spectra.correlation import correlate
from lorabench.text import visible
from lorabench.training.eigenvalues import best_eigenvalues

_Show = Callable[[int], None]
_LEFT_OUT = ("shape", "place", "spectral_ratio", "share", "merged_alpha", "layer", "verdict", "norm_ratio")


def base(path: Path, folder: Path | None, *, merged: bool, style: str, output: Path | None) -> int:
    """Compare an adapter with its base model and print the result; 130 where that was cut short.

    Raises:
        LorabenchError: the adapter or the base model cannot be read.
    """
    adapter = adapter_at(path)
    model = fetch_base(adapter, folder, _say)
    analysis = BaseAnalysis(adapter, model, eigenvalues=best_eigenvalues())
    analysis.look_up()
    whole = _run(analysis, merged)
    if style == "json":
        text = to_json(analysis)
    elif style == "csv":
        text = to_csv(analysis.comparisons)
    else:
        text = _text(analysis, Page.to(output))
    emit(text, output)
    if analysis.cache.failure:
        _say(f"not kept for the next time: {visible(analysis.cache.failure)}")
    if not whole:
        sys.stderr.write("stopped: what is done is shown and kept; the same command goes on from there\n")
    return 0 if whole else 130


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _run(analysis: BaseAnalysis, merged: bool) -> bool:
    """Compute all that is wanted; False where the user stopped it."""
    try:
        with _progress(analysis, merged) as show:
            for index in analysis.compute(merged=merged):
                show(index)
    except KeyboardInterrupt:
        return False
    return True


@contextmanager
def _progress(analysis: BaseAnalysis, merged: bool) -> Iterator[_Show]:
    """Show a bar with the time left, by work and not by layers, on a terminal's standard error."""
    if not sys.stderr.isatty():
        yield lambda _index: None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as progress:
        task = progress.add_task("reading the base", total=None)
        whole = analysis.left(merged=merged)

        def show(index: int) -> None:
            name = visible(analysis.comparisons[index].layer.name)
            done = whole - analysis.left(merged=merged)
            progress.update(task, total=whole, completed=done, description=name)

        yield show


def _text(analysis: BaseAnalysis, page: Page) -> str:
    adapter, comparisons = analysis.adapter, analysis.comparisons
    page.pairs(
        [
            ("adapter", visible(adapter.name if adapter.path is None else adapter.path)),
            ("base", visible(analysis.base.folder)),
        ]
    )
    add_findings(page, analysis.findings)
    shown = [c for c in comparisons if c.base is not None]
    if shown:
        page.line()
        page.table(
            [
                Field(
                    column.title,
                    [column.text(comparison) for comparison in shown],
                    right=column.numeric and column.name not in ("base_alpha", "alpha"),
                    elastic=column.name == "module",
                    keep=_LEFT_OUT.index(column.name) if column.name in _LEFT_OUT else len(_LEFT_OUT),
                )
                for column in SHOWN_COLUMNS
            ]
        )
    page.line()
    page.line("Correlation of base α and LoRA α, over how many layers", "bold")
    page.pairs(correlate(comparisons).facts())
    notes = Counter(c.weight.note for c in shown if c.weight and c.weight.note)
    if notes:
        page.line()
        page.line("Base tensors that are named otherwise than the adapter's modules", "bold")
        page.pairs([(f"{n} {'layer' if n == 1 else 'layers'}", visible(note)) for note, n in notes.items()])
    missing = problems(comparisons)
    if missing:
        page.line()
        page.line(f"{len(missing)} of {len(comparisons)} layers not compared", "bold")
        page.pairs(missing)
    return page.text()
