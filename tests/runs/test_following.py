"""Events as they are followed while they grow."""

from __future__ import annotations

import json
import os
import tempfile
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorabench.runs.events import EVENTS_FILE, EventWriter, Follower

FILLER = json.dumps({"time": 1.0, "kind": "log", "loss": 1.5, "grad_norm": 0.25, "learning_rate": 2e-5})


def steps(events: list[dict[str, object]]) -> list[object]:
    return [event.get("step") for event in events]


def test_a_torn_last_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / EVENTS_FILE
    follower = Follower(path)
    path.write_bytes(b'{"step": 1}\n{"st')
    assert steps(follower.read()) == [1]
    assert follower.read() == []
    with path.open("ab") as file:
        file.write(b'ep": 2}\n')
    assert steps(follower.read()) == [2]


@pytest.mark.parametrize("line", [b"[]", b"null", b"{", b"\x00\xff", b"", b"[" * 100_000, b'"text"'])
def test_lines_that_are_no_events_are_passed_over(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / EVENTS_FILE
    path.write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 2}\n')
    assert steps(Follower(path).read()) == [1, 2]


@pytest.mark.parametrize("most", [16, 40, 100, 2**20])
def test_a_line_longer_than_a_reading_is_read_whole_and_one_too_long_is_passed_over(
    tmp_path: Path, most: int
) -> None:
    path = tmp_path / EVENTS_FILE
    long = [b'{"step": %d, "text": "%s"}' % (step, b"x" * size) for step, size in ((2, 150_000), (3, 2**22))]
    path.write_bytes(b"\n".join([b'{"step": 1}', *long, b'{"step": 4}', b""]))
    follower = Follower(path)
    assert [step for _ in range(4) for step in steps(follower.read(most))] == [1, 2, 4]
    assert follower.read(most) == []


def test_a_line_that_is_too_long_is_passed_over_while_it_grows(tmp_path: Path) -> None:
    path = tmp_path / EVENTS_FILE
    path.write_bytes(b'{"step": 1, "text": "' + b"x" * 2**22)
    follower = Follower(path)
    assert follower.read() == []
    with path.open("ab") as file:
        file.write(b'"}\n{"step": 2}\n')
    assert steps(follower.read()) == [2]


def test_kinds_that_are_not_wanted_are_passed_over(tmp_path: Path) -> None:
    with EventWriter(tmp_path) as writer:
        writer.write("log", step=1, text='"kind": "spectra"')
        writer.write("spectra", step=2)
        writer.write("device", step=3)
    follower = Follower(tmp_path / EVENTS_FILE, without=("spectra",))
    assert steps(follower.read()) == [1, 3]


LINES = st.lists(st.sampled_from([b'{"step": 1}', b'{"step": 23}', b"garbage", b"", b'{"step": "\xc3\xa9"}']))


@settings(max_examples=60, deadline=None)
@given(lines=LINES, cuts=st.lists(st.integers(0, 200)), most=st.integers(1, 64))
def test_however_the_lines_arrive_each_event_comes_once_and_in_order(
    lines: list[bytes], cuts: list[int], most: int
) -> None:
    whole = b"".join(line + b"\n" for line in lines)
    edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    found: list[object] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / EVENTS_FILE
        follower = Follower(path)
        for start, end in pairwise(edges):
            with path.open("ab") as file:
                file.write(whole[start:end])
            while events := follower.read(most):
                found += steps(events)
    assert found == [json.loads(line)["step"] for line in lines if line.startswith(b"{")]


def test_a_file_that_is_replaced_or_shortened_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / EVENTS_FILE
    follower = Follower(path)
    path.write_text('{"time": 1, "step": 1}\n{"time": 2, "step": 2}\n')
    assert steps(follower.read()) == [1, 2]
    other = tmp_path / "other"
    other.write_text('{"time": 5, "step": 7}\n{"time": 6, "step": 8}\n{"time": 7, "step": 9}\n')
    other.rename(path)
    assert steps(follower.read()) == [7, 8, 9]
    os.truncate(path, 23)
    assert steps(follower.read()) == [7]
    path.unlink()
    assert follower.read() == []
    path.write_text('{"time": 9, "step": 1}\n')
    assert steps(follower.read()) == [1]


@pytest.mark.parametrize(("offset", "expected"), [(0, [1, 2, 3]), (1, [2, 3]), (12, [2, 3]), (13, [3])])
def test_following_may_begin_anywhere_and_starts_with_a_whole_line(
    tmp_path: Path, offset: int, expected: list[int]
) -> None:
    path = tmp_path / EVENTS_FILE
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n')
    assert steps(Follower(path, offset).read()) == expected


def test_a_place_that_cannot_be_read_has_no_events(tmp_path: Path) -> None:
    (tmp_path / EVENTS_FILE).mkdir()
    assert Follower(tmp_path / EVENTS_FILE).read() == []
    assert Follower(tmp_path / "none" / EVENTS_FILE).read() == []


def write_filler(path: Path, count: int) -> None:
    with path.open("w") as file:
        for step in range(1, count + 1):
            file.write(f'{FILLER[:-1]}, "step": {step}}}\n')


def test_following_costs_no_more_memory_than_one_reading(tmp_path: Path) -> None:
    path = tmp_path / EVENTS_FILE
    write_filler(path, 50_000)
    assert path.stat().st_size > 4_500_000
    follower = Follower(path)
    count = 0
    tracemalloc.start()
    try:
        while events := follower.read(2**16):
            count += len(events)
            assert events[-1]["step"] == count
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 50_000
    assert peak < 2_000_000
