"""Ten times as much takes ten times the work, counted in calls: a time would hang on who else computes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from lorabench.app import LorabenchApp
from lorabench.cli.describe import describe
from lorabench.cli.output import Page
from lorabench.errors import LorabenchError
from lorabench.screens.bench import BenchScreen
from lorabench.screens.folder_look import FolderLook
from lorabench.screens.listing import list_folder
from lorabench.screens.run_table import RunTable
from lorabench.screens.train_watch import RunWatch
from tests.benchmarks.growth import layers, rows, runs
from tests.face.looking import settled

NOT_COMPUTED = LorabenchError("It cannot be read.")


def calls_of(work: Callable[[], object]) -> int:
    """Count the calls of functions, Python's and C's, that something takes."""
    count = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    work()  # what is done once is done
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def read_whole(folder: Path) -> RunWatch:
    watch = RunWatch(folder)
    while watch.read():
        pass
    return watch


def look_again(folder: Path) -> set[Path]:
    look = FolderLook(folder)
    look.listed(list_folder(folder))
    look._rests_until = 0.0
    return look.changed()


@pytest.mark.parametrize(
    ("make", "size", "work"),
    [
        (layers, 30, lambda folder: describe(folder, Page(), factors=False, style="text")),
        (rows, 300, read_whole),
        (runs, 30, list_folder),
        (runs, 30, look_again),
    ],
    ids=["describe", "events", "list the folder", "look at it again"],
)
def test_ten_times_as_much_takes_ten_times_the_calls(
    make: Callable[[Path, int], None], size: int, work: Callable[[Path], object], tmp_path: Path
) -> None:
    counts = []
    for number in (size, 10 * size):
        make(tmp_path / str(number), number)
        counts.append(calls_of(lambda at=tmp_path / str(number): work(at)))
    assert counts[1] <= 10.2 * counts[0]


async def test_what_one_run_tells_costs_the_bench_the_same_among_many(tmp_path: Path) -> None:
    renewing, forgetting = [], []
    for number in (20, 200):
        folder = tmp_path / str(number)
        runs(folder, number)
        app = LorabenchApp(folder)
        async with app.run_test(size=(120, 36)) as pilot:
            await settled(pilot)
            assert isinstance(app.screen, BenchScreen)
            table = app.screen.query_one(RunTable)
            last = table.shown[-1].path
            assert last.name == f"run-{number - 1}"
            renewing.append(calls_of(lambda at=last, to=table: to.add_summary(at, NOT_COMPUTED)))
            assert str(table.get_cell(str(last), "state")) == "✘ unreadable"
            everything = dict.fromkeys(table.places, NOT_COMPUTED)

            def forget_all(to: RunTable = table, known: dict[Path, LorabenchError] = everything) -> None:
                to.summaries = dict(known)
                to.forget(known)
                assert not to.summaries

            forgetting.append(calls_of(forget_all))
    assert renewing[1] <= 1.2 * renewing[0]
    assert forgetting[1] <= 10.2 * forgetting[0]


async def test_a_run_among_many_is_rewritten_at_its_own_place(tmp_path: Path) -> None:
    runs(tmp_path, 30)
    app = LorabenchApp(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        assert isinstance(app.screen, BenchScreen)
        with (tmp_path / "run-7" / "events.jsonl").open("a") as file:
            file.write(json.dumps({"kind": "log", "step": 10, "loss": 0.25}) + "\n")
        app.screen.read_news()
        await settled(pilot)
        table = app.screen.query_one(RunTable)
        row = table.places[tmp_path / "run-7"]
        assert [str(cell).strip() for cell in table.get_row_at(row)][:6:5] == ["run-7", "0.250"]
        assert table.shown[row].history is not None
        assert table.shown[row].history.loss == 0.25
