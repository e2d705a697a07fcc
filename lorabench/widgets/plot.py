"""One plotext picture: what it draws is a function of a figure, drawn again only when it changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual_plotext import PlotextPlot

# plotext's figure; it carries no types.
Figure = Any
Draw = Callable[[Figure], None]


class Plot(PlotextPlot):
    """A plotext figure in the theme's colours."""

    def show(self, draw: Draw) -> None:
        """Draw on an empty figure."""
        self.plt.clear_figure()
        # Labels take the canvas colour of the moment: the theme must be there before them.
        self.plt.theme(self._get_plotext_theme_name(self.app.theme))
        draw(self.plt)
        self.refresh()
