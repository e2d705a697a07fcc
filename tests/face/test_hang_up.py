"""No run is lost with tmux; what else may happen to a terminal is in tests/chaos."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.face.trainings import alive, kinds, make_run, steps, wait_until, workbench_of
from tests.terminal import COMMAND, environment

STEPS = 20


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of 20 steps that is configured."""
    return make_run(tmp_path / "outputs" / "short", steps=STEPS)


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
        wait_until(lambda: len(steps(run)) >= 3, "the training")
    finally:
        tmux("kill-pane")
    wait_until(lambda: not alive(workbench), "the end of the process")
    assert kinds(run)[-1] == "finished"
    assert steps(run) == list(range(1, STEPS + 1))
