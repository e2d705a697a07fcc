"""The panels of screen 3: log, losses, ΔW, and how they cope with much, with odd events and with sizes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from lorabench.app import LorabenchApp
from lorabench.runs.events import EventWriter
from lorabench.runs.lock import take_lock
from lorabench.screens.dialogs import ChoiceDialog
from lorabench.screens.train import TrainScreen
from lorabench.widgets.delta_panel import DeltaPanel, growth
from lorabench.widgets.log_pane import LogPane
from tests.face.looking import text_of, until
from tests.face.watching import app_on, begin, log, recorded, sees, told, watch


async def test_delta_w_is_told_now_and_before_with_what_grows(run: Path) -> None:
    app = app_on(run.parent)
    async with app.run_test(size=(120, 36)) as pilot:
        await watch(pilot, run)
        await sees(pilot, "growing fastest")
        before, now = (event["modules"] for event in recorded("spectra")[-2:])
        norm = sum(module["norm"] ** 2 for module in now.values()) ** 0.5
        ranks = sorted(module["stable_rank"] for module in now.values())
        growth = {name: now[name]["norm"] / before[name]["norm"] for name in now}
        fastest = max(growth, key=lambda name: growth[name])
        words = fastest.split(".")
        shown = "\n".join(line[78:] for line in text_of(app).splitlines())
        assert f"‖ΔW‖         {norm:.3g}" in shown
        assert f"stable rank  {(ranks[11] + ranks[12]) / 2:.2f}" in shown
        first = next(
            line for at, line in enumerate(shown.splitlines()) if "growing" in shown.splitlines()[at - 1]
        )
        assert f"{words[2]}.{words[-1]}" in first


def test_what_grows_fastest_is_sorted_by_what_is_printed() -> None:
    def modules(**norms: float) -> dict[str, dict[str, float]]:
        return {name: {"norm": norm} for name, norm in norms.items()}

    before = modules(large=10.0, small=0.1, none=0.0, dead=0.0, odd=float("nan"))
    now = modules(large=11.0, small=0.15, none=0.2, dead=0.0, odd=1.0, other=3.0)
    grown = [(name, norm, round(share, 6)) for name, norm, share in growth(now, before)]
    assert grown == [("none", 0.2, float("inf")), ("small", 0.15, 0.5), ("large", 11.0, 0.1)]


async def test_the_newest_update_is_one_line_and_dead_modules_are_named(new: Path) -> None:
    def modules(scale: float) -> dict[str, Any]:
        names = [f"model.layers.{layer}.self_attn.q_proj" for layer in range(3)]
        return {
            name: {"norm": scale * at, "sigma1": 1.0, "stable_rank": 1.5, "alpha": None}
            for at, name in enumerate(names)
        }

    app = app_on(new.parent)
    async with app.run_test(size=(120, 36)) as pilot:
        with take_lock(new), begin(new, steps=2) as writer:
            writer.write("spectra", step=1, seconds=0.1, modules=modules(1.0), dead=[], unreadable={})
            dead = ["model.layers.0.self_attn.q_proj"]
            writer.write("spectra", step=2, seconds=0.1, modules=modules(1.5), dead=dead, unreadable={})
            groups = {"A": 0.00123, "B": None}
            writer.write("update", step=2, groups=groups, extreme=[], still=["x", "y"], c=0.5)
            await watch(pilot, new)
            await sees(pilot, "last update  A 0.12 %  c 0.5  2 still", "▲ 1 dead (B = 0) 0.q_proj")
            await sees(
                pilot, "2.q_proj                    3  +50.0 %", f"‖ΔW‖         {(1.5**2 + 9) ** 0.5:.3g}"
            )
            assert "no module has one" in text_of(app)


async def test_warnings_stay_in_sight_and_w_lists_them(new: Path) -> None:
    app = app_on(new.parent)
    async with app.run_test(size=(120, 36)) as pilot:
        with take_lock(new), begin(new, steps=5) as writer:
            writer.write("warning", text="the [first] one", source="warnings")
            await watch(pilot, new)
            await sees(pilot, "▲ warning (w): the [first] one")
            writer.write("warning", text="the newest\x1b[2J one\nand why", source="warnings")
            await sees(pilot, "▲ 2 warnings (w): the newest␛[2J one", "│ ▲ the newest␛[2J one", "│   and why")
            await pilot.press("w")
            await until(pilot, lambda: isinstance(app.screen, ChoiceDialog))
            await sees(pilot, "the [first] one")


async def test_a_warning_can_be_read_in_full(new: Path) -> None:
    words = " ".join(f"word{number}" for number in range(60))
    with begin(new, steps=5) as writer:
        writer.write("warning", text="the newest is not the one", source="warnings")
        writer.write("warning", text=f"one\x1b[2J\n{words} and [end]", source="warnings")
    app = app_on(new.parent)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await watch(pilot, new)
        await pilot.press("w")
        await until(pilot, lambda: isinstance(app.screen, ChoiceDialog))
        await pilot.press("enter")
        await sees(pilot, "one␛[2J ", "word0 word1", " word59 and [end]")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, ChoiceDialog))
        await pilot.press("down", "enter")
        await sees(pilot, "the newest is not the one")
        assert "word0" not in text_of(app)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, ChoiceDialog))
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is screen)


async def test_the_log_follows_pauses_and_follows_again(new: Path) -> None:
    output = new / "output.log"
    output.write_text("".join(f"line {number}\n" for number in range(200)) + "\r 10%\r 20%")
    app = app_on(new.parent)
    async with app.run_test(size=(120, 36)) as pilot:
        await watch(pilot, new)
        await sees(pilot, "line 199", " 20%", "following")
        assert " 10%" not in text_of(app)
        await pilot.press("up", "up", "up")
        await sees(pilot, "line 197", "paused, 3 below")
        with output.open("a") as file:
            file.write("\nand [red]more\x1b]0;title\x07\n")
        await sees(pilot, "paused, 4 below")
        assert "line 198" not in text_of(app)
        await pilot.press("end")
        await sees(pilot, "and [red]more␛]0;title␇", "following")
        await pilot.press("home")
        await sees(pilot, "line 0 ", "line 3 ")


async def test_the_log_is_searched_and_filtered(new: Path) -> None:
    lines = [f"line {number}" + (" NEEDLE" if number % 50 == 7 else "") for number in range(200)]
    (new / "output.log").write_text("\n".join(lines) + "\n")
    app = app_on(new.parent)
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await watch(pilot, new)
        pane = screen.query_one(LogPane)
        await pilot.press("slash", *"needle", "enter")
        await sees(pilot, "line 157 NEEDLE", "searching “needle”: 4")
        assert pane.has_focus
        await pilot.press("N")
        await sees(pilot, "line 107 NEEDLE")
        await pilot.press("N", "N", "N")
        await sees(pilot, "line 157 NEEDLE")
        await pilot.press("n")
        await sees(pilot, "line 7 NEEDLE")
        await pilot.press("f")
        await sees(pilot, "line 7 NEEDLE", "line 57 NEEDLE", "line 157 NEEDLE", "only lines with")
        assert "line 8 " not in text_of(app)
        await pilot.press("escape")
        await sees(pilot, "line 199", "following")
        assert pane.pattern == ""


async def test_a_match_is_in_sight_and_marked_however_long_the_lines_around_it_are(new: Path) -> None:
    long = "{'loss': " + "1.234567 " * 40 + "}"
    lines = [
        f"{number} {long}" + (f" NEEDLE {long} end{number}" if number in (0, 3, 9) else "")
        for number in range(12)
    ]
    (new / "output.log").write_text("\n".join(lines) + "\n")
    app = app_on(new.parent)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await watch(pilot, new)
        pane = screen.query_one(LogPane)
        await sees(pilot, "following")
        await pilot.press("slash", *"needle", "enter")

        def marked() -> list[str]:
            rows = [pane.render_line(y) for y in range(pane.size.height)]
            return [s.text for row in rows for s in row if s.style and s.style.reverse]

        for at, key in ((9, "N"), (3, "N"), (0, "N"), (9, "n"), (0, "f"), (0, "f"), (0, "n")):
            await until(pilot, lambda at=at: pane.found == at and "".join(marked()) == "NEEDLE")
            await pilot.press(key)
        await until(pilot, lambda: pane.found == 3)
        await pilot.press("home")
        await sees(pilot, "0 {'loss': 1.23")


async def test_the_keys_from_match_to_match_are_named_while_something_is_searched_for(new: Path) -> None:
    (new / "output.log").write_text("one\ntwo\n")
    app = app_on(new.parent)
    async with app.run_test(size=(80, 24)) as pilot:
        await watch(pilot, new)
        assert "only matches" not in text_of(app)
        await pilot.press("slash", *"two", "enter")
        await sees(pilot, " n next  N before  f only matches ")
        await pilot.press("escape")
        await until(pilot, lambda: "only matches" not in text_of(app))


async def test_few_losses_are_one_curve_and_many_are_smoothed(new: Path) -> None:
    app = app_on(new.parent)
    async with app.run_test(size=(120, 36)) as pilot:
        with take_lock(new), begin(new, steps=63) as writer:
            await watch(pilot, new)
            await sees(pilot, "━ train 1.37")
            assert "smoothed" not in text_of(app)
            log(writer, 64)
            await sees(pilot, "⣿ train 1.36", "━ smoothed 1.36")


async def test_o_draws_the_loss_of_another_run_behind(run: Path) -> None:
    other = run.parent / "style-r[4]"
    other.mkdir()
    with begin(other, steps=100) as writer:
        writer.write("finished", step=100)
    app = app_on(run.parent)
    async with app.run_test(size=(120, 36)) as pilot:
        await watch(pilot, run)
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, ChoiceDialog))
        await sees(pilot, "style-r[4]   finished   step 100   loss 1")
        await pilot.press("down", "enter")
        await sees(pilot, "⠒ style-r[4] 1", "train ")
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, ChoiceDialog))
        await pilot.press("enter")
        await until(pilot, lambda: "⠒ style-r[4]" not in text_of(app))


async def test_where_only_the_run_itself_is_open_o_says_what_to_open_instead(run: Path) -> None:
    app = app_on(run)
    async with app.run_test(size=(120, 36)) as pilot:
        await watch(pilot, run)
        await pilot.press("o")
        said = f"No other run of {run.name} has a loss: open the folder of all runs, lorabench {run.parent}"
        await until(pilot, lambda: told(app) == [said])


async def test_the_loss_behind_a_run_is_not_behind_the_next_one(run: Path, new: Path) -> None:
    begin(new, steps=100).close()
    app = app_on(run.parent)
    async with app.run_test(size=(120, 36)) as pilot:
        await watch(pilot, run)
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, ChoiceDialog))
        await pilot.press("down", "enter")
        await sees(pilot, f"⠒ {new.name} 1")
        await pilot.press("1")
        await watch(pilot, new)
        await sees(pilot, "train 1")
        assert f"⠒ {new.name}" not in text_of(app)


async def test_a_run_of_another_tool_shows_its_losses_and_the_spectra_of_its_checkpoints(
    samples: Path,
) -> None:
    app = app_on(samples)
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await watch(pilot, samples / "style-checkpoints-r8")
        await sees(pilot, "✔ finished", "step 240 of 240", "train 0.4043")
        await sees(pilot, "step         240     before 180")
        panel = screen.query_one(DeltaPanel)
        assert panel.size.height > 10
        app.open_adapter(samples / "style-checkpoints-r8" / "checkpoint-240")
        await until(pilot, lambda: app.analysis.state == "done")
        norm = sum(s.frobenius_norm**2 for s in app.analysis.spectra["ΔW"]) ** 0.5
        await pilot.press("3")
        await sees(pilot, f"‖ΔW‖         {norm:.3g} ")


async def test_the_spectra_of_a_run_that_has_ended_are_those_of_its_adapter(new: Path, samples: Path) -> None:
    last = samples / "style-checkpoints-r8" / "checkpoint-240"
    app = app_on(new.parent)
    async with app.run_test(size=(120, 36)) as pilot:
        with take_lock(new), begin(new, steps=40, total=40) as writer:
            for step in (24, 38):
                modules = {"layers.0.q_proj": {"norm": step / 10, "stable_rank": 1.5, "alpha": None}}
                writer.write("spectra", step=step, seconds=0.1, modules=modules, dead=[], unreadable={})
            await watch(pilot, new)
            await sees(pilot, "step         38      before 24")
            for name in ("adapter_model.safetensors", "adapter_config.json"):
                shutil.copy(last / name, new / name)
            writer.write("finished", step=40)
        await sees(pilot, "✔ finished", "step         40      before 38")
        app.open_adapter(last)
        await until(pilot, lambda: app.analysis.state == "done")
        norm = sum(s.frobenius_norm**2 for s in app.analysis.spectra["ΔW"]) ** 0.5
        await pilot.press("3")
        await sees(pilot, f"‖ΔW‖         {norm:.3g} ")


async def test_p_shows_one_panel_alone_and_l_makes_the_axis_logarithmic(run: Path) -> None:
    app = app_on(run.parent)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await watch(pilot, run)
        await sees(pilot, "train ", "following")
        await pilot.press("p")
        await until(pilot, lambda: "following" not in text_of(app))
        assert screen.query_one("#loss").size.height >= 18
        linear = text_of(app)
        await pilot.press("l")
        await until(pilot, lambda: text_of(app) != linear)
        await pilot.press("p")
        await until(pilot, lambda: screen.query_one(DeltaPanel).size.height >= 14)
        await sees(pilot, "growing fastest")
        await pilot.press("p")
        await sees(pilot, "following")
        assert screen.query_one(LogPane).size.height >= 14
        await pilot.press("p")
        await sees(pilot, "train ", "following")


async def test_events_that_are_not_what_they_should_be_break_nothing(new: Path) -> None:
    huge = 10**400
    events: list[dict[str, Any]] = [
        {"kind": "started", "total_steps": huge, "time": "now"},
        {"kind": "started", "total_steps": -5, "time": huge},
        {"kind": "log", "step": huge, "loss": 1.0},
        {"kind": "log", "step": -3, "loss": huge},
        {"kind": "log", "step": 1, "loss": float("nan"), "learning_rate": float("inf"), "epoch": "one"},
        {"kind": "log", "step": 2, "loss": 1e308, "step_seconds": -1e308, "tokens_per_second": float("nan")},
        {"kind": "log", "step": 3, "loss": -1e308, "grad_norm": 0},
        {"kind": "eval", "step": 3, "eval_loss": float("inf")},
        {"kind": "device", "memory_used": 1e300, "memory_total": "much", "power": float("nan")},
        {"kind": "warning", "text": ["not", "text"]},
        {"kind": "warning"},
        {"kind": "spectra", "step": 1, "modules": {"": {"norm": float("nan")}, "b": 3}, "dead": 7},
        {"kind": "spectra", "step": "two", "modules": {"": {"norm": 1.0, "alpha": float("inf")}, "c.d": {}}},
        {"kind": "spectra", "step": 3, "modules": [], "unreadable": 3},
        {"kind": "update", "groups": {"A": "x", "\x1b[2J": 0.1}, "c": float("nan"), "still": 5},
        {"kind": "checkpoint", "step": None},
        {"kind": "failed", "error": {"a": 1}, "hint": None, "findings": [1, {"check": 2, "level": []}]},
    ]
    with EventWriter(new) as writer:
        app = app_on(new.parent)
        async with app.run_test(size=(120, 36)) as pilot:
            screen = await watch(pilot, new)
            for event in events:
                fields = {name: value for name, value in event.items() if name != "kind"}
                writer.write(event["kind"], **fields)
                while screen.watched is not None and screen.watched.read():
                    pass
                screen.draw()
                await pilot.press("l")
            await sees(pilot, "✘ failed")


async def test_a_burst_of_events_is_one_paint(new: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = LorabenchApp(new.parent, refresh_seconds=3600)
    async with app.run_test(size=(120, 36)) as pilot:
        with take_lock(new), begin(new, steps=1, total=5000) as writer:
            screen = await watch(pilot, new)
            await until(pilot, lambda: not screen.reading)
            painted: list[int] = []
            draw = TrainScreen.draw

            def count(self: TrainScreen, **options: bool) -> None:
                painted.append(1)
                draw(self, **options)

            monkeypatch.setattr(TrainScreen, "draw", count)
            for step in range(2, 5001):
                log(writer, step)
            screen.tick()
            await sees(pilot, "step 5,000 of 5,000")
            assert len(painted) == 1
