"""`lorabench` on a pty as it trains a run, and what may be done to it."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from lorabench.runs.checkpoints import newest_whole
from tests.chaos.troubles import SAVE_STEPS, Trouble, Way
from tests.face.trainings import kinds, wait_until, workbench_of
from tests.terminal import Terminal

SIZE = (100, 30)
# The same signal twice within half a second is one: `timeout` sends it to parent and child.
BETWEEN_INTERRUPTS = 0.7
# What a full pty holds, and what the screens lose patience after.
STALL_SECONDS = 2.5
_TAG = "LORABENCH_CHAOS"
_MODES_ON = re.compile(rb"\x1b\[\?(1016|2048)h")


class Program:
    """`lorabench` on a run, or on the folder of it.

    All processes that come of it are known by the run's name in their environment.
    """

    def __init__(self, run: Path, *words: object, **env: str) -> None:
        self.run = run
        temporary = run.parent.parent / "temporary"
        temporary.mkdir(exist_ok=True)
        env |= {_TAG: str(run), "TMPDIR": str(temporary), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        self.terminal = Terminal(*words, size=SIZE, **env)
        self.before = termios.tcgetattr(self.terminal.device)
        self.modes = set(self.terminal.screen.mode)
        self.status: int | None = None
        self.closed = False

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Read what is painted until this holds."""
        try:
            wait_until(lambda: (self.read(), holds())[1], what)
        except AssertionError as error:
            raise AssertionError(
                f"{error}; {kinds(self.run)[-3:]}; it shows\n{self.terminal.shown}"
            ) from None

    def until_shown(self, *texts: str) -> str:
        """Read until the screen shows one of these; return which."""
        self.until(lambda: self.shows(*texts) != "", " or ".join(texts))
        return self.shows(*texts)

    def shows(self, *texts: str) -> str:
        """Return the first of these that the screen shows, or nothing."""
        return next((text for text in texts if text in self.terminal.shown), "")

    def read(self) -> None:
        """Take in what is painted by now."""
        while not self.closed and self.terminal.read(0):
            pass

    def look_on(self, seconds: float) -> None:
        """Do nothing but read for a while."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if not self.terminal.read(left):
                select.select([], [], [], min(0.01, max(0.0, left)))

    @property
    def parent(self) -> int:
        """The process that the shell waits for."""
        return self.terminal.child

    def ended(self) -> bool:
        """Whether that process has ended."""
        if self.status is None:
            pid, status = os.waitpid(self.parent, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def resize(self, columns: int, rows: int) -> None:
        """Let the terminal have another size."""
        fcntl.ioctl(self.terminal.device, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def hang_up(self) -> None:
        """Let the line drop."""
        os.close(self.terminal.device)
        self.closed = True

    def assert_terminal_is_given_back(self) -> None:
        """Everything that the screens switch on is off, and the shell has its line editing."""
        # Where the parent was killed, it is the screens that do so, and they have just begun.
        self.until(lambda: set(self.terminal.screen.mode) == self.modes, "the shell's screen")
        painted = self.terminal.painted
        assert termios.tcgetattr(self.terminal.device) == self.before
        assert len(re.findall(rb"\x1b\[>\d+u", painted)) <= painted.count(b"\x1b[<u")
        for mode in _MODES_ON.findall(painted):
            assert b"\x1b[?%bl" % mode in painted
        assert b"Traceback" not in painted, painted[-3000:].decode(errors="replace")


def processes_of(run: Path) -> list[psutil.Process]:
    """All processes that came of a program on this run and still live, with their words in `info`."""
    processes = psutil.process_iter(["environ", "status", "cmdline", "ppid"])
    ours = [each for each in processes if (each.info["environ"] or {}).get(_TAG) == str(run)]
    return [each for each in ours if each.info["status"] != psutil.STATUS_ZOMBIE]


def trainers_of(run: Path) -> list[int]:
    """The processes of their own that train this run: one, or none by now."""
    return [
        each.pid for each in processes_of(run) if "lorabench.training.trainer" in (each.info["cmdline"] or ())
    ]


def attempt(run: Path, way: Way) -> Program:
    """Open what trains the run; `begin` lets it."""
    if way == "command":
        return Program(run, "train", run, "--resume" if newest_whole(run)[0] else "--anew")
    return Program(run, run.parent, *(["--own-process"] if way == "own process" else []))


def begin(program: Program, way: Way) -> None:
    """Do what begins the training, and go on from the checkpoint where there is one."""
    if way == "command":
        program.until_shown("process ")
        return
    program.until_shown(program.run.name)
    if way == "config":
        program.terminal.type("2")
        program.until_shown("lora_r")
    program.terminal.type("t")
    if program.until_shown("◐ starting", "● training", "✔ finished", "start anew") == "start anew":
        program.terminal.type("\r")
        program.until_shown("◐ starting", "● training", "✔ finished")


def wait_for(program: Program, trouble: Trouble, before: int) -> None:
    """Wait for the trouble's moment; `before` counts the events of earlier attempts."""
    run = program.run
    saved = {path.name for path in run.glob("checkpoint-*")}

    def now() -> bool:
        new = kinds(run)[before:]
        if not new:
            return trouble.moment in ("start", "import")
        if new[-1] in ("finished", "stopped", "failed"):
            return True
        if trouble.moment == "training":
            return new.count("log") >= trouble.step
        if trouble.moment == "checkpoint":
            wanted = f"checkpoint-{-(-trouble.step // SAVE_STEPS) * SAVE_STEPS}"
            new_ones = {path.name for path in run.glob("checkpoint-*")} - saved
            return wanted in new_ones or (wanted in saved and bool(new_ones))
        signs = {"loading": "stage loading", "saving": "stage saving", "finished": "finished"}
        return trouble.moment not in signs or signs[trouble.moment] in new

    program.until(now, trouble.moment)
    program.look_on(trouble.delay)


def strike(program: Program, trouble: Trouble) -> None:
    """Let the trouble come."""
    {
        "hang up": lambda: program.hang_up(),
        "hang up by signal": lambda: _signal(program, trouble, signal.SIGHUP),
        "terminate": lambda: _signal(program, trouble, signal.SIGTERM),
        "interrupt": lambda: _interrupt_twice(program, trouble),
        "kill": lambda: _signal(program, trouble, signal.SIGKILL),
        "stop": lambda: _stop(program, trouble),
        "resize": lambda: _resize(program),
        "end of input": lambda: _end_input(program),
        "stall": lambda: _stall(program),
        "stall and hang up": lambda: (_stall(program), program.hang_up()),
        "detach": lambda: program.terminal.type("d"),
    }[trouble.kind]()


def _signal(program: Program, trouble: Trouble, number: int) -> None:
    if program.ended():
        return
    if trouble.target == "group":
        os.killpg(program.parent, number)
    else:
        os.kill(_target(program, trouble), number)


def _target(program: Program, trouble: Trouble) -> int:
    if trouble.target == "screens":
        return workbench_of(program.parent)
    return trainers_of(program.run)[0] if trouble.target == "trainer" else program.parent


def _interrupt_twice(program: Program, trouble: Trouble) -> None:
    for _ in range(2):
        try:
            if trouble.target == "keys":
                program.terminal.type("\x03")
            else:
                _signal(program, trouble, signal.SIGINT)
        except (ProcessLookupError, IndexError):
            return  # the first one was enough
        program.look_on(BETWEEN_INTERRUPTS)


def _stop(program: Program, trouble: Trouble) -> None:
    try:
        pid = program.parent if trouble.target == "group" else _target(program, trouble)
        _signal(program, trouble, signal.SIGSTOP)
    except (ProcessLookupError, IndexError):
        return  # it has ended by itself
    program.look_on(1.0)
    # As a shell does, which knows of no other process.
    goes_on = pid if trouble.target == "trainer" else program.parent
    if trouble.target == "group":
        os.killpg(goes_on, signal.SIGCONT)
    else:
        os.kill(goes_on, signal.SIGCONT)


def _resize(program: Program) -> None:
    for size in [(1, 1), SIZE, (1, 1), (3, 200), (500, 1), (1, 1), SIZE]:
        program.resize(*size)
        program.look_on(0.05)


def _end_input(program: Program) -> None:
    attributes = termios.tcgetattr(program.terminal.device)
    attributes[3] |= termios.ICANON
    termios.tcsetattr(program.terminal.device, termios.TCSANOW, attributes)
    program.terminal.type("\x04")


def _stall(program: Program) -> None:
    """Read nothing, and have more painted than the line takes."""
    program.resize(SIZE[0] + 1, SIZE[1])
    select.select([], [], [], STALL_SECONDS / 2)
    program.resize(*SIZE)
    select.select([], [], [], STALL_SECONDS / 2)
