"""The thin parent: it waits for the workbench, and lets the shell have its prompt while that trains on."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import termios
from collections.abc import Callable

from lorabench.terminal.tty_file import RESET

_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP)
_DETACHED = signal.SIGUSR1
_AWAITED = {*_PASSED_ON, _DETACHED, signal.SIGCHLD, signal.SIGCONT}
_FROM_THE_KERNEL = 0x80  # SI_KERNEL of sigaction(2): keys of the terminal, and its end

_parent: int | None = None


def run_in_child(work: Callable[[], int]) -> int:
    """Run `work` in a forked child, and return its exit status in the child as in this process.

    To be called with a terminal as standard input, before threads are started and before anything heavy is
    imported. This process then only waits. It passes on signals that were sent to it (those that a terminal
    sends reach the child by itself), stops when the child is stopped, so that the shell sees a stopped job,
    and returns 0 as soon as the child calls `detach`. Where the system cannot wait for signals (macOS), there
    is no parent.
    """
    if not hasattr(signal, "sigwaitinfo"):
        return work()
    sys.stdout.flush()
    sys.stderr.flush()
    parent, attributes = os.getpid(), termios.tcgetattr(0)
    # Blocked in both until each is ready for them: none is lost in between.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    child = os.fork()
    if child == 0:
        global _parent
        _parent = parent
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return work()
    status = _wait(child)
    if status < 0:
        # It had no time to leave full-screen mode: the kernel kills whoever takes too much memory.
        with contextlib.suppress(OSError, termios.error):
            os.write(1, RESET.encode())
            termios.tcsetattr(0, termios.TCSANOW, attributes)
            os.write(2, f"lorabench was ended by {signal.Signals(-status).name}.\n".encode())
    return status if status >= 0 else 128 - status


def detach() -> None:
    """Let the waiting parent return 0, and leave its session: what ends the terminal ends us no more."""
    if _parent is not None and os.getppid() == _parent:
        os.setsid()
        os.kill(_parent, _DETACHED)


def _wait(child: int) -> int:
    """Wait until the child ends or is detached; return its exit status, -n where signal n has ended it."""
    stopped = False
    while True:
        told = signal.sigwaitinfo(_AWAITED)
        if told.si_signo == _DETACHED and told.si_pid == child:
            return 0
        while True:
            pid, status = os.waitpid(child, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            if pid == 0:
                break
            if os.WIFSTOPPED(status):
                stopped = True
                os.kill(os.getpid(), signal.SIGSTOP)
            elif os.WIFCONTINUED(status):
                stopped = False
            else:
                return os.waitstatus_to_exitcode(status)
        # What the terminal sends, it sends to the child as well.
        sent = told.si_signo in _PASSED_ON and told.si_code != _FROM_THE_KERNEL
        if sent or (told.si_signo == signal.SIGCONT and stopped):
            os.kill(child, told.si_signo)
