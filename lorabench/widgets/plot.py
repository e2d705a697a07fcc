"""One plotext picture: what it draws is a function of a figure, drawn anew at each size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.app import RenderResult
from textual_plotext import PlotextPlot

# plotext's figure; it carries no types.
Figure = Any
Draw = Callable[[Figure], None]


class Plot(PlotextPlot):
    """A plotext figure in the theme's colours."""

    picture: Draw | None = None

    def show(self, draw: Draw) -> None:
        """Draw on an empty figure, of the size that the widget then has."""
        self.picture = draw
        self.refresh()

    def render(self) -> RenderResult:
        """Draw, and return the picture."""
        self.plt.clear_figure()
        self.plt.plotsize(*self.size)
        # Labels take the canvas colour of the moment: the theme must be there before them.
        self.plt.theme(self._get_plotext_theme_name(self.app.theme))
        if self.picture is not None:
            self.picture(self.plt)
        return super().render()
