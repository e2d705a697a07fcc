"""`t`: what is asked before a run is trained, what refuses it, and what the trainer is told to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from textual.widgets import OptionList

from lorabench.app import LorabenchApp
from lorabench.errors import LorabenchError
from lorabench.runs.lock import LOCK_FILE, take_lock
from lorabench.screens.training import Training
from tests.face.looking import settled, text_of, until
from tests.face.trainings import make_run
from tests.face.watching import begin


@dataclass
class Told:
    """A trainer that only notes what it is told."""

    path: Path
    resume: bool | None
    override: bool
    own_process: bool = False
    alive: bool = True
    stops: int = 0

    def stop(self) -> None:
        if not self.path.parent.exists():
            raise LorabenchError("Nobody can be asked.")
        self.stops += 1

    def wait(self) -> bool:
        return True


@dataclass
class Starts:
    """The trainings that were begun."""

    begun: list[Told] = field(default_factory=list)

    def __call__(self, path: Path, *, resume: bool | None, override: bool, own_process: bool) -> Told:
        self.begun.append(Told(path, resume, override, own_process))
        return self.begun[-1]


@pytest.fixture(autouse=True)
def no_preflight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the Config screen ask the double: no test here is about findings."""
    monkeypatch.setattr("lorabench.screens.preflight_client.SERVER", "tests.face.preflight_double")


@pytest.fixture
def starts() -> Starts:
    return Starts()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "out" / "mine")


@pytest.fixture
def app(run: Path, starts: Starts) -> Callable[..., LorabenchApp]:
    return lambda **options: LorabenchApp(run.parent, start=starts, **options)


def add_checkpoint(run: Path, step: int) -> Path:
    """Write a checkpoint that can be resumed from, as far as one can see without torch."""
    folder = run / f"checkpoint-{step}"
    folder.mkdir()
    save_file(
        {"base_model.model.q_proj.lora_A.weight": np.ones((4, 8), np.float32)},
        folder / "adapter_model.safetensors",
    )
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4}))
    for name in ("optimizer.pt", "scheduler.pt"):
        import zipfile

        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("data.pkl", b"\x80\x02.")
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "max_steps": 20}))
    return folder


async def test_a_fresh_run_is_trained_and_shown(app, run: Path, starts: Starts):
    workbench = app()
    async with workbench.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("t")
        await until(pilot, lambda: workbench.current_mode == "train")
        assert starts.begun == [Told(run / "run.yaml", None, False)]
        assert workbench.run_folder == run


@pytest.mark.parametrize("history", ["", "trained before"])
async def test_a_training_that_was_begun_is_shown_as_starting_before_it_has_written_a_word(
    app, run: Path, starts: Starts, history: str
):
    if history:
        with begin(run, steps=5) as writer:
            writer.write("finished", step=5)
    workbench = app(refresh_seconds=0.1)
    async with workbench.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("t")
        await until(pilot, lambda: "◐ starting  mine  preflight ·" in text_of(workbench))
        await until(pilot, lambda: workbench.screen.watched.caught_up)
        await until(pilot, lambda: not workbench.screen.reading)
        assert "◐ starting  mine  preflight ·" in text_of(workbench)
        assert workbench.screen.watched.elapsed < 60
        starts.begun[0].alive = False
        said = "✔ finished" if history else "has no events yet"
        await until(pilot, lambda: said in text_of(workbench))


async def test_a_preflight_that_failed_can_be_overridden(app, run: Path, starts: Starts):
    workbench = app()
    async with workbench.run_test() as pilot:
        await settled(pilot)
        workbench.train_run(run, override=True)
        await until(pilot, lambda: workbench.current_mode == "train")
        assert starts.begun == [Told(run / "run.yaml", None, True)]


@pytest.mark.parametrize(("keys", "resume"), [(["enter"], True), (["j", "enter"], False)])
async def test_where_checkpoints_lie_it_asks(app, run: Path, starts: Starts, keys: list[str], resume: bool):
    add_checkpoint(run, 5)
    add_checkpoint(run, 10)
    add_checkpoint(run, 15).joinpath("trainer_state.json").unlink()
    workbench = app()
    async with workbench.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        workbench.train_run(run)
        await until(pilot, lambda: "mine has trained before, to step 10" in text_of(workbench))
        assert "go on from checkpoint-10" in text_of(workbench)
        assert "earlier-N; nothing is lost)" in text_of(workbench)
        assert starts.begun == []
        await pilot.press(*keys)
        await until(pilot, lambda: bool(starts.begun))
        assert starts.begun == [Told(run / "run.yaml", resume, False)]


@pytest.mark.parametrize("keys", [["escape"], ["j", "j", "enter"]])
async def test_cancel_begins_nothing(app, run: Path, starts: Starts, keys: list[str]):
    add_checkpoint(run, 10)
    workbench = app()
    async with workbench.run_test() as pilot:
        await settled(pilot)
        workbench.train_run(run)
        await until(pilot, lambda: bool(workbench.screen.query(OptionList)))
        await pilot.press(*keys)
        await until(pilot, lambda: workbench.screen is workbench.get_screen_stack("bench")[0])
        assert starts.begun == []


async def test_what_is_not_saved_is_saved_first(app, run: Path, starts: Starts):
    workbench = app()
    async with workbench.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        workbench.open_config(run / "run.yaml")
        await until(pilot, lambda: workbench.current_mode == "config")
        workbench.config_file.change({"lora_r": 16})
        workbench.train_run(run / "run.yaml")
        await until(pilot, lambda: "changes that are not saved" in text_of(workbench))
        assert starts.begun == []
        await pilot.press("enter")
        await until(pilot, lambda: bool(starts.begun))
        assert "lora_r: 16" in (run / "run.yaml").read_text()


async def test_changes_that_are_given_up_are_gone_from_the_screen_too(app, run: Path, starts: Starts):
    workbench = app()
    async with workbench.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        workbench.open_config(run / "run.yaml")
        await until(pilot, lambda: workbench.current_mode == "config")
        workbench.config_file.change({"lora_r": 16})
        workbench.train_run(run)
        await until(pilot, lambda: "changes that are not saved" in text_of(workbench))
        await pilot.press("j", "enter")
        await until(pilot, lambda: bool(starts.begun))
        assert "lora_r: 4" in (run / "run.yaml").read_text()
        assert workbench.config_file.values["lora_r"] == "4"


async def test_a_run_that_another_process_trains_is_watched_instead(app, run: Path, starts: Starts):
    workbench = app()
    with take_lock(run) as lock:
        async with workbench.run_test(size=(120, 36)) as pilot:
            await settled(pilot)
            workbench.train_run(run)
            await until(pilot, lambda: "trains in this folder" in text_of(workbench))
            await pilot.press("enter")
            await until(pilot, lambda: workbench.current_mode == "train")
            assert workbench.run_folder == run
            assert starts.begun == []
        lock.release()


async def test_a_lock_of_a_process_that_is_gone_does_not_matter(app, run: Path, starts: Starts):
    with take_lock(run):
        owner = json.loads((run / LOCK_FILE).read_text())
        (run / LOCK_FILE).write_text(json.dumps({**owner, "boot": "another boot"}))
        workbench = app()
        async with workbench.run_test() as pilot:
            await settled(pilot)
            workbench.train_run(run)
            await until(pilot, lambda: workbench.current_mode == "train")
            assert len(starts.begun) == 1


async def test_there_is_room_for_one_thread(app, run: Path, starts: Starts):
    other = make_run(run.parent / "other")
    workbench = app()
    async with workbench.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        workbench.train_run(run)
        workbench.train_run(other)
        await until(pilot, lambda: "mine trains in this workbench already" in text_of(workbench))
        await pilot.press("escape")
        starts.begun[0].alive = False
        workbench.train_run(other)
        assert [told.path for told in starts.begun] == [run / "run.yaml", other / "run.yaml"]


async def test_processes_of_their_own_have_room_for_more(app, run: Path, starts: Starts):
    other = make_run(run.parent / "other")
    workbench = app(own_process=True)
    async with workbench.run_test() as pilot:
        await settled(pilot)
        workbench.train_run(run)
        workbench.train_run(other)
        assert [told.own_process for told in starts.begun] == [True, True]
        await pilot.press("d")
        await until(pilot, lambda: not workbench.is_running)
    assert [told.stops for told in starts.begun] == [0, 0]


async def test_a_file_that_asks_for_several_processes_is_not_trained_in_the_thread(
    app, run: Path, starts: Starts
):
    (run / "run.yaml").write_text((run / "run.yaml").read_text() + "num_processes: 2\n")
    workbench = app()
    async with workbench.run_test(size=(120, 36), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("t")
        await until(pilot, lambda: "It trains in processes of its own" in text_of(workbench))
        assert starts.begun == [Told(run / "run.yaml", None, False, own_process=True)]
        assert workbench.training.here is None


async def test_the_same_run_again_is_only_shown(app, run: Path, starts: Starts):
    workbench = app()
    async with workbench.run_test() as pilot:
        await settled(pilot)
        workbench.train_run(run)
        workbench.action_show("bench")
        workbench.train_run(run)
        await until(pilot, lambda: workbench.current_mode == "train")
        assert len(starts.begun) == 1


async def test_a_folder_that_cannot_be_made_says_so(app, run: Path, starts: Starts):
    text = (run / "run.yaml").read_text()
    (run / "run.yaml").write_text(text.replace(f"output_dir: {run}", f"output_dir: {run}/run.yaml/below"))
    workbench = app()
    async with workbench.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        workbench.train_run(run)
        await until(pilot, lambda: "not started" in text_of(workbench))
        assert "Not a directory" in text_of(workbench)
        assert starts.begun == []


async def test_without_a_run_nothing_can_be_left(app):
    workbench = app()
    async with workbench.run_test() as pilot:
        await settled(pilot)
        await pilot.press("d", "ctrl+c")
        assert workbench.is_running
        assert not workbench.detached


async def test_a_run_that_cannot_be_asked_to_stop_says_so_and_the_workbench_stays(
    app, run: Path, starts: Starts
):
    workbench = app(own_process=True)
    async with workbench.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("t")
        await until(pilot, lambda: bool(starts.begun))
        shutil.rmtree(run)
        await pilot.press("q")
        await until(pilot, lambda: "mine is training" in text_of(workbench))
        await pilot.press("enter")
        await until(pilot, lambda: "Nobody can be asked." in text_of(workbench))
        assert workbench.is_running
        assert not workbench.training.stopping


@dataclass
class Log:
    """Where the terminal sends what is printed."""

    place: str = "here"

    def log_to(self, path: Path) -> None:
        self.place = path.parent.name

    def log_here(self) -> None:
        self.place = "here"


def test_a_run_of_its_own_process_right_after_a_thread_s_leaves_that_one_s_log(run: Path, starts: Starts):
    other = make_run(run.parent / "other")
    (other / "run.yaml").write_text((other / "run.yaml").read_text() + "num_processes: 2\n")
    app: Any = SimpleNamespace(
        set_interval=lambda *_: SimpleNamespace(stop=lambda: None), call_after_refresh=lambda *_, **__: None
    )
    app.notify = None
    log: Any = Log()
    training = Training(app, pytest.fail, starts, log, own_process=False)
    training.begin(run / "run.yaml", override=False, resume=None, then=lambda _: None)
    assert log.place == "mine"
    starts.begun[0].alive = False
    training.begin(other / "run.yaml", override=False, resume=None, then=lambda _: None)
    assert [told.own_process for told in starts.begun] == [False, True]
    assert log.place == "here"
