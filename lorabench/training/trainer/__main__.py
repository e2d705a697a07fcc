"""Train a run.yaml in a process of its own."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from lorabench.errors import LorabenchError
from lorabench.files import append_plain, is_folder
from lorabench.runs.history import RUN_FILE
from lorabench.runs.log_stream import log_stream
from lorabench.runs.output import OUTPUT_FILE
from lorabench.training.config.run_config import RunConfig
from lorabench.training.trainer.ranks import waits_for_the_first
from lorabench.training.trainer.train import Outcome, train

EXIT_CODES = {"finished": 0, "stopped": 0, "failed": 1, "refused": 2}
EXIT_AT_ONCE = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main(arguments: list[str] | None = None) -> int:
    """Train what the command line names; return the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m lorabench.training.trainer", description=__doc__)
    parser.add_argument("path", type=Path, help="a run.yaml, or a folder that holds one")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="go on from the newest whole checkpoint")
    start.add_argument("--anew", action="store_true", help="start anew, whatever the file says")
    parser.add_argument("--override", action="store_true", help="start in spite of the preflight's errors")
    told = "the requests that were there at the launch; without this, those that are there by now"
    parser.add_argument("--ignore", type=lambda text: text.split(","), metavar="REQUEST,…", help=told)
    options = parser.parse_args(arguments)
    stopping = stop_on_signals()
    said = _print_into_log(options.path)
    resume = True if options.resume else False if options.anew else None
    outcome = train(
        options.path,
        resume=resume,
        override=options.override,
        stopping=stopping,
        ignore=options.ignore,
    )
    _say(outcome, said)
    return EXIT_CODES[outcome.state]


def stop_on_signals() -> threading.Event:
    """Return what SIGINT and SIGTERM set; a second one ends the process at once.

    A thread listens: Python's own handlers wait for the main thread, which may be deep in a library, or for
    ever in one that waits for another process.
    """
    stopping = threading.Event()
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told)
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)
    os.register_at_fork(after_in_child=_leave_signals_alone)
    threading.Thread(target=_listen, args=(heard, stopping), name="lorabench signals", daemon=True).start()
    return stopping


def _listen(heard: int, stopping: threading.Event) -> None:
    while True:
        (number,) = os.read(heard, 1)
        if number not in _SIGNALS:
            continue
        if stopping.is_set() or waits_for_the_first():
            os._exit(EXIT_AT_ONCE)
        stopping.set()


def _leave_signals_alone() -> None:
    """Let a library's children end as they would without us, and tell nothing of it."""
    signal.set_wakeup_fd(-1)
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def _print_into_log(path: Path) -> int:
    """Send all that this process and its children print to output.log; return where stderr was.

    The descriptors themselves are moved, so that C code and handlers made earlier write there too.
    """
    said = os.dup(2)
    try:
        folder = RunConfig.load(path / RUN_FILE if is_folder(path) else path).folder
        folder.mkdir(parents=True, exist_ok=True)
        log = append_plain(folder / OUTPUT_FILE)
    except (LorabenchError, OSError):
        return said  # train says what is wrong
    sys.stdout.flush()
    sys.stderr.flush()
    with log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.stdout, sys.stderr = log_stream(1), log_stream(2)
    return said


def _say(outcome: Outcome, fd: int) -> None:
    lines = [" ".join(filter(None, (outcome.state, outcome.error or outcome.reason, outcome.hint)))]
    if outcome.path is not None:
        lines.append(f"adapter: {outcome.path}")
    try:
        os.write(fd, ("\n".join(lines) + "\n").encode())
    except OSError:
        return  # a terminal that is gone; the events say it too


if __name__ == "__main__":
    sys.exit(main())
