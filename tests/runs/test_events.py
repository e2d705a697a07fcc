"""Events as they are written, whatever happens to the writer."""

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
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lorabench.runs import events as events_module
from lorabench.runs.events import EVENTS_FILE, EventWriter, Follower, last_of_kind
from lorabench.runs.lock import read_owner, take_lock


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
            assert writing.poll() is None
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


@pytest.mark.parametrize("part", [60, 100, 101, 2**20])
def test_the_last_event_of_a_kind_is_found_from_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    monkeypatch.setattr(events_module, "MOST_BYTES", part)
    path = tmp_path / EVENTS_FILE
    path.touch()
    assert last_of_kind(path, "started") is None
    with EventWriter(tmp_path) as writer:
        writer.write("started", step=1)
        writer.write("warning", text="x" * 300)
        writer.write("started", step=2, text="y" * 500)
        writer.write("warning", text="z" * 90, said={"kind": "started"})
    lines = path.read_bytes().splitlines(keepends=True)
    found = last_of_kind(path, "started")
    assert found is not None
    assert (found[0], found[1]["step"]) == (len(lines[0]) + len(lines[1]), 2)
    assert last_of_kind(path, "finished") is None
