"""The workbench as a job of a shell: the prompt comes back when the run is left, stopped or done."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.face.counting import STEPS
from tests.face.trainings import kinds, make_run, steps, wait_until, workbench_of
from tests.terminal import Terminal

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that is configured."""
    return make_run(tmp_path / "outputs" / "counted")


@pytest.fixture
def shell(run: Path) -> Terminal:
    """Bash with a prompt, in which the workbench is open and trains."""
    bash = Terminal(
        [shutil.which("bash"), "--norc", "--noprofile", "-i"], size=(100, 30), cwd=REPOSITORY, PS1="prompt> "
    )
    bash.wait_for("prompt>")
    bash.type(f"{shlex.quote(sys.executable)} -m tests.face.counting {shlex.quote(str(run.parent))}\r")
    bash.wait_for("configured")
    bash.type("t")
    bash.wait_until(lambda: len(steps(run)) > 2, "the first steps")
    return bash


def prompt(bash: Terminal) -> None:
    """Wait for the next prompt: what is typed before it is flushed."""
    bash.wait_until(lambda: b"prompt>" in bash.painted, "the prompt")


def answer(bash: Terminal, command: str, expected: str) -> None:
    """Type a command at the prompt, and wait for what it prints."""
    bash.type(command + "\r")
    bash.wait_until(lambda: expected in bash.painted.decode(errors="replace"), expected)


def test_leaving_a_run_gives_the_prompt_back(shell: Terminal, run: Path):
    shell.painted = b""
    shell.type("d")
    prompt(shell)
    answer(shell, 'echo "status-$?"', "status-0")
    assert len(steps(run)) < STEPS
    answer(shell, 'echo "jobs-$(jobs | wc -l)"', "jobs-0")
    shell.type("exit\r")
    shell.close()
    wait_until(lambda: kinds(run)[-1] == "finished", "the end")
    assert steps(run) == list(range(1, STEPS + 1))


def test_a_stopped_job_is_painted_again_by_fg(shell: Terminal, run: Path):
    shell.painted = b""
    os.kill(workbench_of(shell.child), signal.SIGTSTP)
    shell.wait_until(lambda: b"Stopped" in shell.painted, "the stopped job")
    prompt(shell)
    answer(shell, 'echo "jobs-$(jobs | wc -l)"', "jobs-1")
    reached = len(steps(run))
    assert reached < STEPS
    answer(shell, 'echo "again-$?"', "again-0")
    assert len(steps(run)) == reached
    shell.painted = b""
    shell.type("fg\r")
    shell.wait_until(lambda: b"\x1b[?1049h" in shell.painted, "the screen")
    shell.wait_until(lambda: kinds(run)[-1] == "finished", "the end")
    shell.wait_for("finished")
    shell.painted = b""
    shell.type("q")
    prompt(shell)
    answer(shell, 'echo "status-$?"', "status-0")
    shell.type("exit\r")
    shell.close()


def test_the_shell_ends_while_the_run_goes_on(shell: Terminal, run: Path):
    os.kill(shell.child, signal.SIGKILL)
    os.waitpid(shell.child, 0)
    wait_until(lambda: kinds(run)[-1] == "finished", "the end")
    wait_until(lambda: not (run / "run.lock").exists(), "the lock's release")
    assert steps(run) == list(range(1, STEPS + 1))
