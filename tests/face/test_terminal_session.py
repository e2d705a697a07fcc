"""From `t` to the end of the run: keys, signals and a line that hangs, with a trainer that only counts."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.face.counting import STEPS
from tests.face.trainings import alive, events, kinds, make_run, steps, wait_until, workbench_of
from tests.terminal import Terminal

COUNTING = [sys.executable, "-m", "tests.face.counting"]

Open = Callable[..., Terminal]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that is configured."""
    return make_run(tmp_path / "outputs" / "counted")


@pytest.fixture
def training(run: Path) -> Iterator[Open]:
    """Open the workbench, and press `t` on the run; whatever is left of it is ended after the test."""
    opened: list[tuple[Terminal, int]] = []

    def open_it(*options: str, **env: str) -> Terminal:
        terminal = Terminal([*COUNTING, str(run.parent), *options], size=(100, 30), **env)
        terminal.wait_for("counted")
        opened.append((terminal, workbench_of(terminal.child)))
        terminal.type("t")
        terminal.wait_until(lambda: bool(steps(run)), "the first step")
        return terminal

    yield open_it
    for _terminal, pid in opened:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


def ended(run: Path) -> bool:
    """Whether the run has come to an end."""
    return kinds(run)[-1] in ("finished", "stopped")


def test_the_log_of_a_run_is_its_own_and_the_screen_shows_none_of_it(training: Open, run: Path):
    terminal = training()
    terminal.wait_until(lambda: ended(run), "the end")
    terminal.type("q")
    assert terminal.close() == 0
    lines = (run / "output.log").read_text().splitlines()
    assert lines[:2] == ["step 1", "step 2"]
    assert f"step {STEPS}" in lines
    assert steps(run) == list(range(1, STEPS + 1))


def test_q_asks_and_stay_stays(training: Open, run: Path):
    terminal = training()
    terminal.type("q")
    terminal.wait_for("counted is training")
    terminal.type("jj\r")
    terminal.wait_until(lambda: "counted is training" not in terminal.shown)
    terminal.wait_until(lambda: ended(run), "the end")
    assert kinds(run)[-1] == "finished"
    terminal.type("q")
    assert terminal.close() == 0


def test_q_and_stop_ends_when_the_run_is_saved(training: Open, run: Path):
    terminal = training()
    terminal.type("q")
    terminal.wait_for("counted is training")
    terminal.type("\r")
    assert terminal.close() == 0
    assert kinds(run)[-1] == "stopped"


@pytest.mark.parametrize("keys", ["d", "qj\r"])
def test_leaving_a_run_gives_the_prompt_back_and_the_run_goes_on(training: Open, run: Path, keys: str):
    terminal = training()
    workbench = workbench_of(terminal.child)
    for key in keys:
        terminal.type(key)
        if key == "q":
            terminal.wait_for("counted is training")
    assert terminal.close() == 0
    reached = steps(run)[-1]
    assert reached < STEPS
    assert alive(workbench)
    assert "counted trains on" in terminal.painted.decode()
    wait_until(lambda: ended(run), "the end")
    assert kinds(run)[-1] == "finished"
    assert events(run)[-1]["pid"] == workbench
    wait_until(lambda: not alive(workbench), "the end of the process")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_and_saves(training: Open, run: Path, number: int):
    terminal = training()
    os.kill(terminal.child, number)
    assert terminal.close() == 0
    assert kinds(run)[-1] == "stopped"


def test_ctrl_c_stops_and_saves(training: Open, run: Path):
    terminal = training()
    terminal.type("\x03")
    assert terminal.close() == 0
    assert kinds(run)[-1] == "stopped"


@pytest.mark.parametrize(("first", "second"), [("\x03", "\x03"), (signal.SIGTERM, signal.SIGTERM)])
def test_a_second_one_ends_at_once_and_leaves_no_log(
    training: Open, run: Path, tmp_path: Path, first: object, second: object
):
    (run / "hold").touch()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    terminal = training(TMPDIR=str(temporary))
    assert len(list(temporary.glob("lorabench-*.log"))) == 1
    workbench = workbench_of(terminal.child)

    def send(what: object) -> None:
        if isinstance(what, str):
            terminal.type(what)
        else:
            os.kill(terminal.child, signal.SIGTERM)

    send(first)
    terminal.wait_until(lambda: b"stops at its next step" in terminal.painted, "the word that it stops")
    # The same signal twice within half a second is one: `timeout` sends it to parent and child.
    while terminal.read(0.6):
        pass
    assert alive(workbench)
    send(second)
    assert terminal.close() in (128 + signal.SIGTERM, 128 + signal.SIGINT)
    assert not alive(workbench)
    assert kinds(run)[-1] == "log"
    assert list(temporary.glob("lorabench-*.log")) == []


def test_one_signal_to_the_whole_group_is_one_signal(training: Open, run: Path):
    terminal = training()
    os.killpg(terminal.child, signal.SIGTERM)
    assert terminal.close() == 0
    assert kinds(run)[-1] == "stopped"


def test_a_line_that_hangs_does_not_stop_the_run_nor_its_end(training: Open, run: Path):
    terminal = training()
    # Nobody reads any more: the pty takes 4 KiB, then nothing.
    wait_until(lambda: kinds(run)[-1] == "finished", "the end, with nobody reading")
    assert steps(run) == list(range(1, STEPS + 1))
    os.kill(terminal.child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(terminal.child, 0)[1]) == 0


def cpu_seconds(pid: int) -> float:
    """The processor time that a process has taken, from proc_pid_stat(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_dead_terminal_costs_no_processor_time(training: Open, run: Path):
    (run / "hold").touch()
    terminal = training()
    workbench = workbench_of(terminal.child)
    os.close(terminal.device)
    wait_until(lambda: steps(run)[-1] > 50, "the screens' end")
    begun, taken = time.monotonic(), cpu_seconds(workbench)
    wait_until(lambda: steps(run)[-1] == STEPS, "the last step")
    share = (cpu_seconds(workbench) - taken) / (time.monotonic() - begun)
    # Textual's own reader, at the end of its file, takes more than a core.
    assert share < 0.3
    (run / "hold").unlink()
    assert os.waitstatus_to_exitcode(os.waitpid(terminal.child, 0)[1]) == 0
    assert kinds(run)[-1] == "finished"
