"""The terminal as a file: over a slow link it waits, over a stalled one it drops, gone it stays silent."""

from __future__ import annotations

import os
import pty
import time
from collections.abc import Iterator

import pytest

from lorabench.terminal import tty_file
from lorabench.terminal.tty_file import TtyFile

Link = tuple[int, TtyFile]


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> Iterator[Link]:
    """A reader's end, and the file that writes to the other, which loses patience after 50 ms."""
    monkeypatch.setattr(tty_file, "PATIENCE_SECONDS", 0.05)
    reader, writer = pty.openpty()
    os.set_blocking(writer, False)
    os.set_blocking(reader, False)
    yield reader, TtyFile(writer)
    os.close(writer)


def take(reader: int) -> bytes:
    """Read what lies there."""
    taken = b""
    while True:
        try:
            taken += os.read(reader, 65536)
        except BlockingIOError:
            return taken


def stall(file: TtyFile) -> int:
    """Write numbered lines until the link stalls; return how many it was given."""
    for number in range(10_000):
        file.write(f"{number:08}" * 100 + "\n")
        if file.stalled:
            return number + 1
    raise AssertionError("it never stalled")


def test_text_arrives_and_what_is_no_unicode_does_not_raise(link: Link):
    reader, file = link
    assert file.write("α = 2\udcff\n") == 7
    assert take(reader).decode() == "α = 2?\r\n"


def test_a_stalled_link_costs_one_wait_and_then_nothing(link: Link):
    _, file = link
    stall(file)
    begun = time.monotonic()
    for _ in range(1000):
        file.write("x" * 1000)
    assert time.monotonic() - begun < 0.05 * 10
    assert not file.gone


def test_when_the_link_moves_again_the_cut_text_is_ended_and_all_is_painted_anew(link: Link):
    reader, file = link
    painted: list[str] = []
    file.repaint = lambda: painted.append("all")
    given = stall(file)
    file.write("dropped")
    file.look()
    assert painted == []
    arrived = take(reader)
    file.look()
    assert painted == ["all"]
    file.write("the end")
    arrived += take(reader)
    assert (
        arrived.decode().replace("\r\n", "\n")
        == "".join(f"{number:08}" * 100 + "\n" for number in range(given)) + "the end"
    )
    assert painted == ["all"]


def test_a_terminal_that_is_gone_takes_everything_in_silence(link: Link):
    reader, file = link
    os.close(reader)
    assert file.write("nobody reads this") == 17
    assert file.gone
    file.look()
