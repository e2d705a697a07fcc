"""What may happen to a run from outside: at which moment, to whom, and what must have become of it then."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

Way = Literal["thread", "config", "own process", "command"]
"""Who trains: a thread of the workbench, begun on the Bench or on the Config screen; a process of its own
beneath it; or `lorabench train`."""

WAYS: tuple[Way, ...] = ("thread", "config", "own process", "command")
MOMENTS = ("start", "import", "loading", "training", "checkpoint", "saving", "finished")
STEPS, SAVE_STEPS = 32, 8
# The longest wait between the moment and the trouble, where the moment itself is not short.
_LASTS = {"start": 1.2, "import": 6.0, "loading": 0.3, "checkpoint": 0.02, "saving": 0.05, "finished": 0.5}
_STEP_LASTS = 0.1

_SCREENS = ("screens", "parent")
TARGETS: dict[Way, dict[str, tuple[str, ...]]] = {
    "thread": {"stop": ("screens", "group"), "kill": _SCREENS, "interrupt": ("keys", "parent")},
    "own process": {
        "stop": ("screens", "group", "trainer"),
        "kill": (*_SCREENS, "trainer"),
        "interrupt": ("keys", "parent", "trainer"),
        "terminate": ("parent", "trainer"),
    },
    "command": {
        "stop": ("parent", "trainer"),
        "kill": ("parent", "trainer"),
        "interrupt": ("keys", "parent", "trainer"),
        "terminate": ("parent", "trainer"),
    },
}
TARGETS["config"] = TARGETS["thread"]
KINDS = (
    "hang up",
    "hang up by signal",
    "terminate",
    "interrupt",
    "kill",
    "stop",
    "resize",
    "end of input",
    "stall",
    "stall and hang up",
    "detach",
)
HARMLESS = ("resize", "stop", "stall")


@dataclass(frozen=True)
class Trouble:
    """A trouble of this kind, `delay` seconds after the moment; `step` is the one to wait for in "training".

    `target` is who gets the signal: "parent" is the process that the shell waits for, "screens" the one
    behind it that paints, "group" both, "trainer" a process of its own that trains, and "keys" are typed.
    """

    kind: str
    moment: str
    target: str = "parent"
    delay: float = 0.0
    step: int = 3

    def run_goes_on(self, way: Way) -> bool:
        """Whether the run must come to its end with no more help."""
        if self.kind in ("terminate", "interrupt"):
            if way == "own process":
                return self.target != "trainer"
            return False
        if self.kind == "kill":
            return self.target != ("screens" if way in ("thread", "config") else "trainer")
        return True

    def endings(self) -> set[str]:
        """With which of these events a run ends that does not go on; none where it is torn off."""
        if self.kind != "terminate":
            return set()
        early = self.moment in ("import", "loading") or (
            self.moment == "training" and self.step <= STEPS // 2
        )
        return {"stopped"} if early else {"stopped", "finished"}

    def program_goes_on(self, way: Way) -> bool:
        """Whether the screens, or the command that follows the run, go on until the run's end."""
        if self.kind in ("resize", "stop", "stall"):
            return True
        if self.kind == "end of input":
            return way == "command"
        if self.kind == "interrupt" and self.target == "keys":
            return way == "own process"
        return way == "own process" and self.target == "trainer"

    def statuses(self, way: Way) -> set[int]:
        """With which of these statuses the program ends."""
        if self.program_goes_on(way) or self.moment == "finished":
            return {0, *self._statuses(way)}
        return self._statuses(way)

    def _statuses(self, way: Way) -> set[int]:
        if self.kind == "interrupt":
            return {0, 130}
        if self.kind == "kill":
            if self.target == "screens":
                return {128 + 9}
            return {-9} if self.target == "parent" else {1}
        if way == "command" and self.kind in ("hang up", "hang up by signal", "stall and hang up"):
            return {0, 128 + 1}
        return {0}


Attempt = tuple[Way, tuple[Trouble, ...]]


def draw_attempt(dice: random.Random, number: int) -> Attempt:
    """Draw who trains, and what happens to it; each kind of trouble comes in its turn."""
    way = dice.choice(WAYS)
    kinds = KINDS if way != "command" else KINDS[:-1]
    last = draw(dice, way, kinds[number % len(kinds)], MOMENTS)
    before = MOMENTS[1 : MOMENTS.index(last.moment)]
    if not before or dice.random() < 0.5:
        return way, (last,)
    return way, (draw(dice, way, dice.choice(HARMLESS), before), last)


def draw(dice: random.Random, way: Way, kind: str, moments: tuple[str, ...]) -> Trouble:
    """Draw who is hit by this trouble, and at which of these moments."""
    if kind == "detach":  # there must be something to leave
        moments = MOMENTS[1:4]
    if kind == "end of input":  # what is typed before there are screens is thrown away
        moments = MOMENTS[1:]
    moment = dice.choice(moments)
    targets = TARGETS[way].get(kind, ("parent",))
    if moment == "start":  # when there is only the one process
        targets = tuple(target for target in targets if target in ("parent", "keys")) or ("parent",)
    if moment == "finished":
        targets = tuple(target for target in targets if target != "trainer")
    return Trouble(
        kind,
        moment,
        dice.choice(targets),
        dice.uniform(0, _LASTS.get(moment, _STEP_LASTS)),
        dice.randint(1, STEPS - 1),
    )
