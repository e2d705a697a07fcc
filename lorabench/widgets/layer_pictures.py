"""The pictures of the layer under the cursor, beside the table that leaves room for them."""

from __future__ import annotations

from functools import partial

from textual.containers import Vertical
from textual.timer import Timer

from lorabench.spectra.model import LayerSpectrum

NARROWEST = 60
WIDEST = 100
# A cursor that runs through the table is not held up by pictures that nobody looks at.
REST_SECONDS = 0.1


class LayerPictures(Vertical):
    """Its singular values and its tail; hidden where there is no layer or too little room."""

    DEFAULT_CSS = "LayerPictures { display: none; height: 1fr; background: $background; }"

    def __init__(self) -> None:
        super().__init__()
        self._spectrum: LayerSpectrum | None = None
        self._rest: Timer | None = None

    def show(self, spectrum: LayerSpectrum | None, room: int) -> None:
        """Show the pictures of a layer, once the cursor rests, in so many columns."""
        self.display = spectrum is not None and room >= NARROWEST
        self.styles.width = min(room, WIDEST)
        if self.display and spectrum is not self._spectrum:
            self._spectrum = spectrum
            if self._rest is not None:
                self._rest.stop()
            self._rest = self.set_timer(REST_SECONDS, self.draw)

    def draw(self) -> None:
        """Draw what is shown; plotext is imported when it is wanted."""
        from lorabench.widgets import plots
        from lorabench.widgets.plot import Plot

        if self._spectrum is None:
            return
        if not self.children:
            self.mount(Plot(), Plot())
        for plot, drawer in zip(self.query(Plot), (plots.singular_values, plots.tail), strict=True):
            plot.show(partial(drawer, spectrum=self._spectrum))
