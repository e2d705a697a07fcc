"""Screen 3 as a person uses it: a run's states, and what one may ask of its trainer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorabench.app import LorabenchApp
from lorabench.runs.events import EventWriter
from lorabench.runs.lock import LOCK_FILE, take_lock
from lorabench.screens.dialogs import ChoiceDialog
from lorabench.screens.layers import LayersScreen
from lorabench.screens.train import TrainScreen
from lorabench.screens.train_watch import RunWatch
from tests.face.conftest import write_adapter
from tests.face.looking import text_of, until
from tests.face.watching import app_on, begin, log, recorded, sees, told, watch


async def test_where_nothing_is_watched_it_says_what_to_do(tmp_path: Path) -> None:
    app = app_on(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        await pilot.press("3")
        await sees(pilot, "Nothing is watched yet.", "t on a run trains it")


async def test_a_finished_run_shows_its_history(run: Path) -> None:
    app = app_on(run.parent)
    async with app.run_test(size=(120, 36)) as pilot:
        await watch(pilot, run)
        last, evaluation = recorded("log")[-1], recorded("eval")[-1]
        await sees(
            pilot,
            "✔ finished",
            "step 120 of 120",
            "100.0 %",
            f"train {last['loss']:.4g}",
            f"eval {evaluation['eval_loss']:.4g}",
            f"{last['grad_norm']:.3g}",
        )
        assert "after 1:" in text_of(app)


async def test_a_run_that_begins_shows_its_stages_and_who_trains(new: Path) -> None:
    app = app_on(new.parent)
    async with app.run_test(size=(120, 36)) as pilot:
        await watch(pilot, new)
        await sees(pilot, "has no events yet; t trains it")
        with take_lock(new), EventWriter(new) as writer:
            writer.write("stage", stage="preflight")
            await sees(pilot, "◐ starting", "preflight …", "in this workbench")
            writer.write("stage", stage="loading")
            await sees(pilot, "preflight ✔", "loading …", "preparing ·")


def test_a_second_attempt_counts_its_own_time(new: Path) -> None:
    attempts = [
        {"time": 100.0, "kind": "stage", "stage": "preflight"},
        {"time": 110.0, "kind": "stopped"},
        {"time": 900.0, "kind": "stage", "stage": "preflight"},
        {"time": 905.0, "kind": "stage", "stage": "loading"},
        {"time": 960.0, "kind": "stopped"},
    ]
    (new / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in attempts))
    watch_ = RunWatch(new)
    while watch_.read():
        pass
    assert watch_.elapsed == 60.0


async def test_what_the_trainer_writes_is_shown_as_it_comes(new: Path) -> None:
    app = app_on(new.parent)
    async with app.run_test(size=(120, 36)) as pilot:
        with take_lock(new), begin(new, steps=10) as writer:
            await watch(pilot, new)
            await sees(pilot, "● training", "step 10 of 100", "train 1.9", "10.0 %")
            log(writer, 11, tokens_per_second=12345, step_seconds=0.25, grad_norm=0.5)
            writer.write("eval", step=11, eval_loss=1.75)
            writer.write(
                "device",
                gpu_utilisation=97,
                memory_used=41_000_000_000,
                memory_total=80_000_000_000,
                temperature=67,
                power=412.3,
            )
            await sees(pilot, "step 11 of 100", "train 1.89", "eval 1.75", "12,345", "250 ms")
            await sees(pilot, "97 %", "41.0/80.0 GB", "67 °C", "412 W")
            writer.write("finished", step=11, path=str(new))
        await sees(pilot, "✔ finished")


async def test_a_failure_is_shown_with_its_reason_and_hint(new: Path) -> None:
    with begin(new, steps=3) as writer:
        writer.write(
            "failed",
            step=3,
            reason="out of memory",
            error="The GPU has 8 GB, and [this] needs 9.",
            hint="Halve per_device_train_batch_size.",
        )
    app = app_on(new.parent)
    async with app.run_test(size=(80, 24)) as pilot:
        await watch(pilot, new)
        await sees(
            pilot,
            "✘ failed",
            "step 3 of 100",
            "out of memory",
            "The GPU has 8 GB, and [this] needs 9.",
            "→ Halve per_device_train_batch_size.",
        )


async def test_the_findings_of_a_preflight_that_failed_are_listed_and_shift_t_trains_anyway(
    new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EventWriter(new) as writer:
        writer.write("stage", stage="preflight")
        writer.write(
            "failed",
            reason="preflight",
            error="The preflight has found 1 error.",
            hint="",
            findings=[
                {"check": "targets", "level": "error", "message": "q_projj matches nothing"},
                {"check": "memory", "level": "warning", "message": "9 GB of 8"},
            ],
        )
    asked: list[tuple[Path, bool]] = []
    monkeypatch.setattr(
        LorabenchApp, "train_run", lambda self, path, *, override=False: asked.append((path, override))
    )
    app = app_on(new.parent)
    async with app.run_test(size=(80, 24)) as pilot:
        await watch(pilot, new)
        await sees(pilot, "✘ targets  q_projj matches nothing", "▲ memory  9 GB of 8", "T trains anyway")
        await pilot.press("T")
        await pilot.press("t")
    assert asked == [(new, True), (new, False)]


async def test_a_run_whose_trainer_is_gone_says_so(new: Path) -> None:
    begin(new, steps=5).close()
    with take_lock(new):
        owner = json.loads((new / LOCK_FILE).read_text())
    (new / LOCK_FILE).write_text(json.dumps(owner | {"started": 1}))  # the pid has another process by now
    app = app_on(new.parent)
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await watch(pilot, new)
        await sees(pilot, "▲ unfinished", "step 5 of 100", "its trainer ended without a word")
        assert f"process {owner['pid']} is gone" in text_of(app)
        await pilot.press("x")
        await until(pilot, lambda: told(app) == ["Nobody trains this run."])
        assert app.screen is screen


async def test_a_trainer_that_dies_while_one_watches_is_missed(new: Path) -> None:
    app = app_on(new.parent)
    async with app.run_test(size=(120, 36)) as pilot:
        with take_lock(new), begin(new, steps=5):
            await watch(pilot, new)
            await sees(pilot, "● training")
        await sees(pilot, "▲ unfinished", "its trainer ended without a word")


async def test_where_the_first_line_is_short_its_last_facts_give_way_and_nothing_is_cut(
    tmp_path: Path,
) -> None:
    run = tmp_path / "a-run-whose-name-is-rather-long-of-r8"
    run.mkdir()
    with begin(run, steps=5) as writer:
        writer.write("stopped", step=5, reason="asked to stop at step 5")
    app = app_on(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await watch(pilot, run)
        await sees(pilot, "■ stopped  a-run-", "  step 5 of 100  t goes on  asked to stop at step 5 ")
        await pilot.press("space")
        await sees(pilot, "‖ frozen, space goes on", "  step 5 of 100  t goes on ")
        line = next(line for line in text_of(app).splitlines() if "■ stopped" in line)
        assert line.count("…") == 1  # the name's
        with take_lock(run), begin(run, steps=5) as writer:
            await pilot.press("space")
            await sees(pilot, "● training  a-run-", "  step 5 of 100  ", "  in this workbench ")


async def test_a_notice_lies_over_nothing_but_the_line_at_the_top(run: Path) -> None:
    app = app_on(run.parent)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await watch(pilot, run)
        await pilot.press("slash", *"grad", "enter")
        await sees(pilot, "searching “grad”: ")
        before = text_of(app).splitlines()
        await pilot.press("k")
        await sees(pilot, "Nobody trains this run.")
        after = text_of(app).splitlines()
        assert "Nobody trains this run." in after[0]
        assert after[1:] == before[1:]


async def test_a_run_on_another_machine_says_where(new: Path) -> None:
    lock = {"host": "gpu-7", "pid": 4711, "since": 1.0, "boot": "other"}
    (new / LOCK_FILE).write_text(json.dumps(lock))
    begin(new, steps=5).close()
    app = app_on(new.parent)
    async with app.run_test(size=(120, 36)) as pilot:
        await watch(pilot, new)
        await sees(pilot, "● training", "by process 4711 on gpu-7")


async def test_x_asks_and_then_asks_the_trainer_to_stop(new: Path) -> None:
    app = app_on(new.parent)
    async with app.run_test(size=(120, 36)) as pilot:
        with take_lock(new), begin(new, steps=5):
            await watch(pilot, new)
            await pilot.press("x")
            await until(pilot, lambda: isinstance(app.screen, ChoiceDialog))
            await pilot.press("down", "enter")
            await until(pilot, lambda: isinstance(app.screen, TrainScreen))
            assert not (new / "stop").exists()
            await pilot.press("x")
            await until(pilot, lambda: isinstance(app.screen, ChoiceDialog))
            await pilot.press("enter")
            await sees(pilot, "stops at the next step")
            assert (new / "stop").exists()


async def test_k_asks_for_a_checkpoint(new: Path) -> None:
    app = app_on(new.parent)
    async with app.run_test(size=(120, 36)) as pilot:
        with take_lock(new), begin(new, steps=5):
            await watch(pilot, new)
            await pilot.press("k")
            await until(pilot, lambda: told(app) == ["a checkpoint is saved at the next step"])
            assert (new / "save").exists()


async def test_space_freezes_the_view_and_space_goes_on(new: Path) -> None:
    app = app_on(new.parent)
    async with app.run_test(size=(120, 36)) as pilot:
        with take_lock(new), begin(new, steps=5) as writer:
            screen = await watch(pilot, new)
            await pilot.press("space")
            await sees(pilot, "frozen, space goes on", "step 5 of 100")
            await until(pilot, lambda: not screen.reading)
            log(writer, 6)
            screen.tick()
            await pilot.pause()
            assert (screen.reading, screen.watched and screen.watched.record.step) == (False, 5)
            assert "step 5 of 100" in text_of(app)
            await pilot.press("space")
            await sees(pilot, "step 6 of 100")
            assert "frozen" not in text_of(app)


async def test_enter_opens_the_adapter_of_a_run_that_has_ended(run: Path) -> None:
    app = app_on(run.parent)
    async with app.run_test(size=(120, 36)) as pilot:
        await watch(pilot, run)
        await pilot.press("enter")
        await until(pilot, lambda: told(app) == ["This run has saved no adapter yet."])
        write_adapter(run, layers=1)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, LayersScreen))
        await until(pilot, lambda: app.analysis.state == "done")
        assert app.analysis.path == run
