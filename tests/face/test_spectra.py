"""Screen 5 as a person uses it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from textual.widgets import Static

from lorabench.app import LorabenchApp
from lorabench.screens.dialogs import ChoiceDialog
from lorabench.screens.spectra import SpectraScreen
from lorabench.widgets.plot import Plot
from tests.face.looking import settled, text_of, until
from tests.face.test_layers import layers_of

Make = Callable[..., LorabenchApp]


def title(app: LorabenchApp) -> str:
    return str(app.screen.query_one("#title", Static).content)


def pictures(app: LorabenchApp) -> list[Plot]:
    return [plot for plot in app.screen.query(Plot) if plot.display]


async def test_enter_on_a_layer_shows_its_four_pictures(workbench: Make, outputs: Path) -> None:
    app = workbench()
    async with layers_of(app, outputs / "style-r16", (120, 36)) as pilot:
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(app.screen, SpectraScreen) and len(pictures(app)) == 4)
        await until(pilot, lambda: "singular values" in text_of(app))
        assert title(app) == "2/16  model.layers.0.attn.v_proj"
        shown = text_of(app)
        for words in ("x_min", "tail", "energy", "‖ΔW‖"):
            assert words in shown


async def test_the_arrows_walk_the_modules_round(workbench: Make, outputs: Path) -> None:
    app = workbench()
    async with layers_of(app, outputs / "style-r16", (120, 36)) as pilot:
        await pilot.press("5")
        await until(pilot, lambda: isinstance(app.screen, SpectraScreen) and title(app).startswith("1/16"))
        await pilot.press("right", "right", "left")
        await until(pilot, lambda: title(app).startswith("2/16"))
        await pilot.press("left", "left")
        await until(pilot, lambda: title(app).startswith("16/16"))


async def test_a_shows_the_adapter_and_its_histogram_of_alpha(workbench: Make, outputs: Path) -> None:
    app = workbench()
    async with layers_of(app, outputs / "style-r16", (120, 36)) as pilot:
        await pilot.press("5", "a")
        await until(pilot, lambda: len(pictures(app)) == 3)
        await until(pilot, lambda: "untrained" in text_of(app))
        shown = text_of(app)
        assert "16 of 16 layers" in shown
        assert "mean" in shown
        assert "borders 2 4 6" in shown
        assert shown.count("by depth") == 2


async def test_enter_on_a_layer_shows_it_after_a_has_shown_an_adapter(workbench: Make, outputs: Path) -> None:
    app = workbench()
    async with layers_of(app, outputs / "style-r16", (120, 36)) as pilot:
        await pilot.press("5", "a")
        await until(pilot, lambda: "16 of 16 layers" in title(app))
        await pilot.press("4", "down", "enter")
        await until(pilot, lambda: isinstance(app.screen, SpectraScreen) and title(app).startswith("2/16"))


async def test_a_small_terminal_shows_one_picture_and_p_the_next(workbench: Make, outputs: Path) -> None:
    app = workbench()
    async with layers_of(app, outputs / "style-r16", (80, 24)) as pilot:
        await pilot.press("5")
        await until(pilot, lambda: len(pictures(app)) == 1 and "singular values of" in text_of(app))
        await pilot.press("p")
        await until(pilot, lambda: "eigenvalues" in text_of(app))
        await pilot.press("p", "p", "p")
        await until(pilot, lambda: "singular values of" in text_of(app))


async def test_resizing_changes_how_many_pictures_there_are(workbench: Make, outputs: Path) -> None:
    app = workbench()
    async with layers_of(app, outputs / "style-r16", (80, 24)) as pilot:
        await pilot.press("5")
        await until(pilot, lambda: len(pictures(app)) == 1)
        await pilot.resize_terminal(120, 36)
        await until(pilot, lambda: len(pictures(app)) == 4)


async def test_a_dead_layer_has_a_sentence_and_no_picture_that_fails(workbench: Make, outputs: Path) -> None:
    app = workbench()
    async with layers_of(app, outputs / "style-r16", (120, 36)) as pilot:
        await pilot.press("5", "right", "right", "right")
        await until(pilot, lambda: title(app).startswith("4/16"))
        await until(pilot, lambda: "has not been trained" in text_of(app))


async def test_g_goes_to_a_module_by_name(workbench: Make, outputs: Path) -> None:
    app = workbench()
    async with layers_of(app, outputs / "style-r16", (120, 36)) as pilot:
        await pilot.press("5", "g")
        await until(pilot, lambda: isinstance(app.screen, ChoiceDialog))
        await pilot.press("j", "j", "enter")
        await until(pilot, lambda: isinstance(app.screen, SpectraScreen) and title(app).startswith("3/16"))


async def test_without_an_adapter_every_key_is_harmless(workbench: Make) -> None:
    app = workbench()
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        app.action_show("spectra")  # 5 on the bench would open what is under the cursor
        await pilot.press("left", "right", "a", "p", "y", "s", "escape", "g", "escape")
        await until(pilot, lambda: "press 1 and choose one" in text_of(app))
