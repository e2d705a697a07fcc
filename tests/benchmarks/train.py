"""What watching costs a training: steps per second bare, in its own process, and in the workbench's thread.

All three in one run, in turn, on the CPU with one thread of torch's, so that the screen has a core of its
own.
Bytes are counted while nothing is typed; keys are typed afterwards, while the training goes on: those that
change a line, those that lay the screen out anew, and those that bring another screen. `t` is told apart: it
comes once a training, before anything of it is imported.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lorabench.app import REFRESH_SECONDS
from lorabench.resources import resource
from lorabench.runs.events import EVENTS_FILE, Event, Follower
from lorabench.runs.history import RUN_FILE
from lorabench.runs.requests import request_stop
from tests.benchmarks.face import SIZE, bare_paints, paint_lines, paint_time
from tests.benchmarks.table import Line, seconds
from tests.terminal import COMMAND, Terminal, environment

ROUNDS = 3
KEYS = ("l", "1", "3", " ", " ", "p", "p", "p", "p", "1", "w", "?q")
"""What is typed, in turn; from the first of several keys on the time is taken, the others go back."""
TURNS = 3
PATIENCE = 600.0
THREADS = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
CONFIG = """\
model_name_or_path: {model}
dataset_name: {data}
assistant_only_loss: true
use_peft: true
lora_r: 8
lora_target_modules: [q_proj, k_proj, v_proj, o_proj]
per_device_train_batch_size: 4
max_length: 128
max_steps: {steps}
learning_rate: 0.001
logging_steps: 5
save_strategy: "no"
bf16: false
use_cpu: true
gradient_checkpointing: false
report_to: none
output_dir: {folder}
"""
# `trl sft` as it is, with nothing but a note of when each line of its log came.
BARE = """
import json, sys, time
import trl
from transformers import TrainerCallback

class Notes(TrainerCallback):
    def on_log(self, args, state, control, **_):
        with open(sys.argv[2], "a") as file:
            file.write(json.dumps({"kind": "log", "step": state.global_step, "time": time.time()}) + "\\n")

class Noted(trl.SFTTrainer):
    def __init__(self, *args, **more):
        super().__init__(*args, callbacks=[Notes()], **more)

trl.SFTTrainer = Noted
from trl.scripts import sft

parser = sft.make_parser()
sft.main(*parser.parse_args_and_config(["--config", sys.argv[1]]))
"""
HEAVIER = """
import shutil, sys
from transformers import LlamaConfig, LlamaForCausalLM

demo, folder = sys.argv[1:]
config = LlamaConfig.from_pretrained(demo)
config.hidden_size, config.intermediate_size, config.num_hidden_layers = 384, 1024, 7
config.num_attention_heads = config.num_key_value_heads = 6
config.head_dim = 64
LlamaForCausalLM(config).save_pretrained(folder)
for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
    shutil.copy(f"{demo}/{name}", folder)
"""


@dataclass(frozen=True, slots=True)
class Model:
    """A model to train, and the steps between which its speed is taken; what comes before is warming up."""

    name: str
    path: Path
    begin: int
    end: int
    goal: str


@dataclass(slots=True)
class Measured:
    """What one training gave: steps per second; of a screen its bytes, and the times from key to paint."""

    speed: float
    bytes_per_second: float = 0.0
    bytes_of_all: int = 0  # to paint the whole screen once
    begun: float = 0.0
    paints: list[tuple[float, str]] = field(default_factory=list)


def train(folder: Path) -> Iterator[Line]:
    """The demo model, and one of ten times its parameters."""
    demo = resource("sample_adapters") / "demo-model"
    heavier = folder / "heavier"
    subprocess.run([sys.executable, "-c", HEAVIER, str(demo), str(heavier)], check=True, **_quiet())
    yield from measure(folder, Model("demo model", demo, 20, 200, "≥ 0.85"))
    yield from measure(folder, Model("13 M parameters", heavier, 10, 50, "≥ 0.92"))


def measure(folder: Path, model: Model, rounds: int = ROUNDS, turns: int = TURNS) -> Iterator[Line]:
    """Train a model in all three ways, in turn, so that all meet the same neighbours."""
    ways: dict[str, Callable[[Path, Model, int], Measured]] = {
        "bare": _bare,
        "own process, watched": _own_process,
        "worker thread, watched": _thread,
    }
    found: dict[str, list[Measured]] = {way: [] for way in ways}
    bare_keys: list[float] = []
    for number in range(rounds):
        for way, run in ways.items():
            found[way].append(run(folder / f"{model.name}-{number}-{len(way)}", model, turns))
        bare_keys += bare_paints()
    bare = [each.speed for each in found.pop("bare")]
    for way, measured in found.items():
        speed = statistics.median(each.speed for each in measured)
        ratio = statistics.median(each.speed / alone for each, alone in zip(measured, bare, strict=True))
        goal = "≥ 0.98" if way.startswith("own") else model.goal
        yield Line(
            f"{model.name}, {way}: steps/s",
            f"{speed:.2f}",
            f"{statistics.median(bare):.2f}",
            f"{ratio:.3f}",
            goal,
        )
        yield from _paints(measured, bare_keys)
        rate = statistics.median(each.bytes_per_second for each in measured)
        all_anew = statistics.median(each.bytes_of_all for each in measured) / REFRESH_SECONDS
        less = f"{rate / all_anew:.2f} ×"
        yield Line("  bytes/s, beside all painted anew", f"{rate:.0f}", f"{all_anew:.0f}", less, "< 8000")


def _paints(measured: list[Measured], bare: list[float]) -> Iterator[Line]:
    paints = [paint for each in measured for paint in each.paints]
    yield from paint_lines("  key to paint", [paint for paint, _ in paints], bare)
    worst, key = max(paints)
    yield Line(f"  worst, {key!r}", seconds(worst), goal="≤ 120 ms")
    yield Line("  worst of `t`", seconds(max(each.begun for each in measured)), goal="≤ 120 ms")


def _bare(folder: Path, model: Model, turns: int) -> Measured:
    config = _write(folder, model, model.end)
    notes = folder / "notes.jsonl"
    subprocess.run([sys.executable, "-c", BARE, str(config), str(notes)], check=True, **_quiet())
    return Measured(_speed(Follower(notes).read(), model))


def _own_process(folder: Path, model: Model, turns: int) -> Measured:
    return _watched(folder, model, turns, "--own-process")


def _thread(folder: Path, model: Model, turns: int) -> Measured:
    return _watched(folder, model, turns)


def _watched(folder: Path, model: Model, turns: int, *options: str) -> Measured:
    """Train a run in the workbench: watch in peace at first, then type."""
    _write(folder, model, 100 * model.end)
    terminal = Terminal([*COMMAND, str(folder), *options], size=SIZE, **THREADS)
    terminal.wait_for("configured")
    begun = paint_time(terminal, "t")
    run = _Run(folder, terminal)
    run.wait_for_step(model.begin)
    painted, begin = len(terminal.painted), time.monotonic()
    run.wait_for_step(model.end)
    rate = (len(terminal.painted) - painted) / (time.monotonic() - begin)
    paints = []
    for first, *others in KEYS * turns:
        paints.append((paint_time(terminal, first), first))
        for key in others:
            paint_time(terminal, key)
    everything = _bytes_of_all(terminal)
    request_stop(folder)
    run.wait_for(lambda event: event["kind"] == "stopped")
    os.kill(terminal.child, signal.SIGTERM)  # `q` would ask, while the trainer's process is not quite gone
    terminal.close()
    return Measured(_speed(run.events, model), rate, everything, begun, paints)


def _bytes_of_all(terminal: Terminal) -> int:
    """Leave the screen and come back to it, which paints all of it."""
    paint_time(terminal, "1")
    while terminal.read(0.1):
        pass
    painted = len(terminal.painted)
    paint_time(terminal, "3")
    while terminal.read(0.1):
        pass
    return len(terminal.painted) - painted


class _Run:
    """A training in a terminal, followed by its events while the terminal is read."""

    def __init__(self, folder: Path, terminal: Terminal) -> None:
        self.events: list[Event] = []
        self._follower = Follower(folder / EVENTS_FILE)
        self._terminal = terminal

    def wait_for_step(self, step: int) -> None:
        """Wait until the log has come to this step."""
        self.wait_for(lambda event: event["kind"] == "log" and event["step"] >= step)

    def wait_for(self, holds: Callable[[Event], bool]) -> None:
        """Wait until this holds of an event."""
        deadline = time.monotonic() + PATIENCE
        while not any(map(holds, self.events)):
            if time.monotonic() > deadline:
                raise AssertionError(f"it never came to that; the screen shows:\n{self._terminal.shown}")
            self._terminal.read(0.1)
            self.events += self._follower.read()


def _speed(events: list[Event], model: Model) -> float:
    times = {event["step"]: event["time"] for event in events if event["kind"] == "log"}
    return (model.end - model.begin) / (times[model.end] - times[model.begin])


def _write(folder: Path, model: Model, steps: int) -> Path:
    folder.mkdir()
    data = resource("sample_adapters") / "demo-data"
    config = folder / RUN_FILE
    config.write_text(CONFIG.format(model=model.path, data=data, steps=steps, folder=folder))
    return config


def _quiet() -> dict[str, object]:
    return {
        "env": environment(**THREADS),
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
    }
