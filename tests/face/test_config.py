"""Screen 2 as a person uses it; its process is a double, but for the tests that say otherwise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import OptionList, Static, TextArea

from lorabench.app import LorabenchApp
from lorabench.screens import preflight_client
from lorabench.screens.bench import BenchScreen
from lorabench.screens.config import ConfigScreen
from lorabench.screens.dialogs import ChoiceDialog, ErrorDialog
from lorabench.screens.mask import MaskDialog
from lorabench.widgets.field_form import FieldRow
from lorabench.widgets.finding_list import FindingList
from tests.conftest import REPOSITORY
from tests.face.looking import text_of, until

RUN = """\
# first of all
lora_r: 7   # an odd one
lora_alpha: 16
my_note: kept
lora_target_modules:
- q_proj
- v_proj
"""


@pytest.fixture(autouse=True)
def _double(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight_client, "SERVER", "tests.face.preflight_double")


@pytest.fixture
def run_yaml(tmp_path: Path) -> Path:
    """The configuration of a run in a folder of its own."""
    folder = tmp_path / "runs" / "odd-run"
    folder.mkdir(parents=True)
    (folder / "run.yaml").write_text(RUN)
    return folder / "run.yaml"


@pytest.fixture
def app(run_yaml: Path) -> LorabenchApp:
    return LorabenchApp(run_yaml.parent.parent)


def findings(app: LorabenchApp) -> FindingList:
    return app.screen.query_one(FindingList)


def row(app: LorabenchApp, name: str) -> FieldRow:
    return app.screen.query_one(f"#field-{name}", FieldRow)


def explanation(app: LorabenchApp) -> str:
    return str(app.screen.query_one("#explain Static", Static).content)


async def open_config(pilot: Pilot[None], path: Path) -> LorabenchApp:
    """Open a configuration and wait until all its findings are there."""
    app = pilot.app
    assert isinstance(app, LorabenchApp)
    await until(pilot, lambda: isinstance(app.screen, BenchScreen) and app.screen.begun)
    app.open_config(path)
    await until(pilot, lambda: isinstance(app.screen, ConfigScreen) and bool(app.screen.query(FieldRow)))
    await computed(pilot)
    return app


async def computed(pilot: Pilot[None]) -> None:
    await until(pilot, lambda: bool(findings(pilot.app).found) and not findings(pilot.app).waiting)


async def edit(pilot: Pilot[None], name: str, text: str) -> None:
    """Go to a field and type another value."""
    assert isinstance(pilot.app, LorabenchApp)
    row(pilot.app, name).focus()
    await pilot.press("enter", "ctrl+u", *text, "enter")


async def test_enter_on_a_run_without_an_adapter_opens_its_configuration(app: LorabenchApp) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, BenchScreen) and app.screen.begun)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ConfigScreen) and bool(app.screen.query(FieldRow)))
        assert row(app, "lora_r").line.value == "7"
        assert row(app, "lora_target_modules").line.value == "q_proj v_proj"
        assert row(app, "learning_rate").line.value == ""
        assert row(app, "learning_rate").line.placeholder == "2e-05"
        assert "scaling α/r = 2.29" in text_of(app)


async def test_key_2_opens_the_configuration_of_the_run_under_the_cursor(app: LorabenchApp) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, BenchScreen) and app.screen.begun)
        await pilot.press("2")
        await until(pilot, lambda: "odd-run/run.yaml" in text_of(app))


async def test_without_a_configuration_the_screen_says_how_to_get_one(tmp_path: Path) -> None:
    app = LorabenchApp(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, BenchScreen) and app.screen.begun)
        await pilot.press("2")
        await until(pilot, lambda: "No configuration is open" in text_of(app))
        await pilot.press("m", "e", "ctrl+s", "a", "u", "tab", "enter", "y")
        assert isinstance(app.screen, ConfigScreen)


async def test_the_preflight_comes_in_and_follows_an_edit(app: LorabenchApp, run_yaml: Path) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await open_config(pilot, run_yaml)
        shown = text_of(app)
        assert "✘ coverage   q_projj matches nothing" in shown
        assert "r = 7: 61,440" in shown
        assert findings(app).border_subtitle == "1 error · 1 warning"
        await edit(pilot, "lora_r", "32")
        await until(pilot, lambda: "r = 32: 61,440" in text_of(app))
        assert findings(app).border_subtitle == "1 error · 0 warnings"


async def test_a_check_says_that_it_is_being_computed_and_old_lines_stay_until_then(
    app: LorabenchApp, run_yaml: Path
) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await open_config(pilot, run_yaml)
        await edit(pilot, "dataset_name", "wait")
        await until(pilot, lambda: "… data       being computed" in text_of(app))
        assert "… memory     between 0.4 and 0.9 GB" in text_of(app)
        assert "computing data" in str(findings(app).border_subtitle)


async def test_enter_on_a_finding_applies_its_mend_and_u_takes_it_back(
    app: LorabenchApp, run_yaml: Path
) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await open_config(pilot, run_yaml)
        await pilot.press("tab", "G", "k")
        await until(pilot, lambda: "set lora_r to 8" in explanation(app))
        await pilot.press("enter")
        await until(pilot, lambda: row(app, "lora_r").line.value == "8")
        await until(pilot, lambda: "r = 8: 61,440" in text_of(app))
        await pilot.press("u")
        await until(pilot, lambda: row(app, "lora_r").line.value == "7")


async def test_the_lines_below_explain_the_finding_or_the_field_under_the_cursor(
    app: LorabenchApp, run_yaml: Path
) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await open_config(pilot, run_yaml)
        row(app, "lora_dropout").focus()
        await until(pilot, lambda: "at least 0 and below 1" in explanation(app))
        assert "default: 0.05" in explanation(app)
        await pilot.press("tab", "G", "k", "k", "k")
        await until(pilot, lambda: "It was looked for in 28 modules." in explanation(app))
        assert "✘ error" in explanation(app)


async def test_a_wrong_value_is_marked_where_it_stands_with_what_is_allowed(
    app: LorabenchApp, run_yaml: Path
) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await open_config(pilot, run_yaml)
        await edit(pilot, "lora_r", "8x")
        await until(pilot, lambda: row(app, "lora_r").has_class("-wrong"))
        problem = str(row(app, "lora_r").query_one(".problem", Static).content)
        assert problem == '✘ lora_r is "8x", and must be a whole number, at least 1.'
        assert '✘ lora_r is "8x"' in text_of(app)
        await edit(pilot, "lora_r", "8")
        await until(pilot, lambda: not row(app, "lora_r").has_class("-wrong"))


async def test_a_value_that_cannot_be_changed_alone_is_a_sentence_and_stays(
    app: LorabenchApp, run_yaml: Path
) -> None:
    run_yaml.write_text("lora_r: &rank 8\nlora_alpha: *rank\n")
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await open_config(pilot, run_yaml)
        await edit(pilot, "lora_r", "9")
        await until(pilot, lambda: any("text instead" in note.message for note in app._notifications))
        assert isinstance(app.screen, ConfigScreen)
        assert app.config_file is not None
        assert not app.config_file.changed


async def test_esc_leaves_a_value_as_it_was_and_space_takes_the_next_choice(
    app: LorabenchApp, run_yaml: Path
) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await open_config(pilot, run_yaml)
        row(app, "lora_r").focus()
        await pilot.press("enter", *"12345", "escape")
        assert row(app, "lora_r").line.value == "7"
        row(app, "dtype").focus()
        await pilot.press("space", "space")
        assert row(app, "dtype").line.value == "bfloat16"


async def test_saving_keeps_comments_and_unknown_keys(app: LorabenchApp, run_yaml: Path) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await open_config(pilot, run_yaml)
        await edit(pilot, "lora_r", "16")
        await until(pilot, lambda: "not saved" in text_of(app))
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "─ saved ─" in text_of(app))
    assert run_yaml.read_text() == RUN.replace("lora_r: 7", "lora_r: 16")


async def test_e_edits_the_yaml_itself_and_comes_back_to_the_form(app: LorabenchApp, run_yaml: Path) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await open_config(pilot, run_yaml)
        await pilot.press("e")
        area = app.screen.query_one(TextArea)
        assert area.text == RUN
        area.move_cursor(area.document.end)
        await pilot.press(*"lora_dropout: 0.2")
        await until(pilot, lambda: row(app, "lora_dropout").line.value == "0.2")
        await pilot.press("escape")
        await until(pilot, lambda: app.screen.query_one("#left").current == "form")
        assert row(app, "lora_dropout").line.value == "0.2"


async def test_yaml_that_cannot_be_read_stays_to_be_mended_and_says_where(
    app: LorabenchApp, run_yaml: Path
) -> None:
    run_yaml.write_text("lora_r: 8\n\tlora_alpha: [16\n")
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await until(pilot, lambda: isinstance(app.screen, BenchScreen) and app.screen.begun)
        app.open_config(run_yaml)
        await until(pilot, lambda: "lora_alpha: [16" in text_of(app))
        await pilot.press("escape")
        await until(pilot, lambda: "Line 2" in text_of(app))
        assert app.screen.query_one("#left").current == "yaml"
        app.screen.query_one(TextArea).load_text("lora_r: 9\n")
        await pilot.press("escape")
        await until(pilot, lambda: bool(app.screen.query("#field-lora_r")))
        assert row(app, "lora_r").line.value == "9"


async def test_another_field_of_trl_is_found_by_its_name_and_added(app: LorabenchApp, run_yaml: Path) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await open_config(pilot, run_yaml)
        await until(pilot, lambda: app.config_file is not None and bool(app.config_file.more))
        await pilot.press("a", *"neft")
        await until(pilot, lambda: "noise on the embeddings" in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: bool(app.screen.query("#field-neftune_noise_alpha")))
        await pilot.press("enter", "5", "enter")
        assert app.config_file is not None
        assert "neftune_noise_alpha: 5.0\n" in app.config_file.text


async def test_m_shows_rows_with_what_is_trained_on_underlined_in_brackets(
    app: LorabenchApp, run_yaml: Path
) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await open_config(pilot, run_yaml)
        await pilot.press("m")
        await until(pilot, lambda: "row 3 (1 of 2)" in text_of(app))
        shown = text_of(app)
        assert "<|user|>Say [red]hi[/foo]⏎" in shown
        assert "<|assistant|>⟦Aye!<|end|>⟧" in shown
        assert "3 of 8 tokens trained: 38 %" in shown
        assert "2 more cut by max_length" in shown
        await pilot.press("b")
        assert "⟦Aye│!│<|end|>⟧" in text_of(app)
        await pilot.press("right")
        assert "TRL leaves this row out" in text_of(app)
        await pilot.press("escape")
        assert not isinstance(app.screen, MaskDialog)


async def test_quitting_with_changes_asks_first(app: LorabenchApp, run_yaml: Path) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await open_config(pilot, run_yaml)
        await edit(pilot, "lora_r", "16")
        await pilot.press("1", "q")
        await until(pilot, lambda: isinstance(app.screen, ChoiceDialog))
        await pilot.press("escape", "q")
        await until(pilot, lambda: isinstance(app.screen, ChoiceDialog))
        app.screen.query_one(OptionList).highlighted = 0
        await pilot.press("enter")
        await until(pilot, lambda: not app.is_running)
    assert "lora_r: 16" in run_yaml.read_text()


async def test_a_file_that_is_no_text_is_a_sentence(app: LorabenchApp, run_yaml: Path) -> None:
    run_yaml.write_bytes(b"\x00\xff")
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, BenchScreen) and app.screen.begun)
        app.open_config(run_yaml)
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog))


async def test_a_crashed_preflight_is_started_once_more_and_then_says_so(
    app: LorabenchApp, run_yaml: Path
) -> None:
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await open_config(pilot, run_yaml)
        await edit(pilot, "dataset_name", "crash")
        await until(pilot, lambda: "crashed; started again" in text_of(app))
        await until(pilot, lambda: "MemoryError: as if" in str(findings(app).shown))
        await edit(pilot, "dataset_name", "data")
        await computed(pilot)
        await until(pilot, lambda: "✔ config     every field" in text_of(app))


async def test_the_process_ends_with_the_workbench(app: LorabenchApp, run_yaml: Path) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await open_config(pilot, run_yaml)
        screen = app.screen
        assert isinstance(screen, ConfigScreen)
        process = screen.client.process
        assert process is not None
        assert process.returncode is None
    assert await process.wait() < 0


async def test_the_workbench_itself_never_imports_torch(tmp_path: Path) -> None:
    script = """
import asyncio, sys
from pathlib import Path
from lorabench.app import LorabenchApp
from lorabench.screens.config import ConfigScreen
from lorabench.widgets.finding_list import FindingList

async def look():
    app = LorabenchApp(Path.cwd())
    async with app.run_test(size=(120, 36)) as pilot:
        app.open_config(Path("sample_adapters/style-checkpoints-r8/run.yaml"))
        for _ in range(3000):
            await pilot.pause(0.02)
            lists = app.screen.query(FindingList)
            if lists and lists.first().found and not lists.first().waiting:
                break
        for finding in lists.first().shown:
            print(finding.level, finding.check, finding.message)
    print("torch" in sys.modules, "trl" in sys.modules, "datasets" in sys.modules)

asyncio.run(look())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )
    lines = done.stdout.splitlines()
    assert lines, done.stderr
    assert lines[-1] == "False False False"
    assert "ok trainable 43,008 of 1,355,392 = 3.1731 %." in lines
    assert not any(line.startswith("error") for line in lines)


async def test_n_makes_a_new_run_from_a_preset_and_opens_it(app: LorabenchApp, run_yaml: Path) -> None:
    folder = run_yaml.parent.parent
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, BenchScreen) and app.screen.begun)
        await pilot.press("n")
        await until(pilot, lambda: "high rank" in text_of(app))
        await pilot.press("ctrl+u", *"odd-run", "enter")
        await until(pilot, lambda: "Name another folder" in text_of(app))
        await pilot.press("ctrl+u", *"mine", "down", "down", "enter")
        await until(pilot, lambda: isinstance(app.screen, ConfigScreen) and bool(app.screen.query(FieldRow)))
        assert row(app, "lora_r").line.value == "64"
        assert row(app, "lora_target_modules").line.value == "all-linear"
    assert "lora_r: 64" in (folder / "mine" / "run.yaml").read_text()
