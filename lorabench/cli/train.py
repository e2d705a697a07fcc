"""`lorabench train`: start a training in a process of its own, and follow its folder."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from lorabench.cli.check import readable_config
from lorabench.cli.progress import Display, display
from lorabench.cli.watch import Interrupts, Watch
from lorabench.errors import LorabenchError
from lorabench.files import cannot, is_there
from lorabench.runs.checkpoints import checkpoints, newest_whole
from lorabench.runs.events import EVENTS_FILE
from lorabench.runs.lock import RunLockedError, read_owner
from lorabench.runs.output import OUTPUT_FILE, OutputTail
from lorabench.runs.record import RunRecord
from lorabench.text import visible

TOLD_LINES = 8
KILLED = 130
REFUSED = 2
"""The trainer's own status where it could not even begin: somebody else took the folder in between."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks `train` for; `resume` None leaves it to the file."""

    detach: bool = False
    resume: bool | None = None
    override: bool = False
    accelerate: Path | None = None
    processes: int | None = None


def train(path: Path, options: Options) -> int:
    """Train a run.yaml, or that of a folder; return 0 (finished or stopped), 1 (failed), 2 (refused) or 130.

    Raises:
        LorabenchError: the file cannot be read as a configuration, or somebody trains this run already.
    """
    config = readable_config(path)
    folder = config.folder
    _refuse_if_trained(folder)
    field = "resume_from_checkpoint"
    asked = config.has(field) and config.get(field)  # it is TRL's, which takes seconds to import
    if options.resume is None and not asked:
        _refuse_what_would_be_set_aside(folder)
    events = folder / EVENTS_FILE
    offset = events.stat().st_size if is_there(events) else 0
    with Interrupts() as interrupts:  # before there is a trainer: none of them may leave it alone
        process = _start(config.path or path, options)
        try:
            with display() as shown:
                watch = Watch(folder, process, shown, offset, interrupts)
                return _follow(watch, folder, process, shown, detach=options.detach)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
    # Nobody reads any more. Python would complain once more when it flushes at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    with contextlib.suppress(OSError):
        sys.stderr.writelines(f"{line}\n" for line in _how_to_go_on(folder))
    return 0


def _start(path: Path, options: Options) -> subprocess.Popen[bytes]:
    from lorabench.training.trainer.launch import launch

    try:
        return launch(
            path,
            resume=options.resume,
            override=options.override,
            accelerate=options.accelerate,
            processes=options.processes,
        )
    except OSError as error:
        raise LorabenchError(*cannot(error.filename, "used", error)) from error


def _follow(
    watch: Watch, folder: Path, process: subprocess.Popen[bytes], shown: Display, *, detach: bool
) -> int:
    shown.line(f"{visible(folder)}: process {process.pid}")
    if not watch.follow(until_training=detach):
        for line in _how_to_go_on(folder):
            shown.line(line)
        return 0
    if watch.killed:
        shown.line("The trainer was ended at once; the checkpoints that were whole remain.", "bold red")
        return KILLED
    return tell_end(folder, watch.record, shown, process.returncode)


def _how_to_go_on(folder: Path) -> tuple[str, str]:
    name = shlex.quote(visible(folder))
    return (
        f"It trains on. Watch it: lorabench {name}, or lorabench watch {name}",
        f"Stop it: lorabench stop {name}",
    )


def _refuse_what_would_be_set_aside(folder: Path) -> None:
    """Let nobody start anew unasked beside what an earlier attempt has saved."""
    saved = checkpoints(folder)
    if saved:
        raise LorabenchError(
            f"{visible(folder)} holds {visible(saved[-1].path.name)} of an earlier attempt.",
            "Go on from it with --resume, or start anew with --anew, which keeps what there is in earlier-N.",
        )


def _refuse_if_trained(folder: Path) -> None:
    owner = read_owner(folder)
    if owner is not None and owner.alive:
        raise RunLockedError(
            f"This run is being trained by process {owner.pid} on {visible(owner.host)}.",
            f"Watch it: lorabench {visible(folder)}",
        )


def tell_end(folder: Path, record: RunRecord, shown: Display, status: int | None = None) -> int:
    """Say how the run ended, where known with its trainer's exit status; return the one of the command."""
    if record.state == "finished":
        steps = f"{record.step} steps" if record.step is not None else "training"
        shown.line(f"Finished {steps}: the adapter is in {visible(record.path or folder)}", "bold green")
        shown.line(f"What it became: lorabench analyze {shlex.quote(visible(folder))}")
        return 0
    if record.state == "stopped":
        shown.line(f"Stopped: {visible(record.reason)}", "bold yellow")
        # Before its first step a run has nothing to go on from, but for what an earlier attempt has saved.
        resume = " --resume" if record.step is not None or newest_whole(folder)[0] is not None else ""
        shown.line(f"Go on: lorabench train {shlex.quote(visible(folder))}{resume}")
        return 0
    if record.state == "failed":
        return _failed(record, shown)
    how = "without a word" if status is None else f"with status {status}"
    shown.line(f"The trainer ended {how}. Its output.log ends:", "bold red")
    tail = OutputTail(folder / OUTPUT_FILE)
    tail.read()
    for line in list(tail.lines)[-TOLD_LINES:]:
        shown.line(f"  {visible(line)}")
    return 2 if status == REFUSED else 1


def _failed(record: RunRecord, shown: Display) -> int:
    by_preflight = record.reason == "preflight"
    findings = record.findings if by_preflight else []
    for finding in findings:
        shown.line(f"{finding.get('level')}: {finding.get('check')}: {visible(finding.get('message', ''))}")
        for line in str(finding.get("detail") or "").splitlines():
            shown.line(f"  {visible(line)}")
    # Where there are findings, the error and its hint are the first of them again.
    for text, style in () if findings else ((record.error or record.reason, "bold red"), (record.hint, "")):
        for line in text.splitlines():
            shown.line(visible(line), style)
    if by_preflight:
        shown.line("Mend the file, or start all the same with --override.")
    return 2 if by_preflight else 1
