"""What lies in a run's folder, made to harm: events, the Trainer's state, the lock; and what shows them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.style import Style
from rich.text import Text
from textual.geometry import Size

from lorabench.runs.events import EVENTS_FILE
from lorabench.runs.history import read_history
from lorabench.runs.lock import LOCK_FILE, take_lock
from lorabench.screens.train_status import RunStatus, findings_text
from lorabench.screens.train_watch import RunWatch
from lorabench.widgets.delta_panel import DeltaPanel
from lorabench.widgets.loss_chart import LossChart
from lorabench.widgets.meters import Meters
from tests.fuzz.bounds import examples, sentence_or
from tests.fuzz.test_adapter_files import WORDS

KINDS = (
    *("started", "stage", "log", "eval", "device", "spectra", "update", "warning", "checkpoint"),
    *("finished", "stopped", "failed", "add", "", "begin_record"),
)
FIELDS = (
    *(
        "time",
        "step",
        "loss",
        "eval_loss",
        "epoch",
        "total_steps",
        "resumed_step",
        "stage",
        "reason",
        "error",
    ),
    *("hint", "path", "findings", "text", "source", "modules", "dead", "unreadable", "groups", "c", "still"),
    *("learning_rate", "grad_norm", "name", "memory_used", "memory_total", "gpu_utilisation", "power"),
    *("tokens_per_second", "step_seconds", "mean_token_accuracy", "temperature", "place", "seconds"),
)
NUMBERS = st.sampled_from(
    [
        0,
        1,
        -1,
        2,
        100,
        2**62,
        2**63,
        -(2**63),
        10**400,
        1e308,
        -1e308,
        1e-320,
        0.5,
        float("nan"),
        "NaN",
        "Infinity",
    ]
)
SCALARS = st.one_of(NUMBERS, WORDS.map(lambda word: word[:3000]), st.none(), st.booleans(), st.floats())
MODULES = st.dictionaries(
    st.one_of(st.just("layers.0.q_proj"), WORDS.map(lambda word: word[:3000])),
    st.one_of(SCALARS, st.dictionaries(st.sampled_from(["norm", "sigma1", "stable_rank", "alpha"]), SCALARS)),
    max_size=4,
)
DEEP = st.just(json.loads("[" * 900 + "]" * 900))
VALUES = st.one_of(SCALARS, MODULES, st.lists(st.one_of(SCALARS, MODULES), max_size=3), DEEP)
EVENTS = st.fixed_dictionaries(
    {"kind": st.one_of(st.sampled_from(KINDS), VALUES)},
    optional={field: st.one_of(NUMBERS, VALUES) for field in FIELDS},
).map(lambda event: json.dumps(event).encode())
LONG_LINE = b"five million bytes"
BROKEN = st.one_of(
    st.binary(max_size=50),
    st.just(b"{" * 100_000),
    st.just(LONG_LINE),
    st.just(b'{"kind": "log", "st'),
)
LINES = st.lists(st.one_of(EVENTS, EVENTS, EVENTS, BROKEN), max_size=12)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


class Drawn:
    """A panel's lines, kept where a terminal would have been painted."""

    size = Size(120, 36)
    lines: Sequence[Text] = ()

    def paint(self, lines: Sequence[Text]) -> None:
        self.lines = lines

    def get_component_rich_style(self, *_names: str) -> Style:
        return Style()


class DrawnStatus(Drawn, RunStatus): ...


class DrawnDelta(Drawn, DeltaPanel): ...


class DrawnMeters(Drawn, Meters): ...


class DrawnLosses(Drawn, LossChart): ...


def painted(watch: RunWatch) -> Iterator[str]:
    """Yield the lines of the panels of the Train screen, drawn without a terminal."""
    status, delta, meters, losses = DrawnStatus(), DrawnDelta(), DrawnMeters(), DrawnLosses("losses")
    status.show(watch)
    delta.show(watch.record)
    meters.show(watch.record)
    losses.show_run(watch.record)
    for panel in (status, delta, meters, losses):
        yield from (line.plain for line in panel.lines)


def told(folder: Path) -> str:
    history = read_history(folder)
    watch = RunWatch(folder)
    while watch.read():
        pass
    said = [str(watch.elapsed), str(watch.place), str(watch.record.seconds_left()), str(history is None)]
    said += [findings_text(watch.record.findings).plain]
    return "\n".join([*said, *painted(watch)])


@given(lines=LINES)
@examples(150, 12_000)
def test_any_events_are_shown(run: Path, lines: list[bytes]) -> None:
    written = [
        b"x" * 5_000_000 if line is LONG_LINE else line for line in lines
    ]  # hypothesis keeps what it draws
    (run / EVENTS_FILE).write_bytes(b"\n".join(written) + b"\n")
    sentence_or(lambda: told(run))


STATES = st.fixed_dictionaries(
    {},
    optional={
        "global_step": VALUES,
        "max_steps": VALUES,
        "log_history": st.lists(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=5), max_size=5)
        | VALUES,
    },
).map(lambda state: json.dumps(state).encode())


@given(content=st.one_of(STATES, STATES, st.binary(max_size=80), st.just(b"[" * 200_000)))
@examples(60, 5_000)
def test_any_state_of_the_trainer_is_shown(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "others"
    (folder / "checkpoint-3").mkdir(parents=True, exist_ok=True)
    (folder / "checkpoint-3" / "trainer_state.json").write_bytes(content)
    sentence_or(lambda: told(folder))


LOCKS = st.fixed_dictionaries(
    {"host": SCALARS | st.just(socket.gethostname()), "pid": VALUES, "since": VALUES},
    optional={"boot": VALUES, "namespace": VALUES, "started": VALUES},
).map(lambda lock: json.dumps(lock).encode())


@given(content=st.one_of(LOCKS, LOCKS, st.binary(max_size=80), st.just(b"[" * 5000)))
@examples(80, 6_000)
def test_any_lock_names_an_owner_or_is_taken(run: Path, content: bytes) -> None:
    (run / EVENTS_FILE).write_bytes(b"")
    (run / LOCK_FILE).write_bytes(content)
    sentence_or(lambda: told(run))

    def taken() -> str:
        with take_lock(run) as lock:
            return str(lock.taken_over is None)

    sentence_or(taken)
    (run / LOCK_FILE).unlink(missing_ok=True)
