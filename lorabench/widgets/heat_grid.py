"""A grid of layer × module: one number of every layer at a glance, its size as a shade."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.style import Style
from rich.text import Text
from textual.color import Color

from lorabench.spectra.columns import MISSING, Column
from lorabench.spectra.model import LayerSpectrum
from lorabench.text import shorten, visible
from lorabench.widgets.row_table import RowTable

Place = tuple[str, str]
CELL_WIDTH = 9
LABEL_WIDTH = 50


def places_of(spectra: Sequence[LayerSpectrum]) -> list[Place]:
    """Return each layer's (row, column): its depth and module type, or the path before its type.

    The path is the row where depth and type do not tell all layers apart (a UNet's blocks, experts). With
    several adapters in one file the row begins with the adapter's name.
    """
    layers = [spectrum.layer for spectrum in spectra]
    several = len({layer.adapter for layer in layers}) > 1
    names = [f"{layer.adapter} " if several else "" for layer in layers]
    types = [visible(layer.module_type) for layer in layers]
    depths = ["–" if layer.layer_index is None else str(layer.layer_index) for layer in layers]
    places = [(visible(name + depth), kind) for name, depth, kind in zip(names, depths, types, strict=True)]
    if len(set(places)) == len(places):
        return places
    paths = [layer.name.rpartition(layer.module_type)[0].rstrip(".") for layer in layers]
    return [(visible(name + path), kind) for name, path, kind in zip(names, paths, types, strict=True)]


class HeatGrid(RowTable):
    """Rows are layers, columns are module types; a cell's number is shaded from the least to the greatest."""

    def __init__(self, id: str) -> None:
        super().__init__(cursor_type="cell", cursor_background_priority="css", id=id)
        self.at: dict[Place, LayerSpectrum] = {}
        self.rows_shown: list[str] = []
        self.types_shown: list[str] = []

    def show(self, column: Column, spectra: Sequence[LayerSpectrum]) -> None:
        """Show one numeric column of all layers."""
        cursor = self.cursor_coordinate
        self.clear(columns=True)
        places = places_of(spectra)
        self.at = dict(zip(places, spectra, strict=True))
        self.rows_shown = list(dict.fromkeys(row for row, _ in places))
        self.types_shown = list(dict.fromkeys(kind for _, kind in places))
        values = [float(value) for s in spectra if (value := column.value(s)) is not None]
        for kind in self.types_shown:
            self.add_column(
                Text(shorten(kind, 16), justify="right"), width=max(CELL_WIDTH, min(16, len(kind)))
            )
        for row in self.rows_shown:
            cells = (self._cell(column, (row, kind), values) for kind in self.types_shown)
            self.add_row(*cells, label=Text(shorten(row, LABEL_WIDTH)))
        self.cursor_coordinate = cursor

    @property
    def current(self) -> LayerSpectrum | None:
        """The layer under the cursor."""
        row, column = self.cursor_coordinate
        if row >= len(self.rows_shown) or column >= len(self.types_shown):
            return None
        return self.at.get((self.rows_shown[row], self.types_shown[column]))

    def _cell(self, column: Column, place: Place, values: list[float]) -> Text:
        spectrum = self.at.get(place)
        if spectrum is None:
            return Text("")
        value = column.value(spectrum)
        if value is None:
            return Text(MISSING, justify="right")
        number = column.text(spectrum).split(" ")[0]
        return Text(number, style=self._shade(float(value), min(values), max(values)), justify="right")

    def _shade(self, value: float, low: float, high: float) -> Style:
        """From the screen's surface at the least value to the theme's primary colour at the greatest."""
        share = (value - low) / (high - low) if high > low and math.isfinite(value) else 0.0
        variables = self.app.theme_variables
        back = Color.parse(variables["surface"]).blend(Color.parse(variables["primary"]), share)
        return Style(bgcolor=back.rich_color, color=back.get_contrast_text(1.0).rich_color)
