"""A folder made to harm, opened in the workbench on a pty: no screen lets it command the terminal."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.segment import Segment
from rich.style import Style
from safetensors.numpy import save_file
from textual.color import Color

from lorabench.app import LorabenchApp
from lorabench.screens.dialogs import ChoiceDialog
from lorabench.terminal.harmless import Harmless
from tests.face.looking import settled, text_of, until
from tests.fuzz.bounds import LONG, harmless
from tests.terminal import Terminal

MARK = "7707"
"""Stands in each command below, and in nothing that a screen paints by itself."""
COMMANDS = (
    *(f"\x1b[{MARK}m", f"\x1b]0;{MARK}\x07", f"\x1b]52;c;{MARK}\x1b\\", f"\x1bP{MARK}\x1b\\", f"\x9b{MARK}m"),
    *("\x1b[2J", "\x1bc", "\r", "\n", "\b", "\x0e", "\x7f", "\t", "\u202e", "\u2066", "\u2028", "\u200b"),
    *("[red]", "[/]", "[@click=app.quit]x[/]", "[link=file:///etc]y[/link]", "[", "\\[", "\ufeff"),
)
EVIL = "".join(COMMANDS)
LONG_EVIL = EVIL + "a" * 200_000
NAME = EVIL.replace("/", "")[:120]  # a file's name holds 255 bytes
# What Textual's own driver asks for and sets, and how it moves and paints.
OURS = re.compile(
    rb"\x1b(?:\[[<=>?]?[\d;:]*\$?[ !]?[@-~]|[=>78]|[P_][^\x1b]*\x1b\\|\][^\x07\x1b]*(?:\x07|\x1b\\))"
)


def adapter(folder: Path, base: Path) -> None:
    """Write an adapter whose every text is hostile, and the base model that it names."""
    folder.mkdir(parents=True)
    base.mkdir(parents=True)
    rng = np.random.default_rng(0)
    hostile = [
        f"v{text}".replace("\n", "") for text in (EVIL, LONG_EVIL)
    ]  # a name with a break is no module's
    modules = [f"model.layers.{at}.{name}" for at in range(3) for name in ("q_proj", *hostile)]
    tensors = {
        f"base_model.model.{module}.lora_{part}.weight": rng.standard_normal(shape).astype(np.float32)
        for module in modules
        for part, shape in (("A", (8, 32)), ("B", (32, 8)))
    }
    tensors[f"other{EVIL}"] = np.ones(3, np.float32)
    save_file(tensors, folder / "adapter_model.safetensors", {EVIL: EVIL})
    weights = {f"{module}.weight": rng.standard_normal((32, 32)).astype(np.float32) for module in modules}
    save_file(weights, base / "model.safetensors")
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 8, "base_model_name_or_path": str(base)}
    config |= {"target_modules": ["q_proj", EVIL, LONG_EVIL], "rank_pattern": {EVIL: EVIL, LONG_EVIL: 3}}
    (folder / "adapter_config.json").write_text(json.dumps(config))


def run(folder: Path) -> None:
    """Write a run whose every text is hostile, with a clock that goes backwards."""
    adapter(folder, folder / "base")
    findings = [{"level": "error", "check": EVIL, "message": LONG_EVIL, "detail": EVIL, EVIL: EVIL}]
    events: list[dict[str, Any]] = [
        {"kind": "started", "total_steps": 9, "model": EVIL, "host": EVIL, "device": {"name": EVIL}},
        {"kind": "stage", "stage": EVIL},
        {"kind": "warning", "text": EVIL, "source": EVIL},
        {"kind": "warning", "text": LONG_EVIL, "source": "lorabench"},
        *({"kind": "log", "step": step, "loss": 3 / step, EVIL: step, "mode": EVIL} for step in range(1, 9)),
        {"kind": "device", "name": EVIL, "memory_used": 1, "memory_total": 2, "gpu_utilisation": EVIL},
        {"kind": "spectra", "step": 3, "modules": {EVIL: {"norm": 1.0, "sigma1": 1.0, "stable_rank": 2.0}}},
        {"kind": "update", "step": 3, "groups": {EVIL: {"c": 2.0}}, "findings": findings},
        {"kind": "checkpoint", "step": 4, "path": EVIL},
        {"kind": "failed", "reason": "preflight", "error": EVIL, "hint": EVIL, "findings": findings},
    ]
    lines = [json.dumps({"time": 1e9 - at} | event) for at, event in enumerate(events)]
    (folder / "events.jsonl").write_text("\n".join(lines) + "\n")
    log = [EVIL, LONG_EVIL, f"Traceback {EVIL}", f"50%|{EVIL}\r60%|{EVIL}"]
    (folder / "output.log").write_bytes("\n".join(log * 3).encode() + bytes(range(256)))
    (folder / "run.yaml").write_text(
        yaml.safe_dump({"model_name_or_path": str(folder / "base"), "output_dir": str(folder)})
        + f"lora_r: {EVIL}\n"
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("hostile")
    adapter(place / f"a{NAME}", place / f"base{NAME}")
    run(place / f"b{NAME}")
    return place


def assert_obeyed_nothing(painted: bytes) -> None:
    """Fail where a byte of the files reached the terminal as anything but a character that it shows."""
    assert MARK.encode() in painted  # some of it is shown
    for sequence in re.finditer(OURS, painted):
        assert MARK.encode() not in sequence[0], sequence[0]
    left = re.sub(OURS, b"", painted).decode()
    assert harmless(left.replace("\r\n", "\n")), sorted({c for c in left if not harmless(c)})


def pressed(terminal: Terminal, keys: str, shown: str) -> None:
    """Press keys, wait for what the screen shows then, and until nothing more is painted for a moment."""
    terminal.type(keys)
    terminal.wait_for(shown)
    while terminal.read(0.2):
        pass


@pytest.mark.parametrize("size", [(120, 36), (80, 24), (200, 60)] if LONG else [(120, 36)])
def test_no_screen_lets_anything_through(folder: Path, size: tuple[int, int]) -> None:
    terminal = Terminal(folder, size=size, HOME=str(folder.parent))
    terminal.wait_for(MARK)
    pressed(terminal, "\r", "9 of 9 rows")
    pressed(terminal, "jj\r", "singular values")
    pressed(terminal, "\x1b", "9 of 9 rows")
    pressed(terminal, "5", "adapter")
    pressed(terminal, "6", "9 of 9 layers")  # as a picture where there is no room for the table
    pressed(terminal, "b", "esc close")  # the base model's folder, to be edited
    pressed(terminal, "\x1b", "b base")
    pressed(terminal, "1", "runs and adapters")
    pressed(terminal, "s", "enter saves")  # a file in a hostile folder
    pressed(terminal, "\x1b", "runs and adapters")
    pressed(terminal, "jw", "output.log")
    pressed(terminal, "2", "esc form")  # a file that is no YAML is shown as text
    os.kill(terminal.child, signal.SIGTERM)
    terminal.close()
    assert_obeyed_nothing(terminal.painted)


def test_inputs_and_editors_hold_what_a_terminal_would_obey_and_paint_it_harmless() -> None:
    segments = [Segment("fine ✔"), Segment(f"a{EVIL}b", Style(bold=True))]
    painted = Harmless().apply(segments, Color(0, 0, 0))
    assert [harmless(segment.text) for segment in painted] == [True, True]
    assert [segment.cell_length for segment in painted] == [segment.cell_length for segment in segments]
    assert painted[1].style == Style(bold=True)
    assert painted[1].text.startswith("a")
    assert LorabenchApp(Path()).get_line_filters()[-1].__class__ is Harmless


async def test_no_title_is_read_as_markup(tmp_path: Path) -> None:
    name = "[$primary @click=app.quit]x[/] [Red] [ bold]"
    adapter(tmp_path / name.replace("/", ""), tmp_path / "base")
    app = LorabenchApp(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        assert name.replace("/", "") in text_of(app)
        assert f"╭─ {name.replace('/', '')} ─" in text_of(app)
        app.push_screen(ChoiceDialog(f"stop {name}?", ["yes"]))
        await until(pilot, lambda: f"stop {name}?" in text_of(app))
