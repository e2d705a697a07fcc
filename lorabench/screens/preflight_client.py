"""The workbench's end of the preflight: a child process that knows torch, so that this one need not."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from textual.message import Message
from textual.screen import Screen
from textual.timer import Timer
from textual.worker import Worker, WorkerError

import lorabench

PAUSE = 0.3  # seconds after the last key, before a request is worth its work
PATIENCE = 3.0  # seconds that a newer request waits for a check of an older one, which nobody wants any more
LONGEST_LINE = 64 * 2**20
SERVER = "lorabench.training.preflight.server"

Request = dict[str, Any]


@dataclass
class Answered(Message):
    """The child has said something about the newest request of this kind (`ask`); see its module."""

    ask: str
    answer: dict[str, Any]


@dataclass
class Crashed(Message):
    """The child has ended by itself; `last_words` is the last line that it printed."""

    last_words: str
    restarted: bool


class PreflightClient:
    """Asks the child and posts what it answers to a screen; the child starts with the first request.

    Only the newest request of each kind counts. A child that crashes is started once more with what it
    left unanswered; one that crashes again waits for the next request. One that is still at a check of an
    older request, which can take minutes and cannot be interrupted, is killed and started anew.
    """

    def __init__(self, screen: Screen[None]) -> None:
        self._screen = screen
        self._numbers = itertools.count(1)
        self._open: dict[str, Request] = {}
        self.process: asyncio.subprocess.Process | None = None
        self._timer: Timer | None = None
        self._impatience: Timer | None = None
        self._has_spoken = self._given_up = False  # the child that lives now
        self._begun = False
        self._conversation: Worker[None] | None = None

    def ask_soon(self, ask: str, **fields: object) -> None:
        """Ask when no other request of any kind follows within a moment."""
        if self._timer is not None:
            self._timer.stop()
        self._timer = self._screen.set_timer(PAUSE, partial(self.ask, ask, **fields))

    def ask(self, ask: str, **fields: object) -> None:
        """Ask now; what an older request of this kind has still to say is not passed on any more."""
        request = {"id": next(self._numbers), "ask": ask, **fields}
        outdates = ask in self._open
        self._open[ask] = request
        if self.process is not None:
            self._send(request)
            # One that is still importing has begun with nothing: to start it anew would only take longer.
            if outdates and self._has_spoken and self._impatience is None:
                self._impatience = self._screen.set_timer(PATIENCE, self._give_up)
        elif not self._begun:
            self._begun = True
            self._conversation = self._screen.run_worker(
                self._converse(), group="preflight", name="preflight", exit_on_error=False
            )

    async def end(self) -> None:
        """End the child, and wait until nothing of it is left in an event loop that ends next."""
        if self._conversation is not None:
            await ended(self._conversation)

    def _send(self, request: Request) -> None:
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.write(json.dumps(request, default=str).encode() + b"\n")

    def _give_up(self) -> None:
        """End the child: what it is doing is for a request that a newer one has replaced."""
        self._impatience = None
        if self.process is not None and self.process.returncode is None:
            self._given_up = True
            self.process.kill()

    def _be_patient(self) -> None:
        if self._impatience is not None:
            self._impatience.stop()
            self._impatience = None

    async def _converse(self) -> None:
        """Keep a child for as long as it lives, and start it once more where it left a request open."""
        crashed = False
        try:
            while True:
                last_words = await self._one_life()
                if self._given_up:
                    continue
                again = bool(self._open) and not crashed
                crashed = True
                self._screen.post_message(Crashed(last_words, restarted=again))
                if not again:
                    self._open.clear()
                    return
        finally:
            self._begun = False

    async def _one_life(self) -> str:
        """Start a child, ask it what is open, pass on its answers; return its last words."""
        self._has_spoken = self._given_up = False
        with tempfile.TemporaryFile() as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                SERVER,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                limit=LONGEST_LINE,
                env=child_environment(),
            )
            try:
                self.process = process
                for request in self._open.values():
                    self._send(request)
                assert process.stdout is not None
                async for line in process.stdout:
                    self._pass_on(json.loads(line))
            finally:
                self.process = None
                self._be_patient()
                await killed(process)
            log.seek(0)
            lines = log.read().decode(errors="replace").split("\n")
            return next((line for line in reversed(lines) if line.strip()), f"status {process.returncode}")

    def _pass_on(self, answer: dict[str, Any]) -> None:
        self._has_spoken = True
        number = answer.pop("id")
        for ask, request in self._open.items():
            if request["id"] == number:
                self._be_patient()
                self._screen.post_message(Answered(ask, answer))
                if answer["kind"] == "done":
                    del self._open[ask]
                return


async def killed(child: asyncio.subprocess.Process) -> None:
    """Kill a child, unless it has ended, and close its pipes: they would outlive the event loop."""
    if child.returncode is None:
        child.kill()
    if child.stdin is not None:
        child.stdin.close()
    await child.communicate()


async def ended(worker: Worker[None]) -> None:
    """Cancel a worker, and wait until it has come to its end.

    One that is cancelled already is cleaning up, as Textual cancels all before it takes the screens down:
    a second cancel would end that, and leave its child to a loop that is closed.
    """
    if not worker.is_cancelled:
        worker.cancel()
    with contextlib.suppress(WorkerError):
        await worker.wait()


def child_environment() -> dict[str, str]:
    """The environment of the child: it finds this lorabench, wherever the user's folder is."""
    home = str(Path(lorabench.__file__).parent.parent)
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
