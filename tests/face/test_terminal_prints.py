"""Whatever prints while the workbench is open: it never reaches the screen, and it does reach the log."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import pytest

from tests.face.noise import SOURCES
from tests.terminal import Terminal


@pytest.fixture
def noisy(tmp_path: Path) -> Terminal:
    """The noisy application, open, on a terminal of 100 × 24."""
    terminal = Terminal(
        [sys.executable, "-m", "tests.face.noise", str(tmp_path / "output.log")], size=(100, 24)
    )
    terminal.wait_for("log lorabench-")
    return terminal


def heard(log: Path, when: str) -> set[str]:
    """The sources that the log holds lines of."""
    text = log.read_text(errors="surrogateescape").replace("\\udcff", "\udcff")
    return {source for source in SOURCES if f"NOISE {source} {when}" in text}


def test_everything_that_prints_goes_to_the_log_and_nothing_to_the_screen(noisy: Terminal, tmp_path: Path):
    name = re.search(r"log (lorabench-\S+\.log)", noisy.shown)
    assert name is not None
    private, output = Path(tempfile.gettempdir()) / name[1], tmp_path / "output.log"
    assert private.stat().st_mode & 0o777 == 0o600
    noisy.type("n")
    noisy.wait_for("did n")
    assert heard(private, "before") == set(SOURCES)
    assert heard(private, "private") == set(SOURCES)
    noisy.type("o")
    noisy.wait_for("did o")
    assert heard(output, "output") == set(SOURCES)
    assert heard(private, "output") == set()
    assert "BACK" in private.read_text(errors="replace")
    assert "BACK" not in output.read_text(errors="replace")
    noisy.type("q")
    assert noisy.close() == 0
    assert b"NOISE" not in noisy.painted
    assert not private.exists()


def test_the_terminal_is_given_back_as_it_was(noisy: Terminal):
    noisy.type("q")
    assert noisy.close() == 0
    modes = noisy.painted.decode(errors="replace")
    for switch in ("?1049", "?1000", "?1003", "?2004", "?1004"):
        assert modes.rfind(f"\x1b[{switch}h") < modes.rfind(f"\x1b[{switch}l"), switch
