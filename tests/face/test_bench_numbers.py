"""What the numbers 2 to 6 open on screen 1."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lorabench.adapters.locate import AdapterLocation
from lorabench.app import LorabenchApp
from lorabench.runs.events import EventWriter
from lorabench.screens import preflight_client
from lorabench.screens.facts import targets_text
from lorabench.screens.listing import Row
from tests.face.conftest import write_adapter
from tests.face.looking import settled, text_of, until

Make = Callable[..., LorabenchApp]


@pytest.fixture(autouse=True)
def _double(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight_client, "SERVER", "tests.face.preflight_double")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs that have trained, `aft` with two layers and `fore` with three."""
    for name, layers in (("aft", 2), ("fore", 3)):
        run = write_adapter(tmp_path / "runs" / name, layers=layers)
        (run / "run.yaml").write_text("lora_r: 8\n")
        with EventWriter(run) as events:
            events.write("started", total_steps=layers)
            events.write("finished", step=layers)
    return tmp_path / "runs"


@pytest.mark.parametrize("size", [(80, 24), (120, 36)])
async def test_they_open_what_belongs_to_the_row_under_the_cursor(
    workbench: Make, runs: Path, size: tuple[int, int]
) -> None:
    app = workbench(runs)
    async with app.run_test(size=size) as pilot:
        await settled(pilot)
        for key, name, layers in (("k", "aft", 8), ("j", "fore", 12)):
            await pilot.press(key, "3")
            await until(pilot, lambda: app.current_mode == "train")
            assert app.run_folder == runs / name
            await pilot.press("1", "2")
            await until(pilot, lambda name=name: f"{name}/run.yaml" in text_of(app))  # type: ignore[misc]
            await pilot.press("1", "4")
            await until(pilot, lambda layers=layers: f"{layers} of {layers} rows" in text_of(app))  # type: ignore[misc]
            await pilot.press("1", "5")
            await until(pilot, lambda layers=layers: f"1/{layers}" in text_of(app))  # type: ignore[misc]
            await pilot.press("1")


async def test_what_was_opened_by_hand_stays_open(workbench: Make, runs: Path) -> None:
    app = workbench(runs)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: "8 of 8 rows" in text_of(app))
        await pilot.press("1", "w")
        await until(pilot, lambda: app.current_mode == "train")
        await pilot.press("1", "j", "4")
        await until(pilot, lambda: app.current_mode == "layers")
        assert app.analysis.path == runs / "aft"
        await pilot.press("1", "3")
        await until(pilot, lambda: app.current_mode == "train")
        assert app.run_folder == runs / "aft"


async def test_of_a_folder_that_is_one_run_they_open_that_run(workbench: Make, runs: Path) -> None:
    (runs / "aft" / "adapter_model.safetensors").unlink()
    (runs / "aft" / "adapter_config.json").unlink()
    app = workbench(runs / "aft")
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("3")
        await until(pilot, lambda: app.current_mode == "train")
        assert app.run_folder == runs / "aft"
        await pilot.press("1", "4")
        await until(pilot, lambda: "No adapter is open" in text_of(app))


@pytest.mark.parametrize(
    ("width", "shown", "not_shown"),
    [
        (80, ("t train", "w watch", "/ filter", "n new"), "copy path"),
        (120, ("t train", "w watch", "/ filter", "n new", "f5 reload", "y copy path"), "…"),
    ],
)
async def test_the_keys_that_fit_are_named_whole(
    workbench: Make, runs: Path, width: int, shown: tuple[str, ...], not_shown: str
) -> None:
    app = workbench(runs)
    async with app.run_test(size=(width, 36)) as pilot:
        await settled(pilot)
        await until(pilot, lambda: all(key in text_of(app).splitlines()[-1] for key in shown))
        line = text_of(app).splitlines()[-1]
        assert "q quit" in line
        assert not_shown not in line
        await pilot.press("enter")
        await until(pilot, lambda: "8 of 8 rows" in text_of(app))
        await until(pilot, lambda: "w WeightWatcher" in text_of(app).splitlines()[-1])
        await pilot.press("1", "2")
        await until(pilot, lambda: "a audit" in text_of(app).splitlines()[-1] or width == 80)


def test_targets_are_named_in_the_order_of_a_layer(tmp_path: Path) -> None:
    projections = ("k_proj", "up_proj", "v_proj", "extra", "o_proj", "q_proj", "down_proj", "gate_proj")
    row = Row(tmp_path, "run", 0, AdapterLocation(tmp_path, target_modules=projections))
    assert targets_text(row, 10) == "q k v o +4"
    assert targets_text(row, 40) == "q k v o gate up down extra"


async def test_from_the_layers_of_a_checkpoint_2_opens_its_run_and_not_the_one_before(
    workbench: Make, runs: Path
) -> None:
    checkpoint = write_adapter(runs / "fore" / "checkpoint-2", layers=1)
    app = workbench(runs)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("2")
        await until(pilot, lambda: "aft/run.yaml" in text_of(app))
        app.open_adapter(checkpoint)
        await until(pilot, lambda: "4 of 4 rows" in text_of(app))
        await pilot.press("2")
        await until(pilot, lambda: "fore/run.yaml" in text_of(app))


async def test_2_on_an_adapter_without_a_run_opens_no_other_one_s_configuration(
    workbench: Make, runs: Path
) -> None:
    write_adapter(runs / "alone", layers=1)
    app = workbench(runs)
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("2")
        await until(pilot, lambda: "aft/run.yaml" in text_of(app))
        await pilot.press("1", "down", "2")
        await until(pilot, lambda: "There is no run.yaml here to open" in text_of(app))
        assert app.current_mode == "bench"
