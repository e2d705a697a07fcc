"""`lorabench train` as a shell and a person see it; most of it with a trainer that needs no torch."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lorabench.runs.events import EVENTS_FILE
from lorabench.runs.lock import read_owner
from tests.cli import train_double
from tests.terminal import PATIENCE, Terminal, environment

DOUBLE = [sys.executable, train_double.__file__]


@pytest.fixture
def run(tmp_path) -> Path:
    """A folder with a run.yaml; the double does not read it."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.yaml").write_text(f"output_dir: {folder}\nmax_steps: 40\n")
    return folder


def piped(run: Path, *words: str, manner: str = "") -> subprocess.CompletedProcess[str]:
    """Run `lorabench train` with its output piped."""
    return subprocess.run(
        [*DOUBLE, "train", str(run), *words],
        capture_output=True,
        text=True,
        env=environment(LORABENCH_DOUBLE=manner),
        timeout=60,
    )


def on_terminal(run: Path, *words: str, manner: str = "", command: str = "train") -> Terminal:
    """Run it on a pty."""
    return Terminal([*DOUBLE, command, str(run), *words], LORABENCH_DOUBLE=manner)


def wait_until(holds, patience=PATIENCE) -> None:
    """Look again until this holds: for what happens in a process that is nobody's child here."""
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


def kinds(run: Path) -> list[str]:
    """The kinds of the run's events."""
    return [json.loads(line)["kind"] for line in (run / EVENTS_FILE).read_text().splitlines()]


def test_a_pipe_gets_a_plain_line_for_each_thing_that_happens(run):
    done = piped(run)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{run}: process ")
    assert lines[1] == "preflight"
    assert "training 5 of 100 parameters (5.00 %), 40 steps on CPU, 2 cores" in lines
    assert next(line for line in lines if line.startswith("step 20/40")).startswith("step 20/40  loss 0.5")
    assert len([line for line in lines if "/40  loss" in line]) == 40
    assert "step 40  eval loss 0.25" in lines
    assert lines[-2:] == [
        f"Finished 40 steps: the adapter is in {run}",
        f"What it became: lorabench analyze {run}",
    ]
    assert "\x1b" not in done.stdout


def test_a_terminal_gets_a_bar_that_moves_and_is_gone_at_the_end(run):
    terminal = on_terminal(run, manner="stays")
    terminal.wait_for("10/40")
    bar = next(line for line in terminal.lines if "10/40" in line)
    assert bar.startswith("training ━")
    assert "loss 1" in bar
    assert len(bar) <= 80
    (run / "go").touch()
    assert terminal.close() == 0
    assert "━" not in terminal.shown
    assert "Finished 40 steps" in terminal.shown
    assert "/40" not in terminal.shown


def test_ctrl_c_asks_the_trainer_to_save_and_stop_and_tells_how_to_go_on(run):
    terminal = on_terminal(run, manner="stays")
    terminal.wait_for("10/40")
    terminal.type("\x03")
    assert terminal.close() == 0
    assert "Stopping: the trainer saves and ends." in terminal.shown
    assert "step 10  saved" in terminal.shown
    assert "Stopped: asked to stop at step 10" in terminal.shown
    assert f"lorabench train {run} --resume" in terminal.shown.replace("\n", "")
    assert not (run / "stop").exists()


def test_a_stop_that_comes_before_the_trainer_listens_counts(run):
    terminal = on_terminal(run, manner="stays")
    # The folder's name may be so long that the word stands on two lines.
    terminal.wait_until(lambda: "process" in terminal.shown.replace("\n", ""), "the trainer's process")
    terminal.type("\x03")
    assert terminal.close() == 0
    assert kinds(run)[-1] == "stopped"


def test_a_second_ctrl_c_ends_a_trainer_that_does_not_listen(run):
    terminal = on_terminal(run, manner="deaf")
    terminal.wait_for("10/40")
    owner = read_owner(run)
    assert owner.alive
    terminal.type("\x03")
    terminal.wait_for("Stopping")
    terminal.type("\x03")
    assert terminal.close() == 130
    assert "was ended at once" in terminal.shown
    assert read_owner(run).alive is False
    assert kinds(run)[-1] == "log"


def test_sigterm_stops_like_ctrl_c(run):
    terminal = on_terminal(run, manner="stays")
    terminal.wait_for("10/40")
    os.kill(terminal.child, signal.SIGTERM)
    assert terminal.close() == 0
    assert kinds(run)[-1] == "stopped"


def test_when_the_line_drops_the_run_goes_on_to_its_end(run):
    terminal = on_terminal(run, manner="stays")
    terminal.wait_for("10/40")
    os.close(terminal.device)
    assert os.waitstatus_to_exitcode(os.waitpid(terminal.child, 0)[1]) in (0, 128 + signal.SIGHUP)
    assert read_owner(run).alive
    (run / "go").touch()
    wait_until(lambda: kinds(run)[-1] == "finished")


def test_a_watcher_that_ignores_the_hang_up_ends_without_a_traceback(run, tmp_path):
    command = f"trap '' HUP; exec {shlex.join([*DOUBLE, 'train', str(run)])} 2> {tmp_path}/errors"
    terminal = Terminal(["/bin/sh", "-c", command], LORABENCH_DOUBLE="stays")
    terminal.wait_for("10/40")
    os.close(terminal.device)
    (run / "go").touch()
    assert os.waitstatus_to_exitcode(os.waitpid(terminal.child, 0)[1]) == 0
    assert "Traceback" not in (tmp_path / "errors").read_text()
    wait_until(lambda: kinds(run)[-1] == "finished")


def test_a_reader_that_goes_away_leaves_the_run_training(run):
    process = subprocess.Popen(
        [*DOUBLE, "train", str(run)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(LORABENCH_DOUBLE="stays"),
    )
    process.stdout.readline()
    process.stdout.close()
    (run / "go").touch()
    assert process.wait(PATIENCE) == 0
    assert "It trains on" in process.stderr.read()
    process.stderr.close()
    wait_until(lambda: "finished" in kinds(run))


def test_detach_comes_back_once_it_trains_and_leaves_it_training(run):
    done = piped(run, "--detach", manner="stays")
    assert done.returncode == 0
    assert f"Watch it: lorabench {run}" in done.stdout
    assert f"Stop it: lorabench stop {run}" in done.stdout
    owner = read_owner(run)
    assert owner.alive
    again = piped(run)
    assert again.returncode == 2
    assert f"This run is being trained by process {owner.pid}" in again.stderr
    (run / "stop").touch()
    wait_until(lambda: kinds(run)[-1] == "stopped")


def test_errors_of_the_preflight_are_listed_and_end_with_2(run):
    for words in ((), ("--detach",)):
        done = piped(run, *words, manner="refused")
        assert done.returncode == 2
        assert "error: coverage: ␛[2JNothing matches q_projj." in done.stdout
        assert "error: data: No rows.\n  Write some." in done.stdout
        assert done.stdout.count("Did you mean q_proj?") == done.stdout.count("Nothing matches") == 1
        assert "more)" not in done.stdout
        assert "--override" in done.stdout
        assert "\x1b" not in done.stdout


def test_a_run_that_fails_ends_with_1_and_says_what_to_do(run):
    done = piped(run, manner="out of memory")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-2:] == ["No room.", "Lower max_length."]


def test_a_trainer_that_dies_without_a_word_is_told_of_with_the_end_of_its_log(run):
    done = piped(run, manner="silent")
    assert done.returncode == 1
    assert "ended with status 3" in done.stdout
    assert "something of C said ␛[31mno" in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {"resume": None, "override": False, "accelerate": None, "processes": None}),
        (["--resume", "--override"], {"resume": True, "override": True}),
        (["--anew", "--num-processes", "2"], {"resume": False, "processes": 2}),
    ],
)
def test_what_is_asked_for_reaches_the_trainer(run, words, expected):
    done = piped(run, *words)
    (line,) = [line for line in done.stdout.splitlines() if "started with" in line]
    options = json.loads(line.partition("with ")[2])
    assert {name: options[name] for name in expected} == expected


def test_what_is_no_run_is_a_sentence(run, lorabench, tmp_path):
    (run / "run.yaml").write_text("lora_r: [8\n")
    broken = lorabench("train", run)
    assert broken.returncode == 2
    assert "cannot be read as a configuration" in broken.stderr
    missing = lorabench("train", tmp_path / "nothing.yaml")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert lorabench("train", run, "--num-processes", "0").returncode == 2
    assert lorabench("train", run, "--accelerate", tmp_path / "none.yaml").returncode == 2
    assert not (run / EVENTS_FILE).exists()


def test_help_has_an_example_and_the_statuses(lorabench):
    text = lorabench("train", "--help").stdout
    assert "lorabench train my-run --anew --num-processes 2" in text
    assert "--resume / --anew" in text
    assert max(map(len, text.splitlines())) <= 80


def test_nothing_starts_anew_unasked_beside_an_earlier_attempt(run, lorabench):
    (run / "checkpoint-7").mkdir()
    done = lorabench("train", run)
    assert done.returncode == 2
    assert "holds checkpoint-7 of an earlier attempt." in done.stderr
    assert "--resume" in done.stderr
    assert "--anew" in done.stderr
    assert (run / "checkpoint-7").is_dir()
    assert not (run / "events.jsonl").exists()


def test_who_is_refused_does_not_wait_for_the_libraries(run):
    (run / "checkpoint-7").mkdir()
    code = (
        "import sys; from lorabench.__main__ import main; code = main(sys.argv[1:]); "
        "assert not {'torch', 'trl', 'transformers'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, "train", str(run)], env=environment(), timeout=60)
    assert done.returncode == 2
