"""One plotext picture: what it draws is a function of a figure, drawn anew at each size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.text import Text
from textual.app import RenderResult
from textual_plotext import PlotextPlot

# plotext's figure; it carries no types.
Figure = Any
Draw = Callable[[Figure], None]


class Plot(PlotextPlot):
    """A plotext figure in the theme's colours, or without any where NO_COLOR is set."""

    picture: Draw | None = None

    def show(self, draw: Draw) -> None:
        """Draw on an empty figure, of the size that the widget then has."""
        self.picture = draw
        self.refresh()

    def render(self) -> RenderResult:
        """Draw, and return the picture."""
        figure: Figure = self.plt
        figure.clear_figure()
        # Else `plotsize` takes at most what it believes to be the terminal, which is not on our stdout.
        figure._limit_size(False, False)
        figure.plotsize(*self.size)
        # Labels take the canvas colour of the moment: the theme must be there before them.
        figure.theme(self._get_plotext_theme_name(self.app.theme))
        if self.picture is not None:
            self.picture(figure)
        drawn = super().render()
        # As greys some of its colours could not be seen.
        return Text(drawn.plain) if self.app.no_color and isinstance(drawn, Text) else drawn
