"""Screen 5: the pictures of one module, or of the whole adapter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, Vertical
from textual.widgets import Static

from lorabench.screens.dialogs import ChoiceDialog
from lorabench.screens.work_screen import WorkScreen
from lorabench.spectra.columns import COLUMNS, pick
from lorabench.spectra.model import LayerSpectrum
from lorabench.text import visible
from lorabench.widgets import plots
from lorabench.widgets.plot import Draw, Plot

FACTS = pick(COLUMNS, "shape r scaling norm sigma1 stable_rank effective_rank rank90 alpha tail")


class SpectraScreen(WorkScreen):
    """Four pictures of a module, three of the adapter; narrow terminals show one at a time."""

    mode = "spectra"
    HELP = """
`←` and `→` walk the modules, `a` switches to the whole adapter and back, `g` chooses a module by name. Below
100 columns or 30 lines there is room for one picture: `p` turns to the next.

## A module

- **Singular values** of ΔW, from the largest. A steep fall: few directions carry the update.
- **Histogram of log₁₀ λ** (λ = σ²) with x_min: the power law is fitted to what lies right of it.
- **Tail**: how many eigenvalues are as large as λ or larger, both axes logarithmic, with the fitted line.
  Points on the line: the power law fits; a bend: it does not, whatever alpha says.
- **Energy**: the share of ‖ΔW‖² in the first k directions. Where it reaches 90 %, a smaller rank would do.

## The adapter

- **Alphas**: how many layers have which alpha, with the mean, WeightWatcher's class borders 2, 4, 6 and the
  null band: what an untrained B·A of this shape and rank gives. Alphas inside it say nothing of training.
- **Alpha by depth** and **‖ΔW‖ by depth**: which part of the model the training changed, and how.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,k", "walk(-1)", "previous", id="spectra.previous", tooltip="the module before"),
        Binding("right,j", "walk(1)", "next", id="spectra.next", tooltip="the next module"),
        Binding("a", "adapter", "adapter", id="spectra.adapter", tooltip="the whole adapter, or one module"),
        Binding("p", "picture", "picture", id="spectra.picture", tooltip="the next picture, where one fits"),
        Binding("g", "choose", "go to", id="spectra.choose", tooltip="choose a module by name"),
        Binding("y", "copy", "copy", show=False, id="spectra.copy", tooltip="copy the module's name"),
        Binding("escape", "app.show('layers')", "layers", show=False, id="spectra.back"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.picture = 0
        self.title_line = Text()

    def body(self) -> ComposeResult:
        with Vertical(id="heading"):
            yield Static(id="title")
            yield Static(id="facts")
        with Grid(id="plots"):
            for number in range(4):
                yield Plot(id=f"plot{number}")

    @property
    def spectra(self) -> list[LayerSpectrum]:
        """The layers computed so far."""
        return self.analysis.spectra["ΔW"]

    def show_layer(self, spectrum: LayerSpectrum) -> None:
        """Show the pictures of a layer."""
        self.analysis.choose(spectrum)
        self.show_analysis()

    def show_analysis(self) -> None:
        """Write the heading and draw the pictures."""
        if not self.spectra:
            coming = self.analysis.busy
            self.write_heading("computing …" if coming else self.analysis.nothing, Text())
            self.draw([])
        elif self.analysis.whole:
            self.show_adapter()
        else:
            self.show_spectrum(self.spectra[self.analysis.position])

    def show_adapter(self) -> None:
        """The pictures of all layers together."""
        done, total = self.analysis.progress
        words = [spectrum.verdict.word for spectrum in self.spectra]
        counts = " · ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
        self.write_heading(f"{visible(self.analysis.name)}: {done} of {total} layers", Text(counts))
        drawers = (plots.alpha_histogram, plots.alpha_by_depth, plots.norm_by_depth)
        self.draw([with_data(drawer, tuple(self.spectra)) for drawer in drawers])

    def show_spectrum(self, spectrum: LayerSpectrum) -> None:
        """The pictures of one module."""
        facts = folded([(column.title, column.text(spectrum)) for column in FACTS], self.size.width - 2)
        title = f"{self.analysis.position + 1}/{len(self.spectra)}  {visible(spectrum.layer.name)}"
        verdict = f"{visible(spectrum.verdict.word)}: {visible(spectrum.verdict.reason)}"
        self.write_heading(title, facts.append(f"\n{verdict}"))
        drawers = (plots.singular_values, plots.eigenvalue_histogram, plots.tail, plots.energy)
        self.draw([with_data(drawer, spectrum) for drawer in drawers])

    def write_heading(self, title: str, facts: Text) -> None:
        """Write what the pictures are of."""
        self.title_line = Text(no_wrap=True, overflow="ellipsis").append(title, style="bold")
        self.query_one("#title", Static).update(self.title_line)
        self.query_one("#facts", Static).update(facts)

    def draw(self, drawers: Sequence[Draw]) -> None:
        """Show these pictures: all, or one where only one fits."""
        one = self.one
        at = self.picture % max(1, len(drawers))
        if one and drawers:
            self.title_line.append(f"   picture {at + 1} of {len(drawers)}", style="dim")
            self.query_one("#title", Static).update(self.title_line)
        for number, plot in enumerate(self.query(Plot)):
            plot.display = number < len(drawers) and (not one or number == at)
            if plot.display:
                plot.show(drawers[number])
        self.query_one("#plots").set_class(one, "-one")
        self.query_one("#plots").set_class(len(drawers) == 3, "-three")
        self.refresh_bindings()

    @property
    def one(self) -> bool:
        """Whether only one picture fits."""
        return self.has_class("-narrow") or self.has_class("-low")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Show only the keys that have an effect now."""
        needs_layers = action in ("walk", "adapter", "choose", "copy", "picture")
        if (needs_layers and not self.spectra) or (action == "picture" and not self.one):
            return False
        return super().check_action(action, parameters)

    def action_walk(self, step: int) -> None:
        """Go to another module."""
        if self.spectra:
            self.show_layer(self.spectra[(self.analysis.position + step) % len(self.spectra)])

    def action_adapter(self) -> None:
        """Switch between the adapter and a module."""
        self.analysis.whole = not self.analysis.whole
        self.show_analysis()

    def action_picture(self) -> None:
        """Show the next picture, where only one fits."""
        self.picture += 1
        self.show_analysis()

    def action_choose(self) -> None:
        """Choose a module by name."""
        names = [spectrum.layer.name for spectrum in self.spectra]

        def chosen(at: int | None) -> None:
            if at is not None:
                self.show_layer(self.spectra[at])

        self.app.push_screen(ChoiceDialog("module", [visible(name) for name in names]), chosen)

    def action_copy(self) -> None:
        """Copy the module's name."""
        if self.spectra:
            self.copy(self.spectra[self.analysis.position].layer.name, "the module's name")

    def on_resize(self) -> None:
        self.call_after_refresh(self.show_analysis)


def folded(facts: Sequence[tuple[str, str]], width: int) -> Text:
    """Write facts, as many as fit, on each line; the names dim, and none parted from its value."""
    text, taken = Text(), 0
    for name, value in facts:
        needed = cell_len(f"{name} {value}")
        if taken:
            text.append("\n" if taken + 2 + needed > width else "  ")
            taken = 0 if taken + 2 + needed > width else taken + 2
        text.append(f"{name} ", "dim").append(value)
        taken += needed
    return text


def with_data(drawer: Callable[[Any, Any], None], data: object) -> Draw:
    """Return a picture that needs the figure only."""
    return lambda figure: drawer(figure, data)
