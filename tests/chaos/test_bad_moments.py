"""Whatever happens to the line, the screens or the trainer: no run is lost, and none comes out different.

Each round trains the demo model in several attempts, each of which meets its troubles, until the run is
finished. With LORABENCH_TEST_LONG there are a hundred more, drawn from their numbers: -k '[17]' repeats one.
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorabench.runs.checkpoints import newest_whole
from lorabench.runs.lock import read_owner
from tests.chaos.program import Program, attempt, begin, processes_of, strike, wait_for
from tests.chaos.troubles import SAVE_STEPS, STEPS, WAYS, Attempt, Trouble, Way, draw_attempt
from tests.face.trainings import events, kinds, make_run, wait_until
from tests.training.trainer.runs import adapter_bytes, learnt, of_kind

ROUNDS = 100 if os.environ.get("LORABENCH_TEST_LONG") else 0
MARKS = {"finished": "✔ finished", "stopped": "■ stopped", "failed": "✘ failed"}
GONE = "its trainer ended without a word"
HOW_TO_QUIT = "q quits"
GOING = ("● training", "◐ starting", "✔ finished")

FIXED: dict[str, list[Attempt]] = {
    "a line that drops after worse": [
        (
            "thread",
            (
                Trouble("resize", "import"),
                Trouble("stop", "loading", "screens"),
                Trouble("stall", "training", step=1),
                Trouble("hang up", "checkpoint", step=16),
            ),
        ),
    ],
    "a hang-up before it trains": [("config", (Trouble("hang up by signal", "import"),))],
    "signals, kills, and three resumes": [
        ("command", (Trouble("kill", "checkpoint", "trainer", step=16),)),
        ("own process", (Trouble("interrupt", "training", "trainer", step=3),)),
        ("thread", (Trouble("kill", "saving", "screens"),)),
    ],
    "an early signal, and an input that ends": [
        ("thread", (Trouble("terminate", "start", delay=0.5),)),
        ("thread", (Trouble("end of input", "training", step=3),)),
    ],
    "nobody who waits": [("own process", (Trouble("stall", "import"), Trouble("detach", "loading")))],
    "a line that stalls and drops": [
        ("command", (Trouble("resize", "import"), Trouble("stall and hang up", "training"))),
    ],
}


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing happens to; made once for all processes that test."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (base / "undisturbed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = base / "undisturbed" / "short"
        if not run.exists():
            train(configured(run), "command", ())
    return run


def configured(run: Path) -> Path:
    """Write the run's configuration; return its folder."""
    return make_run(run, steps=STEPS, save_steps=SAVE_STEPS)


def train(run: Path, way: Way, troubles: tuple[Trouble, ...]) -> None:
    """Attempt to train the run, let these troubles come, and check what was promised for them."""
    before, whole, begun = len(events(run)), newest_whole(run)[0], False
    last = troubles[-1] if troubles else None
    program = attempt(run, way)
    for trouble in troubles:
        if trouble.moment != "start" and not begun:
            begin(program, way)
            begun = True
        wait_for(program, trouble, before)
        strike(program, trouble)
    if not begun and (last is None or last.program_goes_on(way)):
        begin(program, way)
        begun = True
    leave(program, way, last)
    if begun and (last is None or last.run_goes_on(way)):
        watch(run)
        assert kinds(run)[-1] == "finished", kinds(run)[-3:]
    else:
        assert_saved(run, last.endings() if begun and last is not None else set())
        watch(run)
    for started in of_kind(events(run)[before:], "started"):
        assert started.get("resumed_step") == (whole.step if whole else None)


def leave(program: Program, way: Way, last: Trouble | None) -> None:
    """Let the program come to its end, by `q` where it stays, and check what it leaves behind."""
    if program.closed:
        wait_until(program.ended, "its end")
    else:
        if way != "command" and (last is None or last.program_goes_on(way)):
            program.until_shown(*MARKS.values(), GONE)
            program.terminal.type("q")
        # ctrl+c and `d` do nothing where nothing trains any more
        stays = (HOW_TO_QUIT, *MARKS.values()) if last and last.kind == "detach" else (HOW_TO_QUIT,)
        program.until(lambda: program.ended() or bool(program.shows(*stays)), "its end")
        if not program.ended():
            program.terminal.type("q")
            program.until(program.ended, "its end")
        lost = last is not None and (last.kind, last.target, way) == ("kill", "parent", "command")
        if not lost:  # then nobody is left who could
            program.assert_terminal_is_given_back()
        program.hang_up()
    if last is None or last.moment != "start":
        assert program.status in (last.statuses(way) if last else {0}), program.status


def assert_saved(run: Path, endings: set[str]) -> None:
    """Wait for the end of a run that was stopped or killed: what was saved is whole, and nobody holds it."""
    wait_until(lambda: not processes_of(run), "the end of all processes")
    saved = [event["step"] for event in events(run) if event["kind"] == "checkpoint"]
    whole, torn = newest_whole(run)
    owner = read_owner(run)
    assert owner is None or owner.alive is False
    assert max(saved, default=0) <= (whole.step if whole else 0), (saved, torn)
    if endings:
        assert kinds(run)[-1] in endings, kinds(run)
        reached = events(run)[-1].get("step") or 0
        assert torn == []
        assert owner is None
        assert (whole.step if whole else 0) >= reached


def watch(run: Path) -> None:
    """Open the workbench anew: it shows what is true, and follows the run to its end if that goes on."""
    program = Program(run, run.parent)
    program.until_shown(run.name)
    going = processes_that_train(run, program)
    program.terminal.type("3")
    if going:
        program.until_shown(*GOING)
    elif kinds(run):
        told = [kind for kind in kinds(run) if kind in MARKS or kind == "started" or kind.startswith("stage")]
        program.until_shown(MARKS.get(told[-1], GONE))
    else:
        program.until_shown("○ waiting")
    if going:
        program.until_shown(*MARKS.values())
    program.terminal.type("q")
    program.until(program.ended, "its end")
    program.assert_terminal_is_given_back()
    program.hang_up()
    assert program.status == 0


def processes_that_train(run: Path, watcher: Program) -> bool:
    """Whether anybody but the watcher still does something."""
    own = {watcher.parent}
    return any(each.pid not in own and each.info["ppid"] not in own for each in processes_of(run))


def rounds(attempts: list[Attempt], run: Path, undisturbed: Path) -> None:
    """Train the run in these attempts and, where none came to its end, in one more that meets no trouble."""
    for way, troubles in attempts:
        train(run, way, troubles)
        if kinds(run)[-1:] == ["finished"]:
            break
    else:
        train(run, "command", ())
    wait_until(lambda: not processes_of(run), "the end of all processes")
    assert learnt(run) == learnt(undisturbed)
    assert adapter_bytes(run) == adapter_bytes(undisturbed)
    assert "Traceback" not in (run / "output.log").read_text()
    assert not (run / "run.lock").exists()
    assert not (run / "stop").exists()
    killed = any(trouble.kind == "kill" for _, troubles in attempts for trouble in troubles)
    assert killed or not list((run.parent.parent / "temporary").glob("lorabench-*"))


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    """A run that is configured; what a round that failed has left of it is ended."""
    run = configured(tmp_path / "outputs" / "short")
    yield run
    for process in processes_of(run):
        process.kill()


@pytest.mark.parametrize("name", FIXED)
def test_a_run_meets(name: str, undisturbed: Path, run: Path) -> None:
    rounds(FIXED[name], run, undisturbed)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_run_meets_something(number: int, undisturbed: Path, run: Path) -> None:
    dice = random.Random(number)
    attempts = [draw_attempt(dice, number), (dice.choice(WAYS), ())]
    print(f"round {number}: {attempts}")  # noqa: T201
    rounds(attempts, run, undisturbed)
    shutil.rmtree(run.parent.parent)
