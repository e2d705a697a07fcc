"""The file that screen 2 edits, when others write it too; and its form, filtered and marked."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.widgets import Input

from lorabench.app import LorabenchApp
from lorabench.screens import preflight_client
from lorabench.screens.dialogs import ChoiceDialog
from tests.face.looking import text_of, until
from tests.face.test_config import RUN, edit, explanation, findings, form, open_config, value


@pytest.fixture(autouse=True)
def _double(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight_client, "SERVER", "tests.face.preflight_double")
    monkeypatch.setattr("lorabench.screens.file_screen.LOOK_SECONDS", 0.05)


@pytest.fixture
def run_yaml(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "odd-run"
    folder.mkdir(parents=True)
    (folder / "run.yaml").write_text(RUN)
    return folder / "run.yaml"


@pytest.fixture
def app(run_yaml: Path) -> LorabenchApp:
    return LorabenchApp(run_yaml.parent.parent)


def saved(app: LorabenchApp) -> str:
    return str(app.screen.query_one("#left").border_subtitle)


async def test_what_another_editor_writes_is_read_and_can_be_taken_back(
    app: LorabenchApp, run_yaml: Path
) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await open_config(pilot, run_yaml)
        run_yaml.write_text(RUN.replace("lora_r: 7", "lora_r: 32"))
        await until(pilot, lambda: value(app, "lora_r") == "32")
        await until(pilot, lambda: "r = 32: 61,440" in text_of(app))
        assert saved(app) == "saved"
        await pilot.press("u")
        await until(pilot, lambda: value(app, "lora_r") == "7" and saved(app) == "● not saved")


async def test_an_edit_and_another_editor_s_are_both_kept_until_one_is_chosen(
    app: LorabenchApp, run_yaml: Path
) -> None:
    theirs = RUN.replace("lora_r: 7", "lora_r: 32")
    async with app.run_test(size=(80, 24)) as pilot:
        await open_config(pilot, run_yaml)
        await edit(pilot, "lora_alpha", "64")
        await until(pilot, lambda: saved(app) == "● not saved")
        run_yaml.write_text(theirs)
        await until(pilot, lambda: saved(app) == "● not saved, and written by another program")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, ChoiceDialog))
        await pilot.press("escape")
        assert run_yaml.read_text() == theirs
        await pilot.press("ctrl+s", "down", "enter")
        await until(pilot, lambda: value(app, "lora_r") == "32" and value(app, "lora_alpha") == "16")
        await pilot.press("u")
        await until(pilot, lambda: value(app, "lora_alpha") == "64")
        run_yaml.write_text(theirs + "seed: 1\n")
        await until(pilot, lambda: "another program" in saved(app))
        await pilot.press("ctrl+s", "enter")
        await until(pilot, lambda: saved(app) == "saved")
        assert "lora_alpha: 64" in run_yaml.read_text()


async def test_what_was_saved_on_the_way_to_the_training_is_shown_as_saved(
    app: LorabenchApp, run_yaml: Path
) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await open_config(pilot, run_yaml)
        await edit(pilot, "lora_r", "32")
        await until(pilot, lambda: saved(app) == "● not saved")
        await pilot.press("t")
        await until(pilot, lambda: isinstance(app.screen, ChoiceDialog))
        await pilot.press("enter")  # save; then it says that this workbench has no trainer
        await until(pilot, lambda: "without a trainer" in text_of(app))
        await pilot.press("escape")
        await until(pilot, lambda: not app.screen.is_modal)
        assert "lora_r: 32" in run_yaml.read_text()
        assert saved(app) == "saved"


@pytest.mark.parametrize("size", [(80, 24), (120, 36)])
async def test_a_field_is_found_by_a_part_of_its_name(
    app: LorabenchApp, run_yaml: Path, size: tuple[int, int]
) -> None:
    async with app.run_test(size=size) as pilot:
        await open_config(pilot, run_yaml)
        every = form(app).lines.names
        await pilot.press("slash", *"SAVE_")
        await until(pilot, lambda: form(app).lines.names != every)
        found = form(app).lines.names
        assert found == [name for name in every if "save_" in name]
        assert 0 < len(found) < 6
        await pilot.press("enter", "j")
        assert form(app).current == found[1]
        await pilot.press("enter", "escape")  # an edit given up
        assert form(app).lines.names == found
        await pilot.press("escape")
        await until(pilot, lambda: form(app).lines.names == every)


async def test_errors_stand_first_and_at_their_fields(app: LorabenchApp, run_yaml: Path) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await open_config(pilot, run_yaml)
        levels = [finding.level for finding in findings(app).shown if finding]
        assert levels == ["error", "warning", "ok", "ok", "ok", "advice"]
        assert findings(app).highlighted == 0
        assert form(app).lines.problem("lora_target_modules") == "q_projj matches nothing"
        await pilot.press("tab", "j")
        await until(pilot, lambda: "r = 7 is no usual rank" in explanation(app))


async def test_a_value_that_its_line_has_no_room_for_is_shown_below(
    app: LorabenchApp, run_yaml: Path
) -> None:
    seven = "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj"
    async with app.run_test(size=(80, 24)) as pilot:
        await open_config(pilot, run_yaml)
        await edit(pilot, "lora_target_modules", seven + " seventh_proj")
        form(app).go_to("lora_target_modules")
        await until(pilot, lambda: seven in explanation(app))


async def test_a_new_run_s_name_is_typed_over_and_has_a_model_and_data(
    app: LorabenchApp, run_yaml: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: getattr(app.screen, "begun", False))
        await pilot.press("n", *"second")
        assert app.screen.query_one("#name", Input).value == "second"
        await pilot.press("tab", *"tiny/base", "tab")
        app.screen.query_one("#data", Input).value = str(tmp_path / "absent.jsonl")
        await pilot.press("enter")
        await until(pilot, lambda: "is not there" in text_of(app))
        app.screen.query_one("#data", Input).value = str(tmp_path / "rows.jsonl")
        await pilot.press("enter")
        await until(pilot, lambda: app.config_file is not None)
        text = (run_yaml.parent.parent / "second" / "run.yaml").read_text()
        assert "model_name_or_path: tiny/base" in text
        assert str(tmp_path / "rows.jsonl") in text
