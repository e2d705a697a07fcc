"""The findings of the preflight, one below the other, as they come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from lorabench.text import visible
from lorabench.training.preflight.finding import Finding, Level, Mend

MARKS: dict[Level, str] = {"ok": "✔", "advice": "·", "warning": "▲", "error": "✘"}
COLOURS: dict[Level, str] = {
    "ok": "text-success",
    "advice": "text-primary",
    "warning": "text-warning",
    "error": "text-error",
}
URGENCY: dict[Level, int] = {"error": 0, "warning": 1}
PENDING = "…"
NAME_WIDTH = 10
MARGINS = 6  # the mark, the blanks around the columns, and the scrollbar


class FindingList(OptionList):
    """One line a finding; a check that is still to come or being computed says so, in its place.

    With `detailed`, what a finding has to say besides its line stands below it, where there is room for all.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", "mend", id="findings.mend", tooltip="apply the mend of this finding"),
        Binding("j", "cursor_down", "down", show=False, id="findings.down"),
        Binding("k", "cursor_up", "up", show=False, id="findings.up"),
        Binding("g", "first", "first", show=False, id="findings.first"),
        Binding("G", "last", "last", show=False, id="findings.last"),
    ]

    def __init__(self, id: str, *, detailed: bool = False) -> None:
        super().__init__(id=id)
        self.detailed = detailed
        self.found: dict[str, list[Finding]] = {}
        self.waiting: list[str] = []
        self.shown: list[Finding | None] = []

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda _: self.call_after_refresh(self.draw))

    def on_resize(self, _event: Resize) -> None:
        if self.detailed:
            self.draw()

    def hear(self, answer: Mapping[str, Any]) -> None:
        """Take what the preflight's process answers; its module says what that can be."""
        match answer:
            case {"kind": "begun", "checks": checks}:
                self.begin(checks)
            case {"kind": "checking", "check": check}:
                self.start(check)
            case {"kind": "finding", "mend": mend}:
                fields = {name: value for name, value in answer.items() if name not in ("kind", "mend")}
                self.add(Finding(**fields, mend=Mend(**mend) if mend else None))
            case {"kind": "failed", "message": message, "hint": hint}:
                self.fail(message, hint)
            case {"kind": "done"}:
                self.end()

    def begin(self, checks: Iterable[str]) -> None:
        """Await these checks; what is known of them from before stays, marked as old."""
        self.waiting = list(checks)
        self.found = {check: self.found.get(check, []) for check in self.waiting}
        self.draw()

    def start(self, check: str) -> None:
        """Say that this check is being computed; the one before it is complete."""
        self.waiting = self.waiting[self.waiting.index(check) :]
        self.found[check] = []
        self.draw()

    def add(self, finding: Finding) -> None:
        """Show what a check has found."""
        self.found.setdefault(finding.check, []).append(finding)
        self.draw()

    def end(self) -> None:
        """All checks are complete."""
        self.waiting = []
        self.draw()

    def forget(self) -> None:
        """Show nothing: another configuration has been opened."""
        self.found, self.waiting = {}, []
        self.draw()

    def fail(self, message: str, detail: str = "") -> None:
        """Show one error in place of all findings: nothing can be computed."""
        self.found, self.waiting = {"config": [Finding("config", "error", message, detail)]}, []
        self.draw()

    @property
    def current(self) -> Finding | None:
        """The finding under the cursor."""
        at = self.highlighted
        return self.shown[at] if at is not None and at < len(self.shown) else None

    def explanation(self) -> Text:
        """All that the finding under the cursor says, and what its mend would do."""
        finding, text = self.current, Text()
        if finding is not None:
            text.append(f"{MARKS[finding.level]} {finding.level} · {visible(finding.check)}  ", style="bold")
            text.append(visible(finding.message))
            for line in finding.detail.splitlines():
                text.append(f"\n{visible(line)}")
            if finding.mend:
                text.append(f"\n⏎ {visible(finding.mend.label)}", style="bold")
        return text

    def summary(self) -> str:
        """How many errors and warnings there are, and what is being computed."""
        levels = Counter(finding.level for finding in self.shown if finding is not None)
        counts = [
            f"{levels[level]} {level}s" if levels[level] != 1 else f"1 {level}"
            for level in ("error", "warning")
        ]
        computing = [f"computing {self.waiting[0]} {PENDING}"] if self.waiting else []
        return " · ".join([*counts, *computing])

    def problems(self) -> dict[str, str]:
        """The errors that are about one field, by its name."""
        errors = [finding for finding in self.shown if finding is not None and finding.level == "error"]
        return {finding.field: finding.message for finding in reversed(errors) if finding.field}

    def draw(self) -> None:
        """Write all lines anew, errors first, then warnings; the cursor on its finding, or at the top."""
        at, on = self.highlighted or 0, self.current
        lines: list[tuple[Finding | None, Table]] = []
        details = self._details_fit()
        for check, findings in self.found.items():
            lines += [(finding, self._line(finding, details=details)) for finding in findings]
            if not findings and check in self.waiting:
                lines.append((None, self._pending(check)))
        lines.sort(key=lambda line: URGENCY.get(line[0].level, 2) if line[0] else 2)
        self.shown = [finding for finding, _ in lines]
        self.clear_options()
        self.add_options([Option(line) for _, line in lines])
        if lines:
            stays = at > 0 and on is not None and on in self.shown
            self.highlighted = self.shown.index(on) if stays else min(at, len(lines) - 1)
        self.border_subtitle = self.summary()

    def _details_fit(self) -> bool:
        findings = [finding for findings in self.found.values() for finding in findings]
        width = max(1, self.size.width - NAME_WIDTH - MARGINS)
        texts = [[finding.message, *finding.detail.splitlines()] for finding in findings]
        rows = sum(-(-cell_len(visible(line)) // width) for lines in texts for line in lines)
        return self.detailed and rows + len(self.waiting) <= self.size.height

    def _line(self, finding: Finding, *, details: bool) -> Table:
        if finding.check in self.waiting[1:]:
            return _grid(PENDING, Text(visible(finding.check), "dim"), Text(visible(finding.message), "dim"))
        colour = f"bold {self.app.theme_variables[COLOURS[finding.level]]}"
        urgent = finding.level in URGENCY
        message = Text(visible(finding.message)).append(" ⏎" if finding.mend else "")
        for line in finding.detail.splitlines() if details else ():
            message.append(f"\n{visible(line)}", "dim")
        name = Text(visible(finding.check), colour if urgent else "")
        return _grid(MARKS[finding.level], name, message, colour)

    def _pending(self, check: str) -> Table:
        said = "being computed" if check == self.waiting[0] else "waits for its turn"
        return _grid(PENDING, Text(visible(check), "dim"), Text(said, "dim"))


def _grid(mark: str, check: Text, message: Text, colour: str = "dim") -> Table:
    line = Table.grid(padding=(0, 1), expand=True)
    line.add_column(width=1)
    line.add_column(width=NAME_WIDTH)
    line.add_column(ratio=1, overflow="fold")
    line.add_row(Text(mark, colour), check, message)
    return line
