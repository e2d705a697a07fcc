"""`lorabench watch` and `lorabench stop` on a run that another process trains."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from lorabench.runs.events import EventWriter
from tests.cli.test_train import DOUBLE, kinds, on_terminal, run, wait_until
from tests.terminal import environment

__all__ = ["run"]


def test_a_run_of_somebody_else_is_watched_and_stopped(run, lorabench):
    trains = on_terminal(run, "--detach", manner="stays")
    assert trains.close() == 0
    assert f"lorabench stop {run}" in trains.shown.replace("\n", "")
    watches = subprocess.Popen(
        [*DOUBLE, "watch", str(run)], stdout=subprocess.PIPE, text=True, env=environment()
    )
    assert watches.stdout is not None
    lines = []
    while not any(line.startswith("step 10/40  loss 1") for line in lines):
        lines.append(watches.stdout.readline())
        assert lines[-1], "it ended before step 10"
    stops = lorabench("stop", run)
    assert (stops.returncode, stops.stderr) == (0, "")
    assert "saves and stops at its next step" in stops.stdout
    rest = watches.communicate(timeout=30)[0].splitlines()
    assert rest[-2:] == ["Stopped: asked to stop at step 10", f"Go on: lorabench train {run} --resume"]
    assert watches.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_watching_and_not_the_run_and_shows_the_cursor_again(run, number):
    assert on_terminal(run, "--detach", manner="stays").close() == 0
    watches = on_terminal(run, manner="stays", command="watch")
    watches.wait_for("10/40")
    os.kill(watches.child, number)
    assert watches.close() == 128 + number
    assert b"Traceback" not in watches.painted
    assert watches.painted.rfind(b"\x1b[?25l") < watches.painted.rfind(b"\x1b[?25h")
    assert kinds(run)[-1] == "log"
    (run / "go").touch()
    wait_until(lambda: kinds(run)[-1] == "finished")


def test_what_has_ended_is_told_and_cannot_be_stopped(run, lorabench):
    assert subprocess.run([*DOUBLE, "train", run], capture_output=True, env=environment()).returncode == 0
    watched = lorabench("watch", run / "run.yaml")
    assert (watched.returncode, watched.stdout.splitlines()[-2]) == (
        0,
        f"Finished 40 steps: the adapter is in {run}",
    )
    stopped = lorabench("stop", run)
    assert (stopped.returncode, stopped.stdout) == (2, "")
    assert f"Nobody trains {run}." in stopped.stderr
    assert not (run / "stop").exists()


def test_what_stopped_before_its_first_step_is_not_to_be_resumed(run, lorabench):
    with EventWriter(run) as events:
        events.write("stage", stage="preflight")
        events.write("stopped", reason="asked to stop before the first step")
    watched = lorabench("watch", run)
    assert watched.stdout.splitlines()[-1] == f"Go on: lorabench train {run}"


def test_where_nothing_was_trained_it_says_so(run, lorabench):
    for command in ("watch", "stop"):
        done = lorabench(command, run)
        assert (done.returncode, done.stdout) == (2, "")
        assert "No training has been recorded" in done.stderr
