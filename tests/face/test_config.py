"""Screen 2 as a person uses it; its process is a double, but for the tests that say otherwise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.strip import Strip
from textual.widgets import OptionList, Static, TextArea

from lorabench.app import LorabenchApp
from lorabench.screens import preflight_client
from lorabench.screens.bench import BenchScreen
from lorabench.screens.config import ConfigScreen
from lorabench.screens.dialogs import ChoiceDialog, ErrorDialog
from lorabench.screens.mask import MaskDialog
from lorabench.widgets.field_form import FieldForm
from lorabench.widgets.field_lines import FieldLines
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


def form(app: LorabenchApp) -> FieldForm:
    return app.screen.query_one(FieldForm)


def value(app: LorabenchApp, name: str) -> str:
    """The value that the form shows for a field; nothing where it shows the default."""
    assert name in form(app).lines.names
    return form(app).lines.value(name)


def opened(app: LorabenchApp) -> bool:
    return any(shown.lines.names for shown in app.screen.query(FieldForm))


def explanation(app: LorabenchApp) -> str:
    return str(app.screen.query_one("#explain Static", Static).content)


async def open_config(pilot: Pilot[None], path: Path) -> LorabenchApp:
    """Open a configuration and wait until all its findings are there."""
    app = pilot.app
    assert isinstance(app, LorabenchApp)
    await until(pilot, lambda: isinstance(app.screen, BenchScreen) and app.screen.begun)
    app.open_config(path)
    await until(pilot, lambda: opened(app))
    await computed(pilot)
    return app


async def computed(pilot: Pilot[None]) -> None:
    await until(pilot, lambda: bool(findings(pilot.app).found) and not findings(pilot.app).waiting)


async def edit(pilot: Pilot[None], name: str, text: str) -> None:
    """Go to a field and type another value."""
    assert isinstance(pilot.app, LorabenchApp)
    form(pilot.app).go_to(name)
    await pilot.press("enter", "ctrl+u", *text, "enter")


async def test_enter_on_a_run_without_an_adapter_opens_its_configuration(app: LorabenchApp) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, BenchScreen) and app.screen.begun)
        await pilot.press("enter")
        await until(pilot, lambda: opened(app))
        assert value(app, "lora_r") == "7"
        assert value(app, "lora_target_modules") == "q_proj v_proj"
        assert value(app, "learning_rate") == ""
        form(app).go_to("learning_rate")
        await until(pilot, lambda: "learning_rate               2e-05" in text_of(app))
        form(app).go_to("lora_alpha")
        await pilot.pause()
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
        await pilot.press("m", "e", "ctrl+s", "a", "plus", "u", "tab", "enter", "y")
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
        await pilot.press("tab", "g", "j")
        await until(pilot, lambda: "set lora_r to 8" in explanation(app))
        await pilot.press("enter")
        await until(pilot, lambda: value(app, "lora_r") == "8")
        await until(pilot, lambda: "r = 8: 61,440" in text_of(app))
        await pilot.press("u")
        await until(pilot, lambda: value(app, "lora_r") == "7")


async def test_the_lines_below_explain_the_finding_or_the_field_under_the_cursor(
    app: LorabenchApp, run_yaml: Path
) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await open_config(pilot, run_yaml)
        form(app).go_to("lora_dropout")
        await until(pilot, lambda: "at least 0 and below 1" in explanation(app))
        assert "default: 0.05" in explanation(app)
        await pilot.press("tab", "g")
        await until(pilot, lambda: "It was looked for in 28 modules." in explanation(app))
        assert "✘ error" in explanation(app)


async def test_a_wrong_value_is_marked_where_it_stands_with_what_is_allowed(
    app: LorabenchApp, run_yaml: Path
) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await open_config(pilot, run_yaml)
        await edit(pilot, "lora_r", "8x")
        await until(pilot, lambda: bool(form(app).lines.problem("lora_r")))
        assert form(app).lines.problem("lora_r") == 'lora_r is "8x", and must be a whole number, at least 1.'
        lines = text_of(app).splitlines()
        at = next(y for y, line in enumerate(lines) if "lora_r  " in line)
        assert '✘ lora_r is "8x", and must be' in lines[at + 1]
        await edit(pilot, "lora_r", "8")
        await until(pilot, lambda: "✘ lora_r" not in text_of(app))


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
        form(app).go_to("lora_r")
        await pilot.press("enter", *"12345", "escape")
        assert value(app, "lora_r") == "7"
        form(app).go_to("dtype")
        await pilot.press("space", "space")
        assert value(app, "dtype") == "bfloat16"


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
        await until(pilot, lambda: value(app, "lora_dropout") == "0.2")
        await pilot.press("escape")
        await until(pilot, lambda: app.screen.query_one("#left").current == "form")
        assert value(app, "lora_dropout") == "0.2"


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
        await pilot.press("escape")  # who would rather not mend it is not kept
        await until(pilot, lambda: isinstance(app.screen, BenchScreen))
        await pilot.press("2")
        await until(pilot, lambda: "lora_alpha: [16" in text_of(app))
        app.screen.query_one(TextArea).load_text("lora_r: 9\n")
        await pilot.press("escape")
        await until(pilot, lambda: "lora_r" in form(app).lines.names)
        assert value(app, "lora_r") == "9"


async def test_another_field_of_trl_is_found_by_its_name_and_added(app: LorabenchApp, run_yaml: Path) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await open_config(pilot, run_yaml)
        await until(pilot, lambda: app.config_file is not None and bool(app.config_file.more))
        await pilot.press("plus", *"neft")
        await until(pilot, lambda: "noise on the embeddings" in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: "neftune_noise_alpha" in form(app).lines.names)
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
        await until(pilot, lambda: opened(app))
        assert value(app, "lora_r") == "64"
        assert value(app, "lora_target_modules") == "all-linear"
    assert "lora_r: 64" in (folder / "mine" / "run.yaml").read_text()


async def test_a_click_edits_a_value_and_the_line_of_input_stays_with_its_row(
    app: LorabenchApp, run_yaml: Path
) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await open_config(pilot, run_yaml)
        y = next(y for y, line in enumerate(text_of(app).splitlines()) if " load_in_8bit " in line)
        await pilot.click(offset=(34, y))
        await pilot.press(*"maybe")
        await until(pilot, lambda: bool(form(app).lines.problem("load_in_8bit")))
        # What is wrong with a row above moves this one down, and the line of input with it.
        assert app.config_file is not None
        app.config_file.change({"load_in_4bit": "perhaps"})
        screen = app.screen
        assert isinstance(screen, ConfigScreen)
        screen.show_file()
        await pilot.press(*"be")
        await until(pilot, lambda: value(app, "load_in_8bit") == "maybebe")
        assert "load_in_8bit                maybebe" in text_of(app)
        await pilot.press("escape")
        await until(pilot, lambda: value(app, "load_in_8bit") == "")
        assert form(app).current == "load_in_8bit"


async def test_page_keys_and_vims_walk_the_form_and_it_follows(app: LorabenchApp, run_yaml: Path) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await open_config(pilot, run_yaml)
        names = form(app).lines.names
        for key, name in (("G", names[-1]), ("g", names[0]), ("end", names[-1]), ("k", names[-2])):
            await pilot.press(key)
            assert form(app).current == name
            await until(pilot, lambda name=name: f"  {name} " in text_of(app))
        await pilot.press("pageup")
        assert form(app).current != names[-2]
        await until(pilot, lambda: f"  {form(app).current} " in text_of(app))


async def test_a_step_within_sight_paints_two_rows_of_the_form(
    app: LorabenchApp, run_yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await open_config(pilot, run_yaml)
        painted: list[int] = []
        real = FieldLines.render_line

        def render(lines: FieldLines, y: int) -> Strip:
            painted.append(y)
            return real(lines, y)

        monkeypatch.setattr(FieldLines, "render_line", render)
        await pilot.press("j")
        await pilot.pause()
        assert sorted(set(painted)) == [1, 2]


async def test_an_editing_that_a_step_ends_keeps_its_value(app: LorabenchApp, run_yaml: Path) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await open_config(pilot, run_yaml)
        form(app).go_to("lora_r")
        await pilot.press("enter", "7", "down")
        await until(pilot, lambda: form(app).current == "lora_alpha")
        assert value(app, "lora_r") == "77"
        assert not form(app).editing


async def test_an_emptied_field_leaves_the_file_and_its_default_holds(
    app: LorabenchApp, run_yaml: Path
) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await open_config(pilot, run_yaml)
        await edit(pilot, "lora_r", "")
        await until(pilot, lambda: value(app, "lora_r") == "")
        form(app).go_to("lora_alpha")
        await pilot.press("delete")
        await until(pilot, lambda: value(app, "lora_alpha") == "")
        assert app.config_file is not None
        assert app.config_file.text == RUN.replace("lora_r: 7   # an odd one\nlora_alpha: 16\n", "")
        await pilot.press("u", "u")
        await until(pilot, lambda: value(app, "lora_r") == "7")
        assert app.config_file.text == RUN


async def test_a_null_that_says_something_is_shown_and_not_taken_for_the_default(
    app: LorabenchApp, run_yaml: Path
) -> None:
    run_yaml.write_text("max_length: null\nlora_target_modules: []\n")
    async with app.run_test(size=(120, 36)) as pilot:
        await open_config(pilot, run_yaml)
        assert (value(app, "max_length"), value(app, "lora_target_modules")) == ("null", "[]")


async def test_a_field_added_by_name_is_marked_at_its_row_too(app: LorabenchApp, run_yaml: Path) -> None:
    run_yaml.write_text("neftune_noise_alpha: loud\n")
    async with app.run_test(size=(120, 36)) as pilot:
        await open_config(pilot, run_yaml)
        await until(pilot, lambda: "neftune_noise_alpha" in form(app).lines.names)
        told = 'neftune_noise_alpha is "loud", and must be a number, or null.'
        await until(pilot, lambda: form(app).lines.problem("neftune_noise_alpha") == told)


async def test_the_precision_is_shown_as_bf16_and_fp16_make_it(app: LorabenchApp, run_yaml: Path) -> None:
    run_yaml.write_text("bf16: false\n")
    async with app.run_test(size=(120, 36)) as pilot:
        await open_config(pilot, run_yaml)
        assert value(app, "precision") == "fp32"
        form(app).go_to("precision")
        await pilot.press("delete")
        await until(pilot, lambda: value(app, "precision") == "")
        assert app.config_file is not None
        assert app.config_file.text == ""


async def test_a_check_that_nobody_wants_any_more_is_given_up(
    app: LorabenchApp, run_yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight_client, "PATIENCE", 0.1)
    stuck = run_yaml.parent.parent / "stuck-run" / "run.yaml"
    stuck.parent.mkdir()
    stuck.write_text("dataset_name: stuck\n")
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, BenchScreen) and app.screen.begun)
        app.open_config(stuck)
        await until(pilot, lambda: opened(app) and len(findings(app).waiting) == 5)
        assert isinstance(app.screen, ConfigScreen)
        client = app.screen.client
        first = client.process
        assert first is not None
        await pilot.press("1")
        app.open_config(run_yaml)
        await until(pilot, lambda: opened(app) and value(app, "lora_r") == "7")
        await computed(pilot)
        assert client.process is not None
        assert first.returncode is not None
        assert "has crashed" not in text_of(app)


async def test_a_place_is_asked_about_when_it_is_typed_to_its_end(
    app: LorabenchApp, run_yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        preflight_client.PreflightClient, "ask_soon", lambda _, ask, **fields: asked.append(fields["text"])
    )
    async with app.run_test(size=(120, 36)) as pilot:
        await open_config(pilot, run_yaml)
        form(app).go_to("dataset_name")
        await pilot.press("enter", *"/data")
        await until(pilot, lambda: "dataset_name: /data" in app.screen.config.text)
        assert asked == []
        await pilot.press("enter")
        await until(pilot, lambda: bool(asked))
        assert all("dataset_name: /data\n" in text for text in asked)
        asked.clear()
        await edit(pilot, "lora_r", "8")
        await until(pilot, lambda: any("lora_r: 8" in text for text in asked))
