"""Screen 4: the table of layers, or one of their numbers as a grid."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import ContentSwitcher, DataTable, Static

from lorabench.adapters.model import Adapter
from lorabench.errors import ExpressionError
from lorabench.files import is_file, replace_text
from lorabench.runs.history import RUN_FILE
from lorabench.screens.dialogs import ChoiceDialog
from lorabench.screens.layer_view import HEAT_COLUMNS, HOW_TO_READ, LayerView, short_title, with_interval
from lorabench.screens.work_screen import WorkScreen, Writer
from lorabench.spectra.columns import Column
from lorabench.spectra.model import VERDICTS, LayerSpectrum
from lorabench.spectra.report import Report
from lorabench.text import visible
from lorabench.widgets.filter_line import FilterLine
from lorabench.widgets.heat_grid import HeatGrid
from lorabench.widgets.layer_pictures import LayerPictures
from lorabench.widgets.layer_table import LayerTable, pending


class LayersScreen(WorkScreen):
    """One row a module: what its update became."""

    mode = "layers"
    HELP = HOW_TO_READ
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "slash", "filter", "filter", key_display="/", id="layers.filter", tooltip="text or an expression"
        ),
        Binding(
            "o", "order", "order", id="layers.order", tooltip="order the table by a column; again reverses"
        ),
        Binding("h", "heat", "grid", id="layers.heat", tooltip="a grid of layer × module"),
        Binding("f", "factors", "factors", id="layers.factors", tooltip="ΔW, or its factors A and B"),
        Binding("w", "parity", "WeightWatcher", id="layers.parity", tooltip="WeightWatcher's columns"),
        Binding("2", "config", "Config", show=False, id="layers.config", tooltip="this run's configuration"),
        Binding("s", "save", "save", id="screen.save", tooltip="save the table or a picture"),
        Binding("y", "copy", "copy", id="layers.copy", tooltip="copy the row as JSON"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.view = LayerView()
        self.heat_column = "alpha"
        self.waiting: dict[int, LayerSpectrum] = {}
        self.adapter: Adapter | None = None

    def body(self) -> ComposeResult:
        yield FilterLine("text in a module's name, or alpha<2 and module~v_proj")
        with Horizontal(id="layers"):
            with ContentSwitcher(initial="table", id="views"):
                table = LayerTable(id="table")
                table.is_pending = self.is_waiting
                yield table
                yield HeatGrid(id="heat")
            yield LayerPictures()
        with Vertical(id="foot"):
            yield Static(id="why")
            yield Static(id="counts")

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one(LayerTable).focus()
        self.app.theme_changed_signal.subscribe(self, self.repaint)

    def repaint(self, _theme: object) -> None:
        """Take the colours of another theme."""
        self.query_one(LayerTable).forget()
        self.show_analysis()

    def all_spectra(self) -> list[LayerSpectrum]:
        """What is known of every layer, pending ones included, in the order of the adapter."""
        spectra = self.analysis.spectra
        if self.view.factors:
            return [factor for pair in zip(spectra["A"], spectra["B"], strict=False) for factor in pair]
        adapter = self.analysis.adapter
        known = spectra["ΔW"]
        rest = adapter.layers[len(known) :] if adapter else ()
        self.waiting = {id(layer): self.waiting.get(id(layer)) or pending(layer) for layer in rest}
        return [*known, *self.waiting.values()]

    def is_waiting(self, spectrum: LayerSpectrum) -> bool:
        """Whether this is only the place of a layer that is still to be computed."""
        return self.waiting.get(id(spectrum.layer)) is spectrum

    def shown_spectra(self) -> list[LayerSpectrum]:
        """The layers that the view shows, in its order; pending ones only where no number is asked for."""
        spectra = self.all_spectra()
        if self.view.needs_numbers:
            spectra = [spectrum for spectrum in spectra if not self.is_waiting(spectrum)]
        return self.view.select(spectra)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the table as it is now."""
        adapter = self.analysis.adapter
        return self.view.columns(adapter.layers if adapter else (), self.size.width)

    def show_analysis(self) -> None:
        """Fill the view that is shown."""
        if self.analysis.adapter is not self.adapter:
            self.begin_anew()
        self.set_class(self.analysis.adapter is None, "-empty")
        self.refresh_bindings()
        if self.analysis.adapter is None:
            self.query_one(LayerTable).forget()
            self.query_one(HeatGrid).clear(columns=True)
            self.query_one("#why", Static).update(Text(self.analysis.nothing))
            self.query_one("#counts", Static).update("")
            return
        try:
            spectra = self.shown_spectra()
        except ExpressionError as error:
            self.query_one(FilterLine).complain(str(error))
            return
        self.query_one(FilterLine).complain("")
        if self.heat:
            self.query_one(HeatGrid).show(self.heat_of, spectra)
        else:
            fit = self.analysis.state == "done"
            self.query_one(LayerTable).show(self.columns, spectra, fit=fit)
        self.show_counts(spectra)
        self.show_reason()

    def begin_anew(self) -> None:
        """Another adapter is open: no filter, order or view of the one before it holds."""
        self.adapter = self.analysis.adapter
        self.view = LayerView()
        self.query_one(FilterLine).action_clear()

    @property
    def heat(self) -> bool:
        """Whether the grid is shown."""
        return self.query_one(ContentSwitcher).current == "heat"

    @property
    def heat_of(self) -> Column:
        """The column that the grid shows."""
        return next(column for column in HEAT_COLUMNS if column.name == self.heat_column)

    @property
    def current(self) -> LayerSpectrum | None:
        """The layer under the cursor."""
        return self.query_one(HeatGrid).current if self.heat else self.query_one(LayerTable).current

    def show_counts(self, shown: list[LayerSpectrum]) -> None:
        """Say how many layers there are, how many of them are shown, and what these became."""
        done, total = self.analysis.progress
        words = [each.verdict.word for each in shown if not self.is_waiting(each)]
        counts = " · ".join(f"{words.count(word)} {word}" for word in VERDICTS if word in words)
        progress = f"computing {done}/{total}   " if self.analysis.state == "analysing" else ""
        rows = f"{len(shown)} of {len(self.all_spectra())} rows"
        left_out = self.query_one(LayerTable).left_out
        if left_out and not self.heat:
            rows += f" ({left_out} more: filter to see them)"
        by = self.view.order
        order = f"by {by.removeprefix('-')} {'↓' if by.startswith('-') else '↑'}   " if by else ""
        grid = f"grid of {short_title(self.heat_of)}   " if self.heat else ""
        text = f"{progress}{grid}{rows}   {order}{counts}"
        self.query_one("#counts", Static).update(Text(text, no_wrap=True, overflow="ellipsis"))

    @on(DataTable.RowHighlighted)
    @on(DataTable.CellHighlighted)
    def show_reason(self) -> None:
        """Say of the layer under the cursor its whole name, why it has its verdict, and what was found."""
        spectrum = self.current
        why = Text(overflow="ellipsis")
        if spectrum is not None:
            why.append(visible(spectrum.layer.name), style="bold")
            if not self.is_waiting(spectrum):
                why.append("  " + visible(" ".join(self.sentences(spectrum))))
        self.query_one("#why", Static).update(why)
        shown = self.query_one(HeatGrid) if self.heat else self.query_one(LayerTable)
        self.query_one(LayerPictures).show(spectrum, self.size.width - shown.whole_width)

    def sentences(self, spectrum: LayerSpectrum) -> list[str]:
        """What stands below the table of a layer: of which numbers it speaks, the reason, the findings."""
        if self.view.parity:
            return ["WeightWatcher's numbers, of the unscaled B·A above 1e-5. Ours:", spectrum.verdict.reason]
        return list(dict.fromkeys([spectrum.verdict.reason, *(each.message for each in spectrum.findings)]))

    @on(DataTable.RowSelected)
    @on(DataTable.CellSelected)
    def show_spectrum(self) -> None:
        """Show the pictures of the module under the cursor."""
        spectrum = self.current
        if spectrum is not None:
            self.workbench.show_spectrum(spectrum)

    @on(DataTable.HeaderSelected)
    def order_by_header(self, event: DataTable.HeaderSelected) -> None:
        """Order by the column whose title was clicked; again reverses."""
        if not self.heat:
            self.order_by(self.columns[event.column_index])

    def order_by(self, column: Column) -> None:
        """Order by a column; again reverses."""
        self.view.order_by(column)
        self.show_analysis()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Show only the keys that have an effect now."""
        needs_adapter = action in ("filter", "order", "heat", "factors", "parity", "copy")
        return super().check_action(action, parameters) and not (needs_adapter and self.adapter is None)

    def action_order(self) -> None:
        """Choose the column to order by, or the number that the grid shows."""
        columns = HEAT_COLUMNS if self.heat else self.columns

        def chosen(at: int | None) -> None:
            if at is not None and self.heat:
                self.heat_column = columns[at].name
            elif at is not None and at < len(columns):
                self.view.order_by(columns[at])
            elif at is not None:
                self.view.order = ""
            self.show_analysis()

        choices = [f"{short_title(column):<12} {column.help}" for column in columns]
        choices += [] if self.heat else ["as in the file: by depth"]
        self.app.push_screen(ChoiceDialog("show in the grid" if self.heat else "order by", choices), chosen)

    async def action_config(self) -> None:
        """Open the configuration of the run that this adapter, or checkpoint, is of, where it has one."""
        path = self.analysis.path
        own = [at / RUN_FILE for at in (path, path.parent) if is_file(at / RUN_FILE)] if path else []
        if own:
            self.workbench.open_config(own[0])
        else:
            await self.run_action("app.show('config')")

    def action_heat(self) -> None:
        """Switch between the table and the grid."""
        views = self.query_one(ContentSwitcher)
        self.view.factors = False
        if not any(spectrum.alpha for spectrum in self.analysis.spectra["ΔW"]):
            self.heat_column = "norm"
        views.current = "table" if self.heat else "heat"
        self.show_analysis()
        self.query_one(f"#{views.current}").focus()

    def action_factors(self) -> None:
        """Switch between ΔW and its factors."""
        self.view.show_factors()
        self.query_one(ContentSwitcher).current = "table"
        if self.view.factors:
            self.analysis.want_factors()
        self.show_analysis()

    def action_parity(self) -> None:
        """Switch between our columns and WeightWatcher's."""
        self.view.show_parity()
        self.query_one(ContentSwitcher).current = "table"
        self.show_analysis()

    @on(FilterLine.Changed)
    def apply_filter(self, event: FilterLine.Changed) -> None:
        """Show only the layers that the filter lets through."""
        self.view.filter_text = event.text.strip()
        self.show_analysis()

    def on_resize(self) -> None:
        self.call_after_refresh(self.show_analysis)

    def action_copy(self) -> None:
        """Copy all that is known of the layer under the cursor."""
        if self.current is not None and self.analysis.adapter is not None:
            self.copy(Report(self.analysis.adapter, (self.current,)).to_json(), "the layer as JSON")

    def writers(self) -> dict[str, tuple[str, Writer]]:
        """The table as shown, all numbers, or a picture."""
        if self.analysis.adapter is None:
            return super().writers()
        try:
            report = Report(self.analysis.adapter, tuple(self.shown_spectra()))
        except ExpressionError:
            return super().writers()

        def write_csv(path: Path) -> None:
            replace_text(path, report.to_csv(with_interval(self.columns)))

        return {
            ".csv": ("the table as it is shown", write_csv),
            ".json": ("all numbers of the layers shown", lambda path: replace_text(path, report.to_json())),
            **super().writers(),
        }
