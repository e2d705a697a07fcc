"""What the bench says of the row under the cursor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from lorabench.errors import LorabenchError
from lorabench.screens.preview import previewed
from lorabench.text import human_bytes, human_duration, shorten, visible
from lorabench.widgets.sparkline import sparkline

if TYPE_CHECKING:
    from lorabench.screens.listing import Row
    from lorabench.spectra.report import Summary

USUAL = ("q", "k", "v", "o", "gate", "up", "down")
Facts = list[tuple[str, str]]


def dash(value: float | None, form: str = "") -> str:
    """Write a number, or a dash where there is none."""
    return "—" if value is None else format(value, form)


def running_text(rows: Sequence[Row]) -> str:
    """Say which run goes on and how far it is: `style-r8 312/750`, with `+1` where another does too."""
    running = [row for row in rows if row.state == "training"]
    if not running:
        return ""
    history = running[0].history
    text = running[0].name
    if history is not None and history.step is not None:
        text += f" {history.step}/{history.total_steps or '?'}"
    return f"{text} +{len(running) - 1}" if len(running) > 1 else text


def facts_of(row: Row, summary: Summary | LorabenchError | None) -> Facts:
    """Return what is known of a row as (label, value), in the order shown."""
    analysed = [] if row.state == "training" else _analysis_facts(row, summary)
    return [*_location_facts(row), *_run_facts(row), *analysed]


def _location_facts(row: Row) -> Facts:
    location = row.location
    if location is None:
        return _plan_facts(row)
    problems = [
        ("problem" if finding.level == "error" else "▲", f"{finding.message} {finding.hint}".strip())
        for finding in location.findings
    ]
    if not location.files:
        return problems
    files = ", ".join(visible(file.name) for file in location.files)
    return [
        ("base", visible(location.base_model or "not said")),
        ("format", location.format or "known when it is opened"),
        ("rank", f"{dash(location.rank)}   lora_alpha {dash(location.lora_alpha, 'g')}"),
        ("targets", visible(" ".join(location.target_modules)) or "not said"),
        ("files", f"{human_bytes(row.size)}  {files}"),
        *problems,
    ]


def _plan_facts(row: Row) -> Facts:
    """What will be trained, as the run.yaml says, or the run itself when it began."""
    started = row.history.started if row.history is not None else {}
    base = row.config.get("model_name_or_path") or started.get("model")
    facts = [("base", visible(base))] if base else []
    if row.rank is not None:
        lora_alpha = row.config.get("lora_alpha")
        told = f"   lora_alpha {visible(lora_alpha)}" if lora_alpha is not None else ""
        facts.append(("rank", f"{row.rank}{told}"))
    if row.targets:
        facts.append(("targets", visible(" ".join(row.targets))))
    return [*facts, ("problem", row.problem)] if row.problem else facts


def _run_facts(row: Row) -> Facts:
    history = row.history
    if history is None:
        return []
    total = f" of {history.total_steps}" if history.total_steps else ""
    reason = f": {visible(history.reason)}" if history.reason else ""
    facts = [("run", f"{history.state}, step {dash(history.step)}{total}{reason}")]
    if history.state == "training" and history.seconds_left is not None:
        facts.append(("left", human_duration(history.seconds_left)))
    if history.owner is not None:
        owner = f"process {history.owner.pid} on {visible(history.owner.host)}"
        facts.append(("trainer", f"{owner}, which is gone" if history.owner.alive is False else owner))
    facts += _started_facts(history.started)
    if history.losses:
        first, last = history.losses[0][1], history.losses[-1][1]
        curve = sparkline([loss for _, loss in history.losses], 12)
        facts.append(("loss", f"{curve} {first:.3f} → {last:.3f}"))
    return facts


def _started_facts(started: Mapping[str, object]) -> Facts:
    """What the run said of itself when it began."""
    trained, total = started.get("trainable"), started.get("total")
    if isinstance(trained, int) and isinstance(total, int) and total > 0:
        return [("trained", f"{100 * trained / total:.4f} % ({trained:,} of {total:,})")]
    return []


def _analysis_facts(row: Row, summary: Summary | LorabenchError | None) -> Facts:
    if isinstance(summary, LorabenchError):
        return [("problem", str(summary))]
    if summary is None:
        if row.location is None or not row.location.files:
            return []
        return [("verdicts", "being computed …" if previewed(row) else "enter analyses it")]
    verdicts = " · ".join(f"{count} {word}" for word, count in summary.verdicts.items() if count)
    facts = [("layers", str(summary.layers)), ("verdicts", verdicts), ("‖ΔW‖", f"{summary.norm:.4g}")]
    if summary.alpha is not None:
        spread = f" ± {summary.alpha.deviation:.2f}" if summary.alpha.deviation is not None else ""
        facts.append(("α mean", f"{summary.alpha.mean:.2f}{spread} over {summary.alpha.layers} layers"))
    return facts


def facts_table(facts: Facts, *, halves: bool = False) -> Table:
    """Write facts as two columns, long values folded in their own; `halves` side by side, where asked."""
    if halves:
        middle = (len(facts) + 1) // 2
        both = Table.grid(padding=(0, 2), expand=True)
        for _ in range(2):
            both.add_column(ratio=1)
        both.add_row(facts_table(facts[:middle]), facts_table(facts[middle:]))
        return both
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for label, value in facts:
        table.add_row(Text(label), Text(value))
    return table


def targets_text(row: Row, width: int) -> str:
    """The targets as letters in the order of a layer, as many as fit: `q k v o +3`.

    PEFT writes them as it has them: as a set, in any order.
    """
    if not row.targets:
        return dash(None)
    targets = [visible(target).removesuffix("_proj") for target in row.targets]
    targets.sort(key=lambda target: USUAL.index(target) if target in USUAL else len(USUAL))
    for shown in range(len(targets), 0, -1):
        more = [f"+{len(targets) - shown}"] if shown < len(targets) else []
        text = " ".join([*targets[:shown], *more])
        if len(text) <= width:
            return text
    return shorten(targets[0], width)
