"""Screen 6: the adapter against its base model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, Vertical
from textual.widgets import ContentSwitcher, DataTable, Static

from lorabench.files import replace_text
from lorabench.screens.base_work import BaseWork
from lorabench.screens.work_screen import WorkScreen, Writer
from lorabench.spectra.base_analysis import problems
from lorabench.spectra.base_columns import to_csv, to_json
from lorabench.spectra.correlation import correlate
from lorabench.text import human_duration, shorten, visible
from lorabench.widgets import base_plots
from lorabench.widgets.base_table import BaseTable
from lorabench.widgets.filter_line import Line
from lorabench.widgets.plot import Plot

SOON = 2e10
"""Operations for eigenvalues that take a few seconds: so little is computed without being asked for."""
BAR = 24
DRAWERS = (base_plots.alpha_scatter, base_plots.ratio_by_depth, base_plots.intruders_by_depth)


class BaseScreen(WorkScreen):
    """Three pictures of the adapter against its base, or the table behind them."""

    mode = "base"
    HELP = """
W is the base weight, ΔW what the adapter adds. What was computed of W is kept on disk, by the base model's
file: the next adapter of the same base is answered at once. `c` computes what is not known yet, layer by
layer, and stops it; `b` names another base model; `t` shows the table.

## The pictures

- **Base α and LoRA α**: one point a layer. Lines stand at base α 6, above which W has no heavy tail, and at
  LoRA α 2, below which ΔW is suspected of over-fitting. WeightWatcher's authors saw that the larger α of the
  base, the smaller α of the update. A dot is a layer of which one α is undecided; the title's correlation is
  over the others.
- **‖ΔW‖/‖W‖ by depth**: how large the update is for what it changes.
- **Intruders by depth**: of the ten leading directions of W + ΔW, those that no direction of W comes near
  (|cos| below 0.5; Shuttleworth et al. 2024). They go with forgetting what the base knew.

## The table

*W+ΔW α* is that of the merged weight; *in W's top 10* the share of ‖ΔW‖² between the ten leading left and
right directions of W; *σ place* tells where ΔW's first direction lies in W's spectrum: `1/896` is among what
W amplifies most of all, `896/896` among what it hardly passes on. `enter` shows the spectrum of ΔW.
"""
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "compute", "compute", id="base.compute", tooltip="compute what is not known, or stop"),
        Binding("t", "table", "table", id="base.table", tooltip="the table, or the pictures"),
        Binding("p", "picture", "picture", id="base.picture", tooltip="the next picture, where one fits"),
        Binding("b", "base", "base", id="base.base", tooltip="name the base model's folder"),
        Binding("y", "copy", "copy", show=False, id="base.copy", tooltip="copy what is shown as JSON"),
        Binding("escape", "leave", "layers", show=False, id="base.back"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.work = BaseWork(lambda *call: self.app.call_later(*call), self.show_work)
        self.picture = 0

    def on_mount(self) -> None:
        super().on_mount()
        self.work.find_eigenvalues = self.workbench.find_eigenvalues

    def body(self) -> ComposeResult:
        with Vertical(id="base-heading"):
            yield Static(id="base-title")
            yield Static(id="base-facts")
        yield BaseName()
        with ContentSwitcher(initial="base-plots", id="base-views"):
            with Grid(id="base-plots"):
                for number in range(len(DRAWERS)):
                    yield Plot(id=f"base-plot{number}")
            yield BaseTable()
        yield Static(id="base-foot")

    def show_analysis(self) -> None:
        """Turn to the adapter that is open."""
        adapter = self.analysis.adapter
        if adapter is not None and adapter is not self.work.adapter:
            self.work.open(adapter)
        else:
            self.show_work()

    def show_work(self) -> None:
        """Show how far the comparison has come; a small one goes on by itself."""
        if not self.is_mounted:
            return
        work = self.work
        if work.state == "stopped" and work.analysis and 0 < work.analysis.left() < SOON and not work.asked:
            work.compute()
            return
        self.query_one("#base-title", Static).update(self.heading())
        self.query_one("#base-facts", Static).update(Text("\n".join(self.facts()), overflow="ellipsis"))
        if self.is_current:
            if self.table_shown:
                self.query_one(BaseTable).show(self.work.comparisons)
            else:
                self.draw()
            self.show_row()
        self.refresh_bindings()

    def heading(self) -> Text:
        """Say what is compared with what, and how far it has come."""
        work, line = self.work, Text(no_wrap=True, overflow="ellipsis")
        if work.adapter is None:
            return line.append(self.analysis.nothing)
        base = work.analysis.base.folder if work.analysis else work.adapter.base_model
        progress = f"   {self.progress_text()}"
        name, against = visible(work.adapter.name), " against "
        room = self.size.width - 2 - len(name) - len(against) - len(progress)
        line.append(name, "bold").append(against)
        line.append(shorten(visible(base or "a base model that it does not name"), max(room, 12)), "bold")
        return line.append(progress)

    def progress_text(self) -> str:
        """Say how many layers are compared, with a bar and the time left while it goes on."""
        work = self.work
        if work.state == "opening":
            return "looking for it …"
        if work.analysis is None:
            return ""
        known = sum(c.merged is not None for c in work.comparisons)
        counts = f"{known} of {len(work.comparisons)} layers"
        if work.state == "computing":
            full = round(BAR * work.progress)
            left = work.seconds_left
            time_left = "" if left is None else f"  {human_duration(left)} left"
            return f"{'━' * full}{'╌' * (BAR - full)} {counts}{time_left}"
        return f"{counts}   c computes the others" if work.analysis.left() else counts

    def facts(self) -> list[str]:
        """Return the correlations, or why there are none."""
        work = self.work
        if work.error is not None:
            return [f"{work.error.message} {work.error.hint}".strip()]
        if not work.comparisons:
            return []
        missing = problems(work.comparisons)
        warned = (
            [f.message for _, f in work.analysis.findings if f.level == "warning"] if work.analysis else []
        )
        lines = [f"▲ {visible(message)}" for message in warned[:1]]
        lines += [f"{of}  {text}" if of else text for of, text in correlate(work.comparisons).facts()[:2]]
        if missing:
            name, why = missing[0]
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            lines.append(f"not compared: {name}{more}: {why}")
        elif work.analysis is not None and work.analysis.cache.failure:
            lines.append(f"not kept for the next time: {visible(work.analysis.cache.failure)}")
        return lines

    @property
    def one(self) -> bool:
        """Whether only one picture fits."""
        return self.has_class("-narrow") or self.has_class("-low")

    def draw(self) -> None:
        """Draw the pictures: all three, or one where only one fits."""
        one, at = self.one, self.picture % len(DRAWERS)
        for number, (plot, drawer) in enumerate(zip(self.query(Plot), DRAWERS, strict=True)):
            plot.display = not one or number == at
            if plot.display:
                comparisons = list(self.work.comparisons)
                plot.show(partial(drawer, comparisons=comparisons))
        self.query_one("#base-plots").set_class(one, "-one")

    @on(DataTable.RowHighlighted)
    def show_row(self) -> None:
        """Say of the layer under the cursor its whole name, its tensor, and what is wrong with it."""
        foot, row = self.query_one("#base-foot", Static), self.query_one(BaseTable).cursor_row
        comparisons = self.work.comparisons
        foot.display = self.table_shown and 0 <= row < len(comparisons)
        if foot.display:
            comparison = comparisons[row]
            weight = comparison.weight
            what = comparison.problem or (f"{weight.key} {weight.note}".strip() if weight else "")
            line = Text(overflow="ellipsis").append(visible(comparison.layer.name), "bold")
            foot.update(line.append(f"  {visible(what)}"))

    @on(DataTable.RowSelected)
    def show_spectrum(self, event: DataTable.RowSelected) -> None:
        """Show the pictures of ΔW of the layer under the cursor."""
        self.workbench.show_spectrum(self.work.comparisons[event.cursor_row].lora)

    @property
    def table_shown(self) -> bool:
        """Whether the table is shown, and not the pictures."""
        return self.query_one(ContentSwitcher).current == "base-table"

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Show only the keys that have an effect now."""
        work = self.work
        if action == "compute" and work.state != "computing":  # asked of all layers for this key alone
            return work.analysis is not None and work.analysis.left() > 0
        has_effect = {
            "picture": work.analysis is not None and self.one and not self.table_shown,
            "base": work.adapter is not None,
            "table": work.analysis is not None,
            "copy": work.analysis is not None,
        }
        return has_effect.get(action, True) and super().check_action(action, parameters)

    def action_compute(self) -> None:
        """Compute what is not known yet, or stop that."""
        self.work.asked = True
        if self.work.state == "computing":
            self.work.stop()
        elif self.work.analysis is not None and self.work.analysis.left():
            self.work.compute()

    def action_table(self) -> None:
        """Switch between the table and the pictures."""
        views = self.query_one(ContentSwitcher)
        views.current = "base-plots" if self.table_shown else "base-table"
        if self.table_shown:
            self.query_one(BaseTable).focus()
        self.show_work()

    def action_picture(self) -> None:
        """Show the next picture, where only one fits."""
        self.picture += 1
        self.draw()

    def action_base(self) -> None:
        """Ask for the base model."""
        if self.work.adapter is not None:
            line = self.query_one(BaseName)
            line.display = True
            line.focus()

    @on(Line.Submitted)
    def open_base(self, event: Line.Submitted) -> None:
        """Compare with the base model that was named."""
        self.query_one(BaseName).display = False
        self.query_one(BaseTable).focus()
        if self.work.adapter is not None and event.value.strip():
            self.work.open(self.work.adapter, event.value.strip())

    def action_leave(self) -> None:
        """Close the line for the base model's name, or go to the layers."""
        line = self.query_one(BaseName)
        if line.display:
            line.display = False
            self.query_one(BaseTable).focus()
        else:
            self.app.switch_mode("layers")

    def action_copy(self) -> None:
        """Copy all numbers as JSON."""
        if self.work.analysis is not None:
            self.copy(to_json(self.work.analysis), "the comparison as JSON")

    def writers(self) -> dict[str, tuple[str, Writer]]:
        """The numbers, or a picture."""
        analysis = self.work.analysis
        if analysis is None:
            return super().writers()

        def write_csv(path: Path) -> None:
            replace_text(path, to_csv(analysis.comparisons))

        def write_json(path: Path) -> None:
            replace_text(path, to_json(analysis))

        return {
            ".csv": ("all numbers, a row a layer", write_csv),
            ".json": ("the same with the correlations", write_json),
            **super().writers(),
        }

    def on_resize(self) -> None:
        self.call_after_refresh(self.show_work)


class BaseName(Line):
    """The line in which one names the base model."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "screen.leave", "close", id="base.name.close")]

    def __init__(self) -> None:
        super().__init__("the base model's folder, or its name in the Hugging Face cache", id="base-name")
