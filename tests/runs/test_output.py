"""Follow what the libraries print."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorabench.runs.output import LONGEST_LINE, MOST_BYTES, OutputTail


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "output.log"


def append(log: Path, text: str) -> None:
    with log.open("a", newline="") as file:
        file.write(text)


def test_a_file_that_is_not_there_yet_has_no_lines(log: Path) -> None:
    tail = OutputTail(log)
    assert not tail.read()
    append(log, "one\n")
    assert tail.read()
    assert list(tail.lines) == ["one"]
    assert not tail.read()


def test_a_line_is_complete_when_its_newline_comes(log: Path) -> None:
    tail = OutputTail(log)
    append(log, "hel")
    tail.read()
    assert (list(tail.lines), tail.unfinished) == ([], "hel")
    append(log, "lo\nnext")
    tail.read()
    assert (list(tail.lines), tail.unfinished) == (["hello"], "next")


def test_of_a_progress_bar_the_newest_state_remains(log: Path) -> None:
    tail = OutputTail(log)
    for done in range(500):
        append(log, f"\r{done / 5:.0f}%|{'█' * (done // 50)}| {done}/500")
        tail.read()
    assert list(tail.lines) == []
    assert tail.unfinished == "100%|█████████| 499/500"
    append(log, "\r100%|██████████| 500/500\nsaved\r\n")
    tail.read()
    assert list(tail.lines) == ["100%|██████████| 500/500", "saved"]


def test_a_carriage_return_split_from_its_line_by_the_end_of_a_reading_counts_too(log: Path) -> None:
    tail = OutputTail(log)
    append(log, "10%\r")
    tail.read()
    assert tail.unfinished == "10%"
    append(log, "20%")
    tail.read()
    assert tail.unfinished == "20%"
    append(log, "\r")
    tail.read()
    append(log, "\nend")
    tail.read()
    assert (list(tail.lines), tail.unfinished) == (["20%"], "end")


def test_the_cursor_movement_of_nested_bars_is_left_out_and_every_other_control_character_kept(
    log: Path,
) -> None:
    tail = OutputTail(log)
    append(log, "100%|█| 13/13\x1b[A\n\x1b[31mred\x1b[0m\n")
    tail.read()
    assert list(tail.lines) == ["100%|█| 13/13", "\x1b[31mred\x1b[0m"]


def test_lines_beyond_the_most_are_forgotten_and_keep_their_numbers(log: Path) -> None:
    tail = OutputTail(log, most_lines=100)
    append(log, "".join(f"line {number}\n" for number in range(1000)))
    tail.read()
    assert (tail.first, tail.ended, len(tail.lines)) == (900, 1000, 100)
    assert tail.lines[0] == "line 900"


def test_what_grows_faster_than_one_reading_is_passed_over_and_said(log: Path) -> None:
    tail = OutputTail(log)
    append(log, "begin\n")
    tail.read()
    append(log, "x" * 999 + "\n")
    append(log, ("y" * 199 + "\n") * 10_000)
    tail.read()
    assert tail.lines[0] == "begin"
    assert tail.lines[1] == "… 1.5 MB of output.log passed over …"
    assert set(list(tail.lines)[2:]) == {"y" * 199}
    assert sum(map(len, tail.lines)) <= MOST_BYTES


def test_one_endless_line_takes_no_more_memory_than_the_longest(log: Path) -> None:
    tail = OutputTail(log)
    for _ in range(4):
        append(log, "z" * 100_000)
        tail.read()
    assert len(tail.unfinished) == LONGEST_LINE
    append(log, "\n")
    tail.read()
    assert len(tail.lines[0]) == LONGEST_LINE


def test_a_file_that_was_replaced_is_read_from_its_start(log: Path) -> None:
    tail = OutputTail(log)
    append(log, "of the first run\n")
    tail.read()
    log.rename(log.with_suffix(".old"))
    append(log, "of the second\n")
    assert tail.read()
    assert list(tail.lines) == ["of the first run", "of the second"]
    log.write_text("cut\n")
    tail.read()
    assert tail.lines[-1] == "cut"


def test_what_is_no_utf8_is_shown_by_a_replacement(log: Path) -> None:
    log.write_bytes(b"caf\xe9\n")
    tail = OutputTail(log)
    tail.read()
    assert list(tail.lines) == ["caf\N{REPLACEMENT CHARACTER}"]
