"""The head of the Train screen: what goes on, how far it is, what went wrong, and the newest warning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from textwrap import wrap
from typing import ClassVar

from rich.text import Text

from lorabench.runs.record import STAGES_BEFORE_TRAINING
from lorabench.screens.train_watch import Activity, RunWatch
from lorabench.text import human_duration, shorten, visible
from lorabench.widgets.finding_list import MARKS as FINDING_MARKS
from lorabench.widgets.painting import Painting

NOTHING = (
    "Nothing is watched yet.",
    "On the Bench (1), t on a run trains it, and w shows a run here that somebody trains or has trained.",
)
MARKS: dict[Activity, str] = {
    "waiting": "○",
    "starting": "◐",
    "training": "●",
    "gone": "▲",
    "finished": "✔",
    "stopped": "■",
    "failed": "✘",
}
FROZEN = "‖ frozen, space goes on"
MOST_LINES_OF_AN_ERROR = 3
LEAST_OF_A_NAME, MOST_OF_A_NAME = 12, 32


class RunStatus(Painting):
    """Two lines or more: state and progress, then the error with its hint, then the newest warning."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "status--good",
        "status--bad",
        "status--warning",
        "status--dim",
        "status--going",
        "status--bar",
    }

    def show(self, watch: RunWatch | None, *, frozen: bool = False) -> None:
        """Write the state of a run, or what to do where none is watched."""
        if watch is None:
            lines = [Text(NOTHING[0], "bold"), *self._wrapped(NOTHING[1], "")]
        else:
            lines = [self._state(watch, frozen=frozen), *self._progress(watch)]
            lines += [*self._trouble(watch), *self._warnings(watch)]
        self.paint(lines)

    def _look(self, name: str) -> str:
        return str(self.get_component_rich_style(f"status--{name}"))

    def _state(self, watch: RunWatch, *, frozen: bool) -> Text:
        activity = watch.activity
        look = {"finished": "good", "failed": "bad", "gone": "warning"}.get(activity, "going")
        state = "unfinished" if activity == "gone" else activity
        line = Text().append(f"{MARKS[activity]} {state}  ", f"{self._look(look)} bold")
        stands = f"{FROZEN}  " if frozen else ""
        room = self.size.width - line.cell_len - len(stands)
        name = visible(watch.folder.name)
        facts = [f"  {fact}" for fact in self._facts(watch, activity) if fact]
        ends = accumulate(map(len, facts), initial=min(len(name), LEAST_OF_A_NAME))
        kept = "".join(fact for fact, end in zip(facts, list(ends)[1:], strict=True) if end <= room)
        line.append(stands, f"{self._look('warning')} bold")
        line.append(shorten(name, min(MOST_OF_A_NAME, max(LEAST_OF_A_NAME, room - len(kept)))), "bold")
        return line.append(kept)

    def _facts(self, watch: RunWatch, activity: Activity) -> list[str]:
        """Return what the first line tells; where it is short, the last of them give way."""
        record = watch.record
        at = "" if record.step is None else f"step {record.step:,}"
        if at and record.total_steps:
            at += f" of {record.total_steps:,}"
        spent = human_duration(watch.elapsed)
        if activity == "waiting":
            return ["reading …" if not watch.caught_up else "has no events yet; t trains it"]
        if activity == "starting":
            stage = record.stage if record.state == "starting" else ""  # of the attempt before
            return [self._stages(stage), spent, watch.place]
        if activity == "training":
            epoch = "" if record.epoch is None else f"epoch {record.epoch:.2f}"
            left = record.seconds_left()
            todo = "stops at the next step" if watch.stop_asked else ""
            saving = "saving …" if record.stage == "saving" else ""
            remaining = "" if left is None or todo else f"{human_duration(left)} left"
            return [at, todo or remaining, saving, watch.place, f"{spent} gone", epoch]
        if activity == "gone":
            who = f"process {watch.owner.pid} is gone" if watch.owner is not None else ""
            return [at, "t goes on", "its trainer ended without a word", who]
        reason = visible(record.reason) if record.reason not in ("", activity) else ""
        advice = {"finished": "enter opens its layers", "stopped": "t goes on"}.get(activity, "")
        return [at, advice, reason, f"after {spent}" if watch.elapsed else ""]

    def _stages(self, stage: str) -> str:
        stages = STAGES_BEFORE_TRAINING
        here = stages.index(stage) if stage in stages else -1
        signs = ["✔" if at < here else "…" if at == here else "·" for at in range(len(stages))]
        return " ".join(f"{name} {sign}" for name, sign in zip(stages, signs, strict=True))

    def _progress(self, watch: RunWatch) -> list[Text]:
        record = watch.record
        if not record.total_steps or watch.activity in ("waiting", "starting"):
            return []
        share = min(1.0, (record.step or 0) / record.total_steps)
        number = f"{100 * share:5.1f} % "
        width = max(1, self.size.width - len(number))
        full = round(share * width)
        bar = Text().append(number).append("━" * full, self._look("bar"))
        return [bar.append("─" * (width - full), self._look("dim"))]

    def _trouble(self, watch: RunWatch) -> list[Text]:
        record = watch.record
        if watch.activity not in ("failed", "stopped"):
            return []
        return [*self._wrapped(record.error, "bad"), *self._wrapped(record.hint, "", "→ ")]

    def _wrapped(self, words: str, look: str, sign: str = "") -> list[Text]:
        lines = wrap(
            sign + visible(words.replace("\n", " ")),
            max(20, self.size.width),
            max_lines=MOST_LINES_OF_AN_ERROR,
            placeholder=" …",
        )
        return [Text(line, self._look(look) if look else "") for line in lines] if words else []

    def _warnings(self, watch: RunWatch) -> list[Text]:
        count = watch.record.warning_count
        if not count:
            return []
        newest = watch.record.warnings[-1]
        said = visible(str(newest.get("text", "")).strip().splitlines()[0] if newest.get("text") else "")
        head = f"▲ {count} warnings (w): " if count > 1 else "▲ warning (w): "
        line = Text().append(head, f"{self._look('warning')} bold")
        return [line.append(shorten(said, max(8, self.size.width - len(head))))]


def findings_text(findings: Sequence[Mapping[str, object]]) -> Text:
    """Return what the preflight has found, and what to do about it."""
    text = Text("The preflight has found errors. T trains anyway, 2 opens the configuration.\n\n")
    marks = {str(level): mark for level, mark in FINDING_MARKS.items()}
    for finding in findings:
        level = str(finding.get("level", ""))
        text.append(f"{marks.get(level, '·')} {visible(finding.get('check', ''))}  ", "bold")
        text.append(f"{visible(finding.get('message', ''))}\n")
        for line in str(finding.get("detail", "")).splitlines():
            text.append(f"  {visible(line)}\n", "dim")
    return text
