"""What moves beside the loss: numbers of a run with the line that they have drawn so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from rich.text import Text

from lorabench.runs.record import RunRecord
from lorabench.runs.series import Series
from lorabench.text import human_bytes
from lorabench.widgets.painting import Painting
from lorabench.widgets.sparkline import sparkline

NAME_WIDTH = 13
VALUE_WIDTH = 13
CELL_WIDTH = 37
Event = Mapping[str, Any]


def _step_time(value: float, _: Event) -> str:
    return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.2f} s"


def _rate(value: float, _: Event) -> str:
    return f"{value:,.0f}" if value < 1e5 else f"{value / 1000:,.0f} k"


def _memory(value: float, device: Event) -> str:
    total = device.get("memory_total")
    if not isinstance(total, int | float) or total <= 0:
        return human_bytes(value)
    return f"{value / 1e9:.1f}/{human_bytes(total)}"


@dataclass(frozen=True, slots=True)
class Meter:
    """A quantity: its series in the record, its name here, and how its value is written."""

    series: str
    title: str
    text: Callable[[float, Event], str]


METERS = (
    Meter("learning_rate", "learning rate", lambda value, _: f"{value:.2e}"),
    Meter("grad_norm", "gradient norm", lambda value, _: f"{value:.3g}"),
    Meter("tokens_per_second", "tokens/s", _rate),
    Meter("step_seconds", "step time", _step_time),
    Meter("gpu_utilisation", "GPU", lambda value, _: f"{value:.0f} %"),
    Meter("cpu_utilisation", "CPU", lambda value, _: f"{value:.0f} %"),
    Meter("memory_used", "memory", _memory),
    Meter("temperature", "temperature", lambda value, _: f"{value:.0f} °C"),
    Meter("power", "power", lambda value, _: f"{value:.0f} W"),
    Meter("mean_token_accuracy", "accuracy", lambda value, _: f"{100 * value:.1f} %"),
)
# What there always is keeps its place, so that nothing jumps when the first numbers come.
_ALWAYS = frozenset(meter.series for meter in METERS[:4])


class Meters(Painting):
    """As many meters beside each other as fit, those that the run has numbers of."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"meters--name", "meters--line"}

    def show(self, record: RunRecord) -> None:
        """Write the newest values of the run."""
        meters = [meter for meter in METERS if meter.series in _ALWAYS or meter.series in record.series]
        across = max(1, self.size.width // CELL_WIDTH)
        width = self.size.width // across
        rows = [
            Text("", no_wrap=True).join(
                self._cell(meter, record.series.get(meter.series), record.device, width)
                for meter in meters[at : at + across]
            )
            for at in range(0, len(meters), across)
        ]
        self.paint(rows)

    def _cell(self, meter: Meter, series: Series | None, device: Event, width: int) -> Text:
        last = None if series is None else series.last
        cell = Text().append(f"{meter.title:<{NAME_WIDTH}} ", self.get_component_rich_style("meters--name"))
        cell.append("—" if last is None else meter.text(last, device))
        cell.pad_right(NAME_WIDTH + VALUE_WIDTH - cell.cell_len)
        room = width - cell.cell_len - 2
        if series is not None and room > 0:
            line = sparkline(series.points().mean, room)
            cell.append(line, self.get_component_rich_style("meters--line"))
        cell.pad_right(width - cell.cell_len)
        return cell
