"""What the Layers screen shows of an adapter: which numbers, of which layers, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lorabench.adapters.model import LoraLayer
from lorabench.spectra.columns import COLUMNS, LAYER_COLUMNS, Column, pick
from lorabench.spectra.expression import parse_filter, sort_spectra
from lorabench.spectra.model import LayerSpectrum
from lorabench.spectra.parity_columns import PARITY_COLUMNS, PARITY_VIEW

FACTOR_COLUMNS = tuple(
    replace(column, title="norm") if column.name == "norm" else column
    for column in pick(
        COLUMNS, "layer module part shape norm sigma1 stable_rank effective_rank alpha tail verdict"
    )
)
# Where not all fit, what one looks for first stands first.
NARROW_COLUMNS = pick(
    COLUMNS, "layer module r alpha verdict norm stable_rank rank90 tail sigma1 effective_rank scaling shape"
)
ADAPTER_COLUMN = pick(COLUMNS, "adapter")
COLUMN_ALPHA, *INTERVAL = pick(COLUMNS, "alpha alpha_low alpha_high")
HEAT_COLUMNS = tuple(column for column in COLUMNS if column.numeric and column.name != "layer")

# In fewer columns the verdict, at the end of the line, would be out of sight; a UNet's names need more.
ROOM_FOR_ALL = 118
LONG_NAME = 50
VERY_WIDE = 160

HOW_TO_READ = "\n".join(
    [
        "One row a module. Rows fill in as they are computed; `…` is still to come, `—` is a number that "
        "a layer does not have.",
        "",
        *(f"- **{column.title}**: {column.help}" for column in LAYER_COLUMNS),
        "",
        "Verdicts (the lines at the bottom say why the layer under the cursor has its own):",
        "",
        "- **well-formed**: alpha is between 2 and 6, and not as an untrained update would have it.",
        "- **heavy-tailed**: alpha is below 2: perhaps over-fitted.",
        "- **random-like**: alpha is as an untrained update of this shape and rank has it, or above 6.",
        "- **undecided**: the interval spans a border, or fewer than ten eigenvalues are in the tail. It is "
        "the honest answer where a small rank cannot tell.",
        "- **dead**: B = 0, or ΔW below rounding: nothing was learned.",
        "- **unreadable**: NaN, infinity, or a factor that is missing or mis-shaped.",
        "",
        "`/` filters by text in the module's name or by an expression: `alpha<2 and module~v_proj`, "
        "`verdict=dead or norm>3`. `o` orders the table (or chooses the grid's number). `f` shows the "
        "factors A and B instead of ΔW, `w` WeightWatcher's own numbers (of the unscaled B·A), `h` a "
        "grid of layer × module.",
    ]
)


@dataclass
class LayerView:
    """The choices made on the screen; `order` is a column's name, with `-` in front from the largest down."""

    factors: bool = False
    parity: bool = False
    order: str = ""
    filter_text: str = ""

    def columns(self, layers: Sequence[LoraLayer], width: int) -> tuple[Column, ...]:
        """The columns of a table, so many cells wide, of these layers; with the adapter where several are."""
        longest = max((len(layer.name) for layer in layers), default=0)
        narrow = width < (VERY_WIDE if longest > LONG_NAME else ROOM_FOR_ALL)
        columns = NARROW_COLUMNS if narrow else LAYER_COLUMNS
        if self.parity:
            columns = PARITY_VIEW
        elif self.factors:
            columns = FACTOR_COLUMNS
        return (
            (*columns[:2], *ADAPTER_COLUMN, *columns[2:])
            if len({layer.adapter for layer in layers}) > 1
            else columns
        )

    @property
    def needs_numbers(self) -> bool:
        """Whether a layer must have been computed to be shown or to have its place."""
        return bool(self.order or self.filter_text)

    def select(self, spectra: Sequence[LayerSpectrum]) -> list[LayerSpectrum]:
        """The layers that the filter lets through, in the order asked for.

        Raises:
            ExpressionError: the filter cannot be read.
        """
        known = (*PARITY_COLUMNS, *COLUMNS) if self.parity else COLUMNS
        holds = parse_filter(self.filter_text, known)
        chosen = [spectrum for spectrum in spectra if holds(spectrum)]
        return sort_spectra(chosen, self.order, known) if self.order else chosen

    def order_by(self, column: Column) -> None:
        """Order by a column, numbers from the greatest; the same column again reverses."""
        up, down = column.name, f"-{column.name}"
        first, second = (down, up) if column.numeric else (up, down)
        self.order = second if self.order == first else first

    def show_factors(self) -> None:
        """Show A and B instead of ΔW, or ΔW again."""
        self.factors, self.parity, self.order = not self.factors, False, ""

    def show_parity(self) -> None:
        """Show WeightWatcher's numbers, or ours again."""
        self.parity, self.factors, self.order = not self.parity, False, ""


def with_interval(columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """Return the columns with the ends of alpha's interval in their own, as numbers, for a file."""
    if COLUMN_ALPHA not in columns:
        return columns
    after = columns.index(COLUMN_ALPHA) + 1
    return (*columns[:after], *INTERVAL, *columns[after:])


def short_title(column: Column) -> str:
    """Return a column's title without the interval that stands behind the number."""
    return column.title.partition(" [")[0]
