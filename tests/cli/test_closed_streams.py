"""Standard input, output and error that are closed (`lorabench … >&-`), as under some service managers."""

from __future__ import annotations

import os
import shlex
import subprocess

import pytest

from tests.cli.test_train import DOUBLE, kinds, run
from tests.terminal import COMMAND, Terminal, environment

__all__ = ["run"]


def without(number: int, *command: object) -> subprocess.CompletedProcess[str]:
    """Run a command with one of its standard streams closed."""
    return subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        preexec_fn=lambda: os.close(number),
    )


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_command_does_its_work_without_one_of_them(number, samples):
    done = without(number, *COMMAND, "describe", samples / "style-clean-r16")
    assert (done.returncode, done.stderr) == (0, "")
    assert ("PEFT LoRA" in done.stdout) is (number != 1)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_nothing_that_is_printed_gets_into_a_run_s_events(number, run):
    assert without(number, *DOUBLE, "train", run).returncode == 0
    assert kinds(run)[-1] == "finished"
    assert kinds(run).count("log") == 40


def test_the_workbench_asks_for_a_terminal(samples):
    done = without(0, *COMMAND, samples)
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        2,
        "lorabench: The workbench needs a terminal, and input or output is not one.",
    )


def test_the_workbench_opens_without_standard_error(samples):
    terminal = Terminal(["/bin/sh", "-c", f"exec {shlex.join([*COMMAND, str(samples)])} 2>&-"])
    terminal.wait_for("dora-r16")
    terminal.type("q")
    assert terminal.close() == 0
