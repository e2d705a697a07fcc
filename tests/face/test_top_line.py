"""The line at the top names the folder that one is in."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorabench.app import LorabenchApp
from lorabench.widgets.top_line import home_path, short_name
from tests.face.looking import text_of, until


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "outputs"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_a_folder_that_is_named_by_dots_is_told_by_its_name(here: Path) -> None:
    assert home_path(Path()) == str(here)
    assert home_path(Path("..")) == str(here.parent)
    assert home_path(Path("runs")) == "runs"


@pytest.mark.parametrize("width", [80, 120])
async def test_the_current_folder_stands_at_the_top_by_its_name(here: Path, width: int) -> None:
    app = LorabenchApp(Path())
    async with app.run_test(size=(width, 24)) as pilot:
        await until(pilot, lambda: "outputs  CPU" in text_of(app).partition("\n")[0])


@pytest.mark.parametrize(
    ("device", "short"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA A100-SXM4-80GB", "A100-SXM4-80GB"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", "RTX 4070 Ti SUPER"),
        ("Tesla T4", "T4"),
        ("NVIDIA TITAN V", "TITAN V"),
        ("CPU, 2 cores", "CPU"),
        ("NVIDIA", ""),
    ],
)
def test_where_there_is_little_room_a_device_is_known_by_its_model(device: str, short: str) -> None:
    assert short_name(device) == short
