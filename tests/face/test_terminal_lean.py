"""What is sent to the terminal: the same picture in fewer bytes."""

from __future__ import annotations

from typing import Any

import pyte
from hypothesis import given
from hypothesis import strategies as st

from lorabench.terminal.lean import lean

COLOURS = ["", "31", "97", "38;5;200", "38;2;1;2;3", "38;2;9;8;7"]
GROUNDS = ["", "44", "107", "48;5;17", "48;2;18;18;18"]
ATTRIBUTES = ["", "1", "1;4", "7", "3;9", "53"]
looks = st.tuples(*map(st.sampled_from, (ATTRIBUTES, COLOURS, GROUNDS))).map(
    lambda parts: ";".join(filter(None, parts))
)
texts = st.sampled_from(["a", "bc ", "  ", "\n\x1b[3;5H", "\x1b[2;1H", "\x1b[2J", "\x1b[K", "é⣿", "\r\n"])
pieces = st.tuples(looks, texts, st.booleans()).map(
    lambda piece: f"\x1b[{piece[0]}m{piece[1]}" + ("\x1b[0m" if piece[2] else "")
)


def picture(*sent: str) -> list[list[Any]]:
    """Each cell with its colours, and last how the terminal would go on."""
    screen = pyte.Screen(120, 36)
    stream = pyte.Stream(screen)
    for text in sent:
        stream.feed(text)
    cells = [[screen.buffer[row][column] for column in range(120)] for row in range(36)]
    return [*cells, [screen.cursor.attrs, screen.cursor.x, screen.cursor.y]]


@given(st.lists(pieces, max_size=12).map("".join), st.lists(pieces, max_size=12).map("".join))
def test_whatever_is_painted_looks_the_same(first: str, then: str) -> None:
    sent = [f"{text}\x1b[0m" for text in (first, then)]  # as Textual leaves it after each painting
    assert picture(*map(lean, sent)) == picture(*sent)


def test_a_line_of_the_train_screen_takes_half_of_its_bytes() -> None:
    ground = "48;2;18;18;18"
    line = (
        f"\n\x1b[16;1H\x1b[38;2;0;69;120;{ground}m│\x1b[0m\x1b[{ground}m \x1b[0m"
        f"\x1b[38;2;160;160;160;{ground}m      │\x1b[0m\x1b[38;2;160;160;160;{ground}m          \x1b[0m"
        f"\x1b[1;38;2;1;120;212;{ground}m⠉⠓⠲⢤⣀\x1b[0m"
    )
    assert lean(line + line) == (
        f"\n\x1b[16;1H\x1b[38;2;0;69;120;{ground}m│\x1b[39m \x1b[38;2;160;160;160m      │          "
        "\x1b[1;38;2;1;120;212m⠉⠓⠲⢤⣀"
        f"\n\x1b[16;1H\x1b[0;38;2;0;69;120;{ground}m│\x1b[39m \x1b[38;2;160;160;160m      │          "
        "\x1b[1;38;2;1;120;212m⠉⠓⠲⢤⣀\x1b[0m"
    )
    assert len(lean(line + line)) < 0.6 * len(line + line)
