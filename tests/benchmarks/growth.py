"""Ten times the layers, the rows of a log, the runs of a folder: ten times the time and memory, or less.

Each is measured in a process of its own, which has done the same on a small scale before, so that what is
done once costs neither; in seconds of processors, which others that use the machine do not lengthen.
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from lorabench.app import LorabenchApp
from lorabench.cli.analyze import Options, analyze
from lorabench.cli.describe import describe
from lorabench.cli.output import Page
from lorabench.runs.history import read_history, read_news
from lorabench.screens.bench import BenchScreen
from lorabench.screens.folder_look import FolderLook
from lorabench.screens.listing import list_folder
from lorabench.screens.train import TrainScreen
from lorabench.screens.train_watch import RunWatch
from lorabench.widgets.log_pane import LogPane
from tests.benchmarks.adapters import generate
from tests.benchmarks.face import MODULES
from tests.benchmarks.table import Line, seconds
from tests.face.looking import settled, until

TINY = 7
LAYERS = (56, 560, 5_600)
ROWS = (10_000, 100_000, 1_000_000)
RUNS = (100, 1_000, 10_000)
LEAST_MEGABYTES = 1.0  # less cannot be told from what Python takes in passing
SIZE = (120, 36)
PATIENCE = 30_000
GOAL = "≤ 10 ×"
_STATUS = Path("/proc/self/status")


def layers(folder: Path, count: int) -> None:
    """Write an adapter of so many layers."""
    names = [f"{at // len(MODULES)}.self_attn.{MODULES[at % len(MODULES)]}" for at in range(count)]
    generate(folder, dict.fromkeys(names, (64, 64)))


def rows(folder: Path, count: int) -> None:
    """Write a run of so many events, and as many lines of output."""
    folder.mkdir()
    with (folder / "events.jsonl").open("w") as file:
        file.write(json.dumps({"time": 0.0, "kind": "started", "total_steps": count}) + "\n")
        for step in range(1, count + 1):
            numbers = {"loss": 3 - 2 * step / count, "learning_rate": 1e-3, "grad_norm": 1.5}
            event = {"time": float(step), "kind": "log", "step": step, **numbers}
            file.write(json.dumps(event) + "\n")
    with (folder / "output.log").open("w") as file:
        file.writelines(f"step {step}: a line of what the libraries print\n" for step in range(count))


def runs(folder: Path, count: int) -> None:
    """Write so many runs with some events each."""
    for number in range(count):
        run = folder / f"run-{number}"
        run.mkdir(parents=True)
        (run / "run.yaml").write_text("lora_r: 8\nlora_target_modules: [q_proj, v_proj]\n")
        events = [{"kind": "started", "total_steps": 9}, {"kind": "log", "step": 9, "loss": number / 7}]
        (run / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def _describe(folder: Path) -> object:
    return describe(folder, Page(), factors=False, style="text")


def _analyze(folder: Path) -> object:
    return analyze(folder, Page(), Options())


def _read_events(folder: Path) -> RunWatch:
    watch = RunWatch(folder)
    while watch.read():
        pass
    return watch


def _look_again(folder: Path) -> Callable[[], object]:
    look = FolderLook(folder)
    listed = list_folder(folder)
    look.listed(listed)
    look._rests_until = 0.0
    return lambda: (look.changed(), [read_news(row.path, row.history) for row in listed if row.history])


async def _layers_table(app: LorabenchApp, pilot: Pilot[None], folder: Path) -> None:
    app.open_adapter(folder)
    await until(pilot, lambda: app.analysis.state == "done", PATIENCE)


async def _train_screen(app: LorabenchApp, pilot: Pilot[None], folder: Path) -> None:
    await app.switch_mode("bench")
    app.watch_run(folder)

    def caught_up() -> bool:
        watch = app.screen.watched if isinstance(app.screen, TrainScreen) else None
        return watch is not None and watch.folder == folder and watch.caught_up

    await until(pilot, caught_up, PATIENCE)


async def _bench_table(app: LorabenchApp, pilot: Pilot[None], folder: Path) -> None:
    app.open_folder(folder)
    bench = app.screen
    assert isinstance(bench, BenchScreen)
    await until(pilot, lambda: bench.look is not None and bench.table.row_count == len(bench.rows), PATIENCE)


async def _shown_folder(app: LorabenchApp, pilot: Pilot[None], folder: Path) -> Callable[[], Awaitable[None]]:
    await _bench_table(app, pilot, folder)
    bench = app.screen
    assert isinstance(bench, BenchScreen)

    async def filter_and_unfilter() -> None:
        for bench.wanted in ("run-1", ""):
            bench.refill()
            await pilot.pause()

    return filter_and_unfilter


async def _shown_log(app: LorabenchApp, pilot: Pilot[None], folder: Path) -> Callable[[], Awaitable[None]]:
    await _train_screen(app, pilot, folder)

    async def search() -> None:
        app.screen.query_one(LogPane).search("9: a line")
        await pilot.pause()

    return search


@dataclass(frozen=True, slots=True)
class Task:
    """What is measured, on three sizes of what `make` writes.

    `work` is done at once, or gives what is to be done then; in a workbench where it is a coroutine.
    """

    title: str
    make: Callable[[Path, int], None]
    sizes: tuple[int, int, int]
    work: Callable[..., Any]
    prepared: bool = False


TASKS = {
    task.title: task
    for task in (
        Task("describe", layers, LAYERS, _describe),
        Task("analyze", layers, LAYERS, _analyze),
        Task("Layers screen, all computed", layers, LAYERS, _layers_table),
        Task("events into a record", rows, ROWS, _read_events),
        Task("events for the bench", rows, ROWS, read_history),
        Task("Train screen's first picture", rows, ROWS, _train_screen),
        Task("search the log", rows, ROWS, _shown_log, prepared=True),
        Task("list the folder", runs, RUNS, list_folder),
        Task("look at it again", runs, RUNS, _look_again, prepared=True),
        Task("Bench's first table", runs, RUNS, _bench_table),
        Task("filter it, and show all", runs, RUNS, _shown_folder, prepared=True),
    )
}


def growth(folder: Path) -> Iterator[Line]:
    """Time and memory of each task at three sizes, each beside a tenth of it."""
    made: set[Path] = set()
    for task in TASKS.values():
        before: tuple[float, float] | None = None
        for size in (TINY, *task.sizes):
            place = folder / f"{task.make.__name__}-{size}"
            if place not in made:
                task.make(place, size)
                made.add(place)
            if size == TINY:
                continue
            spent, grown = _measured(task, folder / f"{task.make.__name__}-{TINY}", place)
            if before is None:
                yield Line(f"{task.title}: {size:,} {task.make.__name__}", seconds(spent))
            else:
                was, had = before
                ratio = f"{spent / was:.1f} ×"
                yield Line(f"  {size:,}", seconds(spent), seconds(was), ratio, GOAL)
                yield Line("    memory", f"{grown:.1f} MB", f"{had:.1f} MB", f"{grown / had:.1f} ×", GOAL)
            before = spent, grown


def _measured(task: Task, tiny: Path, place: Path) -> tuple[float, float]:
    command = [sys.executable, "-m", "tests.benchmarks.growth", task.title, str(tiny), str(place)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    spent, grown = json.loads(done.stdout.splitlines()[-1])
    return spent, max(grown, LEAST_MEGABYTES)


def _measure(task: Task, tiny: Path, place: Path) -> list[float]:
    if asyncio.iscoroutinefunction(task.work):
        return asyncio.run(_measure_face(task, tiny, place))
    for folder in (tiny, place):
        work = task.work(folder) if task.prepared else partial(task.work, folder)
        begin = _Begin()
        work()
    return begin.spent


async def _measure_face(task: Task, tiny: Path, place: Path) -> list[float]:
    app = LorabenchApp(tiny)
    async with app.run_test(size=SIZE) as pilot:
        await settled(pilot)
        for folder in (tiny, place):
            work = partial(task.work, app, pilot, folder)
            if task.prepared:
                work = await work()
            begin = _Begin()
            await work()
            spent = begin.spent
    return spent


class _Begin:
    """The processors' seconds and the peak of memory, from now on."""

    def __init__(self) -> None:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # begins the peak anew (proc_pid_clear_refs(5))
        self._memory = _megabytes("VmRSS")
        self._seconds = time.process_time()

    @property
    def spent(self) -> list[float]:
        """Seconds, and megabytes at most."""
        return [time.process_time() - self._seconds, _megabytes("VmHWM") - self._memory]


def _megabytes(name: str) -> float:
    found = re.search(rf"{name}:\s+([0-9]+)", _STATUS.read_text())
    assert found
    return int(found[1]) * 1024 / 1e6


if __name__ == "__main__":
    title, *folders = sys.argv[1:]
    print(json.dumps(_measure(TASKS[title], *map(Path, folders))))
