"""Events as they are written, and as they are followed while they grow."""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lorabench.runs.events import EVENTS_FILE, EventWriter, Follower
from lorabench.runs.lock import read_owner, take_lock

FILLER = json.dumps({"time": 1.0, "kind": "log", "loss": 1.5, "grad_norm": 0.25, "learning_rate": 2e-5})


def steps(events: list[dict[str, object]]) -> list[object]:
    return [event.get("step") for event in events]


def test_an_event_is_followed_once(tmp_path: Path) -> None:
    follower = Follower(tmp_path / EVENTS_FILE)
    assert follower.read() == []
    with EventWriter(tmp_path) as writer:
        writer.write("log", step=1, loss=2.5)
        (event,) = follower.read()
        assert (event["kind"], event["step"], event["loss"]) == ("log", 1, 2.5)
        assert event["time"] > 1_700_000_000
        assert follower.read() == []
        writer.write("log", step=2)
        assert steps(follower.read()) == [2]


def test_each_event_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    real = os.write

    def write(fd: int, data: memoryview) -> int:
        written.append(bytes(data))
        return real(fd, data)

    with EventWriter(tmp_path) as writer:
        monkeypatch.setattr(os, "write", write)
        writer.write("warning", text="one\ntwo")
    assert len(written) == 1
    assert written[0].endswith(b'"one\\ntwo"}\n')


def test_numbers_that_json_lacks_come_back_as_they_were(tmp_path: Path) -> None:
    with EventWriter(tmp_path) as writer:
        writer.write("log", loss=math.nan, all=[math.inf, -math.inf, {"deep": math.nan}], text="NaNs")
    line = (tmp_path / EVENTS_FILE).read_text()
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    (event,) = Follower(tmp_path / EVENTS_FILE).read()
    assert math.isnan(event["loss"])
    assert event["all"][:2] == [math.inf, -math.inf]
    assert math.isnan(event["all"][2]["deep"])
    assert event["text"] == "NaNs"


def test_numbers_of_numpy_paths_and_unknown_things_do_not_stop_a_training(tmp_path: Path) -> None:
    with EventWriter(tmp_path) as writer:
        writer.write(
            "log",
            loss=np.float32(0.5),
            step=np.int64(3),
            all=np.arange(2),
            path=tmp_path,
            odd=1 + 2j,
            last=np.nan,
        )
    (event,) = Follower(tmp_path / EVENTS_FILE).read()
    assert (event["loss"], event["step"], event["all"]) == (0.5, 3, [0, 1])
    assert (event["path"], event["odd"]) == (str(tmp_path), "(1+2j)")


def test_threads_write_whole_lines(tmp_path: Path) -> None:
    with EventWriter(tmp_path) as writer:

        def work(number: int) -> None:
            for step in range(200):
                writer.write("log", number=number, step=step, text="x" * 300)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    events = Follower(tmp_path / EVENTS_FILE).read()
    for number in range(4):
        assert [event["step"] for event in events if event["number"] == number] == list(range(200))


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


def test_what_a_killed_writer_wrote_is_all_there_and_its_half_line_stands_alone(tmp_path: Path) -> None:
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom lorabench.runs.events import EventWriter\n"
        "writer = EventWriter(Path(sys.argv[1]))\nstep = 0\nprint(flush=True)\n"
        "while True:\n    step += 1\n    writer.write('log', step=step)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE) as writing:
        assert writing.stdout is not None
        writing.stdout.readline()
        follower = Follower(tmp_path / EVENTS_FILE)
        seen = 0
        while seen < 100:
            seen += len(follower.read())
        writing.send_signal(signal.SIGKILL)
    path = tmp_path / EVENTS_FILE
    with path.open("ab") as file:
        file.write(b'{"kind": "log", "step": 10')  # what a kernel that went down leaves of a write
    with EventWriter(tmp_path) as writer:
        writer.write("started", step=0)
    found: list[object] = []
    whole = Follower(path)
    while events := whole.read():
        found += steps(events)
    assert found == [*range(1, len(found)), 0]


def test_a_full_disk_is_told_and_leaves_no_half_line_that_merges_with_the_next(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with EventWriter(tmp_path) as writer:
        writer.write("log", step=1)
        full = (tmp_path / EVENTS_FILE).stat().st_size + 30
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (full, limits[1]))
            with pytest.raises(OSError, match="File too large"):
                writer.write("log", step=2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert (tmp_path / EVENTS_FILE).stat().st_size == full
        writer.write("log", step=3)
    assert steps(Follower(tmp_path / EVENTS_FILE).read()) == [1, 3]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB, on machines where a test may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_really_full_disk_loses_the_last_line_only_and_writing_goes_on_when_there_is_room(
    small_disk: Path,
) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 50_000)
    with EventWriter(small_disk) as writer:
        writer.write("log", step=0)
        with pytest.raises(OSError, match="No space left"):
            writer.write("log", text="y" * 14_000)
        with pytest.raises(OSError, match="No space left"):
            take_lock(small_disk)
        assert read_owner(small_disk) is None
        filler.unlink()
        writer.write("failed", step=-1)
    assert steps(Follower(small_disk / EVENTS_FILE).read()) == [0, -1]
    take_lock(small_disk).release()


def test_a_closed_writer_says_so(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path)
    writer.close()
    writer.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        writer.write("log")


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
