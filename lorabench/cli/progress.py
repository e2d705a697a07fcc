"""What `lorabench train` shows of a run: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.text import Text

from lorabench.runs.events import Event
from lorabench.runs.record import RunRecord
from lorabench.text import human_duration, visible


class Display(Protocol):
    """Where the events of a run are shown; to be closed when no more come."""

    def line(self, text: str, style: str = "") -> None:
        """Show a line."""

    def show(self, event: Event, record: RunRecord) -> None:
        """Show what an event, which the record knows already, tells."""

    def refresh(self) -> None:
        """Bring what was shown before the reader's eyes."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def display() -> Display:
    """Return a bar where standard output is a terminal, and lines where it is not."""
    return Bar() if sys.stdout.isatty() else Lines()


def told(event: Event) -> tuple[str, str]:
    """Return a line for what is told on a terminal too, and its style; "" for all else."""
    if event.get("kind") == "warning":
        return f"warning: {visible(event.get('text', ''))}", "yellow"
    if event.get("kind") == "eval":
        return f"step {event.get('step')}  eval loss {_number(event.get('eval_loss'))}", "cyan"
    if event.get("kind") == "checkpoint":
        return f"step {event.get('step')}  saved {visible(event.get('path', ''))}", "dim"
    if event.get("kind") == "started":
        return _started(event), ""
    return "", ""


class Lines:
    """A line for each event, at once, for logs and pipes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.refresh()

    def line(self, text: str, style: str = "") -> None:
        sys.stdout.write(f"{text}\n")

    def show(self, event: Event, record: RunRecord) -> None:
        text, _ = told(event)
        if event.get("kind") == "stage":
            text = visible(record.stage)
        if event.get("kind") == "log":
            text = f"step {_step(record)}  {_numbers(record)}"
        if text:
            self.line(text)

    def refresh(self) -> None:
        sys.stdout.flush()


class Bar:
    """A bar that moves on the last line; what is worth a line stands above it."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[step]}  {task.fields[numbers]}", markup=False),
        )
        console = Console(file=sys.stdout, highlight=False)
        self._progress = Progress(*columns, console=console, auto_refresh=False, expand=True, transient=True)
        self._task = self._progress.add_task("starting", total=None, step="", numbers="")
        self._changed = True

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def line(self, text: str, style: str = "") -> None:
        # Left to the terminal to wrap, so that a command can be copied whole.
        self._progress.console.print(Text(text, style=style), soft_wrap=True)

    def show(self, event: Event, record: RunRecord) -> None:
        text, style = told(event)
        if text:
            self.line(text, style)
        self._progress.update(
            self._task,
            description=visible(record.state if record.state != "starting" else record.stage or "starting"),
            total=record.total_steps,
            completed=record.step or 0,
            step=_step(record) if record.step is not None else "",
            numbers=_numbers(record),
        )
        self._changed = True

    def refresh(self) -> None:
        if self._changed:
            self._progress.refresh()
            self._changed = False


def _started(event: Event) -> str:
    share = ""
    trainable, total = event.get("trainable"), event.get("total")
    if isinstance(trainable, int) and isinstance(total, int) and total:
        share = f"{trainable:,} of {total:,} parameters ({100 * trainable / total:.2f} %), "
    resumed = event.get("resumed_step")
    goes_on = "" if resumed is None else f"from step {resumed} on, "
    device = event.get("device")
    name = device.get("name", "") if isinstance(device, dict) else device or ""
    return f"training {share}{goes_on}{event.get('total_steps')} steps on {visible(name)}"


def _step(record: RunRecord) -> str:
    return f"{record.step}/{record.total_steps}" if record.total_steps else str(record.step)


def _numbers(record: RunRecord) -> str:
    parts = [] if record.loss is None else [f"loss {_number(record.loss)}"]
    left = record.seconds_left()
    if left is not None:
        parts.append(f"{human_duration(left)} left")
    return "  ".join(parts)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "?"
