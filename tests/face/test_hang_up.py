"""No run is lost with the line: real trainings, whose terminal goes at the worst moments."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from tests.conftest import REPOSITORY
from tests.face.trainings import alive, events, kinds, make_run, steps, wait_until, workbench_of
from tests.terminal import COMMAND, Terminal, environment

STEPS = 20


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of 20 steps that is configured."""
    return make_run(tmp_path / "outputs" / "short", steps=STEPS)


def begin(run: Path, *options: str) -> Terminal:
    """Open the workbench on the run's folder and press `t`."""
    terminal = Terminal(run.parent, *options, size=(100, 30), HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
    terminal.wait_for("short")
    terminal.type("t")
    terminal.wait_until((run / "output.log").exists, "the run's log")
    return terminal


def assert_finished(run: Path) -> None:
    """Every step was done, and the adapter is whole."""
    assert kinds(run)[-1] == "finished", events(run)[-1]
    assert steps(run) == list(range(1, STEPS + 1))
    tensors = load_file(run / "adapter_model.safetensors")
    shapes = {tensor.shape[0] for name, tensor in tensors.items() if "lora_A" in name}
    assert shapes == {4}
    assert "Traceback" not in (run / "output.log").read_text()


def importing(run: Path) -> bool:
    return kinds(run) == []


def training(run: Path) -> bool:
    return len(steps(run)) >= 3


def saving(run: Path) -> bool:
    return "stage saving" in kinds(run)


@pytest.mark.parametrize("moment", [importing, training, saving])
def test_the_terminal_is_closed(run: Path, moment: Callable[[Path], bool]):
    terminal = begin(run)
    terminal.wait_until(lambda: moment(run), moment.__name__)
    os.close(terminal.device)
    assert os.waitstatus_to_exitcode(os.waitpid(terminal.child, 0)[1]) == 0
    assert_finished(run)


def test_a_hang_up_is_told_by_signal_while_the_libraries_are_imported(run: Path):
    terminal = begin(run)
    assert importing(run)
    os.kill(terminal.child, signal.SIGHUP)
    assert terminal.close() == 0
    assert b"\x1b[?1049l" in terminal.painted
    assert_finished(run)


@pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux here")
def test_the_pane_of_tmux_is_killed(run: Path, tmp_path: Path):
    socket = str(tmp_path / "tmux")

    def tmux(*words: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", socket, *words],
            capture_output=True,
            text=True,
            check=True,
            cwd=REPOSITORY,
            env=environment(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1"),
        )
        return done.stdout

    command = " ".join([*COMMAND, str(run.parent)])
    parent = int(tmux("new-session", "-dPF", "#{pane_pid}", "-x", "100", "-y", "30", "exec " + command))
    try:
        wait_until(lambda: "short" in tmux("capture-pane", "-p"), "the bench")
        workbench = workbench_of(parent)
        tmux("send-keys", "t")
        wait_until(lambda: training(run), "the training")
    finally:
        tmux("kill-pane")
    wait_until(lambda: not alive(workbench), "the end of the process")
    assert_finished(run)


def test_after_a_kill_the_workbench_goes_on_from_the_checkpoint(tmp_path: Path):
    run = make_run(tmp_path / "outputs" / "short", steps=2 * STEPS, save_steps=5)
    terminal = begin(run)
    terminal.wait_until(lambda: "checkpoint" in kinds(run), "a checkpoint")
    os.kill(workbench_of(terminal.child), signal.SIGKILL)
    assert terminal.close() == 128 + signal.SIGKILL
    assert b"ended by SIGKILL" in terminal.painted
    assert b"\x1b[?1049l" in terminal.painted
    assert kinds(run)[-1] != "finished"

    terminal = Terminal(run.parent, size=(100, 30), HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
    terminal.wait_for("short")
    terminal.type("t")
    terminal.wait_for("start anew")
    offered = re.search(r"go on from checkpoint-(\d+)", terminal.shown)
    assert offered is not None
    terminal.type("\r")
    terminal.wait_until(lambda: kinds(run)[-1] == "finished", "the end")
    terminal.type("q")
    assert terminal.close() == 0
    again = [event for event in events(run) if event["kind"] == "started"][1]
    assert again["resumed_step"] == int(offered[1])
    later = list(range(int(offered[1]) + 1, 2 * STEPS + 1))
    assert steps(run)[-len(later) :] == later


def test_a_process_of_its_own_needs_no_workbench(run: Path):
    terminal = begin(run, "--own-process")
    terminal.type("d")
    assert terminal.close() == 0
    assert not steps(run)
    wait_until(lambda: bool(kinds(run)) and kinds(run)[-1] in ("finished", "failed"), "the end")
    assert_finished(run)
