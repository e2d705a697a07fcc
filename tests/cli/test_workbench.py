"""`lorabench PATH` as a user meets it: in a terminal, until it is quit."""

import os
import pty
import signal
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY
from tests.terminal import COMMAND, Terminal, environment


@pytest.mark.parametrize("words", [[], ["open"]])
def test_an_adapter_opens_and_q_quits(adapter, words):
    terminal = Terminal(*words, adapter)
    terminal.wait_for("style-r8")
    terminal.wait_for("1 dead")
    terminal.type("q")
    assert terminal.close() == 0


def test_the_current_folder_opens_without_a_path(adapter):
    terminal = Terminal(cwd=adapter.parent)
    terminal.wait_for("style-r8")
    terminal.type("q")
    assert terminal.close() == 0


def test_a_user_walks_from_the_folder_to_a_layer_and_its_pictures(adapter):
    terminal = Terminal(adapter.parent, size=(120, 36))
    terminal.wait_for("style-r8")
    terminal.wait_for("1.24 ± 0.00")
    terminal.type("\r")
    terminal.wait_for("4 of 4 rows")
    terminal.type("/")
    terminal.wait_for("text in a module's name")
    terminal.type("verdict=dead\r")
    terminal.wait_for("1 of 4 rows")
    terminal.wait_for("○ dead")
    terminal.type("/\x1b")
    terminal.wait_for("4 of 4 rows")
    terminal.type("k\r")
    terminal.wait_for("2/4  model.layers.1.self_attn.q_proj")
    terminal.wait_for("singular values of ΔW")
    terminal.type("?")
    terminal.wait_for("A steep fall")
    terminal.type("\x1b")
    terminal.wait_until(lambda: "A steep fall" not in terminal.shown)
    terminal.type("q")
    assert terminal.close() == 0
    assert b"\x1b[?1049l" in terminal.painted[-300:]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_the_terminal_restored(adapter, number):
    terminal = Terminal(adapter)
    terminal.wait_for("self_attn.q_proj")
    os.kill(terminal.child, number)
    terminal.close()
    assert b"\x1b[?1049l" in terminal.painted[-300:]
    assert "Traceback" not in terminal.shown


def test_without_torch_on_disk_the_workbench_still_opens(adapter, tmp_path):
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    terminal = Terminal(adapter, PYTHONPATH=f"{tmp_path}{os.pathsep}{REPOSITORY}")
    terminal.wait_for("self_attn.q_proj")
    terminal.type("q")
    assert terminal.close() == 0


def test_a_terminal_that_goes_without_a_signal_ends_it(adapter):
    ours, theirs = pty.openpty()
    # In a session of its own the process is told nothing when the other end is closed.
    process = subprocess.Popen(
        [*COMMAND, str(adapter)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env=environment(),
    )
    os.close(theirs)
    painted = b""
    while b"q_proj" not in painted:
        painted += os.read(ours, 65536)
    os.close(ours)
    assert process.wait(20) == 0


@pytest.mark.parametrize("words", [["{}", "--no-mouse"], ["--no-mouse", "{}"], ["open", "--no-mouse", "{}"]])
def test_the_mouse_can_be_left_alone(adapter, words):
    terminal = Terminal(*[word.format(adapter) for word in words])
    terminal.wait_for("1 dead")
    terminal.type("q")
    assert terminal.close() == 0
    assert b"\x1b[?1000h" not in terminal.painted
    assert b"\x1b[?1049h" in terminal.painted


def test_options_are_explained_and_checked(lorabench, adapter):
    told = lorabench("open", "--help")
    assert all(option in told.stdout for option in ("--refresh", "--own-process", "--no-mouse"))
    refused = lorabench(adapter, "--refresh", "0")
    assert refused.returncode == 2
    assert "'--refresh'" in refused.stderr


def test_an_option_of_the_workbench_makes_no_command_of_a_mistyped_one(lorabench):
    refused = lorabench("analze", "somewhere")
    assert refused.returncode == 2
    assert "No such command 'analze'" in refused.stderr


INTERRUPTED = """
import builtins, sys
real = builtins.__import__

def interrupted(name, *rest):
    if name.startswith("lorabench.cli"):
        raise KeyboardInterrupt
    return real(name, *rest)

builtins.__import__ = interrupted
from lorabench.__main__ import main
sys.exit(main(["sample_adapters"]))
"""


def test_ctrl_c_while_it_is_imported_leaves_no_traceback():
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, env=environment()
    )
    assert (done.returncode, done.stderr) == (130, "")
