"""Screen 1 while somebody trains."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.widgets import DataTable

from lorabench.app import LorabenchApp
from lorabench.runs.events import EventWriter
from lorabench.runs.history import History
from lorabench.runs.lock import LOCK_FILE, take_lock
from lorabench.screens.folder_look import FolderLook
from lorabench.screens.listing import Row, list_folder, renewed
from lorabench.screens.run_table import RunTable
from tests.face.conftest import write_adapter
from tests.face.looking import bench_rows, detail, settled, text_of, until

Make = Callable[..., LorabenchApp]


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the bench look for news without a pause that a test would wait for."""
    monkeypatch.setattr("lorabench.screens.bench.NEWS_SECONDS", 0.05)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What the workbench is asked to train, instead of training it."""
    paths: list[Path] = []
    monkeypatch.setattr(LorabenchApp, "train_run", lambda self, path: paths.append(path))
    return paths


def states(app: LorabenchApp) -> dict[str, tuple[str, str, str]]:
    return {row[0]: (row[1], row[4], row[5]) for row in bench_rows(app)}


async def test_a_training_is_seen_from_its_start_to_its_adapter(workbench: Make, outputs: Path) -> None:
    run = outputs / "new"
    app = workbench()
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        assert states(app)["new"] == ("○ configured", "—", "—")
        await pilot.press("down")
        with take_lock(run), EventWriter(run) as events:
            await until(pilot, lambda: states(app)["new"] == ("● training", "—", "—"))
            events.write("started", total_steps=750)
            events.write("log", step=312, loss=1.84)
            await until(pilot, lambda: states(app)["new"] == ("● training", "312", "1.840"))
            assert "new 312/750" in text_of(app).splitlines()[0]
            assert "training, step 312 of 750" in detail(app)
            write_adapter(run / "checkpoint-320", layers=1)
            events.write("checkpoint", step=320, path=str(run / "checkpoint-320"))
            await until(pilot, lambda: "checkpoint-320" in states(app))
            write_adapter(run, layers=1)
            events.write("finished", step=750)
        await until(pilot, lambda: states(app)["new"][0] == "✔ finished" and bench_rows(app)[1][2] == "16")
        await until(pilot, lambda: app.running == "")
        assert "●" not in text_of(app).splitlines()[0]


async def test_a_training_is_in_the_top_line_of_every_screen(workbench: Make, outputs: Path) -> None:
    app = workbench()
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("G", "enter")
        await until(pilot, lambda: app.current_mode == "layers")
        with take_lock(outputs / "new"), EventWriter(outputs / "new") as events:
            events.write("started", total_steps=750)
            events.write("log", step=7, loss=1.84)
            await until(pilot, lambda: "● new 7/750" in text_of(app).splitlines()[0])


async def test_a_trainer_that_was_killed_has_left_an_unfinished_run(workbench: Make, outputs: Path) -> None:
    run = outputs / "new"
    app = workbench()
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("down")
        take_lock(run)
        with EventWriter(run) as events:
            events.write("started", total_steps=9)
            events.write("log", step=3, loss=2.0)
        await until(pilot, lambda: states(app)["new"][0] == "● training")
        told = json.loads((run / LOCK_FILE).read_text())
        (run / LOCK_FILE).write_text(json.dumps({**told, "started": 1}))
        await until(pilot, lambda: states(app)["new"] == ("▲ unfinished", "3", "2.000"))
        assert "which is gone" in detail(app)


async def test_a_run_that_writes_its_adapter_just_now_is_in_training_and_not_unreadable(
    workbench: Make, outputs: Path
) -> None:
    with take_lock(outputs / "damaged"):
        app = workbench()
        async with app.run_test(size=(120, 36)) as pilot:
            await settled(pilot)
            assert states(app)["damaged"][0] == "✘ unreadable"
            (outputs / "damaged" / "run.yaml").write_text("lora_r: 8\n")
            await pilot.press("r")
            await until(pilot, lambda: states(app)["damaged"][0] == "● training")


async def test_enter_and_w_on_a_run_in_training_watch_it(workbench: Make, outputs: Path) -> None:
    for key in ("enter", "w"):
        app = workbench()
        async with app.run_test(size=(120, 36)) as pilot:
            await settled(pilot)
            with take_lock(outputs / "new"):
                await until(pilot, lambda app=app: states(app)["new"][0] == "● training")  # type: ignore[misc]
                await pilot.press("down", key)
                await until(pilot, lambda app=app: app.current_mode == "train")  # type: ignore[misc]
                assert app.run_folder == outputs / "new"


async def test_t_trains_the_run_under_the_cursor(workbench: Make, outputs: Path, asked: list[Path]) -> None:
    app = workbench()
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("t")
        await until(pilot, lambda: "There is no run.yaml here to train" in text_of(app))
        await pilot.press("down", "t")
        assert asked == [outputs / "new"]


async def test_on_a_checkpoint_s_row_t_w_and_2_are_about_its_run(
    workbench: Make, outputs: Path, asked: list[Path]
) -> None:
    run = outputs / "new"
    write_adapter(run / "checkpoint-320", layers=1)
    (run / "checkpoint-320" / "trainer_state.json").write_text('{"global_step": 320, "log_history": []}')
    with EventWriter(run) as events:
        events.write("started", total_steps=750)
    app = workbench()
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("down", "down")
        assert app.screen.query_one(RunTable).current.path == run / "checkpoint-320"  # type: ignore[union-attr]
        await pilot.press("t")
        assert asked == [run]
        await pilot.press("2")
        await until(pilot, lambda: app.config_file is not None and app.config_file.path == run / "run.yaml")
        await pilot.press("1", "w")
        await until(pilot, lambda: app.current_mode == "train")
        assert app.run_folder == run


async def test_w_shows_how_a_finished_run_trained_and_says_where_none_did(
    workbench: Make, outputs: Path
) -> None:
    app = workbench()
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("w")
        await until(pilot, lambda: "No training has been recorded here" in text_of(app))
        await pilot.press("down", "down", "w")
        await until(pilot, lambda: app.current_mode == "train")
        assert app.run_folder == outputs / "run[1]"


async def test_w_shows_how_a_run_of_another_tool_trained(workbench: Make, samples: Path) -> None:
    run = samples / "style-checkpoints-r8"
    app = workbench(run)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        assert bench_rows(app)[0][1] == "✔ finished"
        await pilot.press("w")
        await until(pilot, lambda: app.current_mode == "train")
        assert app.run_folder == run
        await until(pilot, lambda: "240" in text_of(app))


async def test_the_cursor_stays_on_its_row_when_others_come(workbench: Make, outputs: Path) -> None:
    app = workbench()
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("G")
        write_adapter(outputs / "aaa", layers=1)
        await pilot.press("r")
        await until(pilot, lambda: len(bench_rows(app)) == 6)
        assert app.screen.query_one(DataTable).cursor_row == 5
        assert "style-r16" in str(app.screen.query_one("#detail").border_title)


def test_of_several_trainings_the_first_is_named_and_the_others_are_counted(outputs: Path) -> None:
    from lorabench.screens.facts import running_text

    rows = list_folder(outputs)
    news = {
        outputs / "new": History("training"),
        outputs / "run[1]": History("training", step=5, total_steps=10),
    }
    assert running_text(rows) == ""
    both, _ = renewed(rows, news)
    assert running_text(both) == "new +1"
    assert running_text([row for row in both if row.name == "run[1]"]) == "run[1] 5/10"


def test_only_a_run_that_saved_or_ended_has_its_folder_listed_anew(tmp_path: Path) -> None:
    def more(before: History, now: History) -> bool:
        row = Row(tmp_path, "run", 0, history=before)
        return renewed([row], {tmp_path: now})[1] == [tmp_path]

    training = History("training", step=5, saved_step=3)
    assert not more(History("configured"), History("training"))
    assert not more(training, History("training", step=6, saved_step=3))
    assert more(training, History("training", step=6, saved_step=6))
    assert more(training, History("stopped", step=5, saved_step=3))


async def test_what_comes_to_the_folder_and_what_goes_is_seen_without_a_key(
    workbench: Make, outputs: Path
) -> None:
    app = workbench()
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("G")
        fresh = outputs / "group" / "fresh"
        fresh.mkdir(parents=True)
        with take_lock(fresh), EventWriter(fresh) as events:
            events.write("started", total_steps=750)
            events.write("log", step=1, loss=3.0)
            await until(pilot, lambda: states(app).get("group/fresh", ("",))[0] == "● training")
            assert "group/fresh 1/750" in text_of(app).splitlines()[0]
        (outputs / "new" / "run.yaml").unlink()
        await until(pilot, lambda: "new" not in states(app))
        assert "style-r16" in str(app.screen.query_one("#detail").border_title)


async def test_an_adapter_that_is_written_over_is_analysed_anew(workbench: Make, outputs: Path) -> None:
    app = workbench()
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        assert states(app)["damaged"][0] == "✘ unreadable"
        write_adapter(outputs / "damaged", layers=1)
        await until(pilot, lambda: states(app)["damaged"][0] == "adapter")
        await until(pilot, lambda: bench_rows(app)[0][7] not in ("·", "—"))


async def test_the_first_run_of_an_empty_folder_is_seen(workbench: Make, tmp_path: Path) -> None:
    app = workbench(tmp_path / "empty")
    (tmp_path / "empty").mkdir()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "There is no run" in text_of(app))
        (tmp_path / "empty" / "first").mkdir()
        (tmp_path / "empty" / "first" / "run.yaml").write_text("lora_r: 8\n")
        await until(pilot, lambda: "○ configured" in text_of(app))


def test_a_folder_that_took_two_seconds_to_list_rests_for_forty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(200):
        (tmp_path / f"run-{number}").mkdir()
    now = 100.0
    monkeypatch.setattr("lorabench.screens.folder_look.time.monotonic", lambda: now)
    look = FolderLook(tmp_path)
    now += 2.0  # what the listing takes
    look.listed([])
    (tmp_path / "run-7" / "run.yaml").write_text("lora_r: 8\n")
    assert look.changed() == set()
    now += 41.0
    assert look.changed() == {tmp_path / "run-7"}


async def test_one_run_more_is_put_among_the_lines_that_stand(
    workbench: Make, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = workbench()
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        before = [row[0] for row in bench_rows(app)]
        written: list[None] = []
        monkeypatch.setattr(RunTable, "clear", lambda *_args, **_options: written.append(None))
        (outputs / "longer").mkdir()
        (outputs / "longer" / "run.yaml").write_text("lora_r: 8\n")
        await until(pilot, lambda: "longer" in states(app))
        assert [row[0] for row in bench_rows(app)] == [before[0], "longer", *before[1:]]
        shutil.rmtree(outputs / "longer")
        await until(pilot, lambda: [row[0] for row in bench_rows(app)] == before)
        assert not written


async def test_numbers_of_an_adapter_from_before_do_not_stand_beside_a_training(
    workbench: Make, outputs: Path
) -> None:
    run = outputs / "run[1]"
    app = workbench()

    def numbers() -> tuple[str, str]:
        return next((row[-2], row[-1]) for row in bench_rows(app) if row[0] == run.name)

    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await until(pilot, lambda: "—" not in numbers() and "·" not in numbers())
        before = numbers()
        with take_lock(run), EventWriter(run) as events:
            events.write("started", total_steps=750)
            events.write("log", step=312, loss=1.84)
            await until(pilot, lambda: numbers() == ("—", "—"))
            events.write("stopped", step=312)
        await until(pilot, lambda: numbers() == before)
