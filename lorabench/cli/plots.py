"""`--plot`: the pictures of the screens, printed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import plotext

from lorabench.cli.output import Page
from lorabench.spectra.report import Report
from lorabench.text import shorten, visible
from lorabench.widgets import plots

PIPED_WIDTH = 80
HEIGHT = 18
MODULES_DRAWN = 3


def draw_report(report: Report, page: Page) -> str:
    """Draw alpha and norms of all layers, then the spectra of the layers that come first in the table."""
    width = page.width if page.terminal else PIPED_WIDTH
    drawings = [
        _draw(drawer, report.spectra, width, page.coloured)
        for drawer in (plots.alpha_histogram, plots.alpha_by_depth, plots.norm_by_depth)
    ]
    for spectrum in report.spectra[:MODULES_DRAWN]:
        drawings.append(
            f"{shorten(visible(spectrum.layer.name), width)} {spectrum.part}: {spectrum.verdict.word}\n"
        )
        drawings += [
            _draw(drawer, spectrum, width, page.coloured)
            for drawer in (plots.singular_values, plots.eigenvalue_histogram, plots.tail, plots.energy)
        ]
    return "\n" + "\n".join(drawings)


def _draw(drawer: Callable[[Any, Any], None], data: Any, width: int, coloured: bool) -> str:
    plotext.clear_figure()  # plotext draws on one figure of its own
    plotext.theme("clear")
    plotext.limit_size(False, False)
    plotext.plotsize(width, HEIGHT)
    drawer(plotext, data)
    picture = plotext.build()
    return (
        picture
        if coloured
        else "".join(f"{line.rstrip()}\n" for line in plotext.uncolorize(picture).splitlines())
    )
