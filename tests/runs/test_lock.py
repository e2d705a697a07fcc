"""One trainer in a folder at a time, whoever is gone and whatever he left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lorabench.runs.lock import LOCK_FILE, RunLockedError, read_owner, take_lock

TAKE_AND_WAIT = (
    "import sys\nfrom pathlib import Path\nfrom lorabench.runs.lock import take_lock\n"
    "take_lock(Path(sys.argv[1]))\nprint('taken', flush=True)\nsys.stdin.read()\n"
)
# Each round takes the lock, holds a marker that only one can make, and releases the lock or leaves it stale.
TAKE_AGAIN_AND_AGAIN = """
import json, os, sys
from pathlib import Path
from lorabench.runs.lock import LOCK_FILE, RunLockedError, take_lock

folder = Path(sys.argv[1])
print(flush=True)
sys.stdin.readline()
taken = 0
while taken < 150:
    try:
        lock = take_lock(folder)
    except RunLockedError:
        continue
    marker = os.open(folder / "marker", os.O_CREAT | os.O_EXCL)
    os.close(marker)
    taken += 1
    (folder / "marker").unlink()
    if taken % 3:
        lock.release()
    else:
        told = json.loads((folder / LOCK_FILE).read_text())
        stale = folder / f"stale-{os.getpid()}"
        stale.write_text(json.dumps({**told, "started": 1}))
        stale.replace(folder / LOCK_FILE)
print(taken, flush=True)
"""


@contextmanager
def another_process(program: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a program and wait for its first line."""
    pipe = subprocess.PIPE
    arguments = [sys.executable, "-c", program, str(folder)]
    with subprocess.Popen(arguments, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def change_lock(folder: Path, **changes: Any) -> None:
    told = json.loads((folder / LOCK_FILE).read_text())
    (folder / LOCK_FILE).write_text(json.dumps({**told, **changes}))


def test_a_lock_says_who_holds_it_and_is_gone_after_its_release(tmp_path: Path) -> None:
    assert read_owner(tmp_path) is None
    with take_lock(tmp_path) as lock:
        owner = read_owner(tmp_path)
        assert owner is not None
        assert (owner.pid, owner.alive, lock.taken_over) == (os.getpid(), True, None)
        assert owner.since > 1_700_000_000
    assert read_owner(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    lock.release()


def test_a_second_taker_is_told_who_trains(tmp_path: Path) -> None:
    with take_lock(tmp_path), pytest.raises(RunLockedError, match=f"process {os.getpid()} on") as raised:
        take_lock(tmp_path)
    assert "Watch it" in raised.value.hint


def test_the_lock_of_a_living_process_holds_and_is_free_when_it_was_killed(tmp_path: Path) -> None:
    with another_process(TAKE_AND_WAIT, tmp_path) as other:
        with pytest.raises(RunLockedError):
            take_lock(tmp_path)
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # it is dead, and still in the process table
        owner = read_owner(tmp_path)
        assert owner is not None
        assert (owner.pid, owner.alive) == (other.pid, False)
        with take_lock(tmp_path) as lock:
            assert lock.taken_over == owner


@pytest.mark.parametrize(
    "changes",
    [{"pid": 2**22 + 7}, {"boot": "another"}, {"started": 1}],
    ids=["no such process", "other boot", "pid used again"],
)
def test_a_lock_left_behind_is_taken_over_and_said(tmp_path: Path, changes: dict[str, Any]) -> None:
    take_lock(tmp_path)
    change_lock(tmp_path, **changes)
    owner = read_owner(tmp_path)
    assert owner is not None
    assert owner.alive is False
    with take_lock(tmp_path) as lock:
        assert lock.taken_over == owner
        now = read_owner(tmp_path)
        assert now is not None
        assert (now.pid, now.alive) == (os.getpid(), True)


@pytest.mark.parametrize(
    "changes", [{"host": "node-17\x1b[2J"}, {"namespace": "pid:[1]"}], ids=["host", "container"]
)
def test_a_lock_of_elsewhere_is_left_alone_for_nobody_can_tell(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    take_lock(tmp_path)
    change_lock(tmp_path, **changes)
    owner = read_owner(tmp_path)
    assert owner is not None
    assert owner.alive is None
    with pytest.raises(RunLockedError, match="nobody can tell") as raised:
        take_lock(tmp_path)
    assert "\x1b" not in str(raised.value)
    assert f"remove {tmp_path / LOCK_FILE}" in raised.value.hint


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"pid": 1}', b"\xff", b'{"pid": "x"}'])
def test_a_damaged_lock_has_no_owner_and_is_taken(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LOCK_FILE).write_bytes(content)
    assert read_owner(tmp_path) is None
    with take_lock(tmp_path) as lock:
        assert lock.taken_over is None


def test_a_lock_that_somebody_else_took_meanwhile_is_not_removed(tmp_path: Path) -> None:
    lock = take_lock(tmp_path)
    change_lock(tmp_path, pid=1)
    lock.release()
    assert (tmp_path / LOCK_FILE).exists()


def test_a_lock_that_is_removed_while_one_waits_for_it_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = []

    def flock(fd: int, operation: int) -> None:
        if not removed:
            removed.append(fd)
            (tmp_path / LOCK_FILE).unlink()

    monkeypatch.setattr("fcntl.flock", flock)
    with take_lock(tmp_path):
        owner = read_owner(tmp_path)
        assert owner is not None
        assert owner.pid == os.getpid()


def test_of_processes_that_take_it_at_once_one_has_it_and_of_a_stale_one_too(tmp_path: Path) -> None:
    with (
        another_process(TAKE_AGAIN_AND_AGAIN, tmp_path) as one,
        another_process(TAKE_AGAIN_AND_AGAIN, tmp_path) as two,
        another_process(TAKE_AGAIN_AND_AGAIN, tmp_path) as three,
    ):
        for process in (one, two, three):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        # One that finds the marker of another ends without its count.
        assert [process.communicate()[0].strip() for process in (one, two, three)] == ["150"] * 3
