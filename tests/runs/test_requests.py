"""What a watcher asks of the trainer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lorabench.errors import LorabenchError
from lorabench.runs.lock import take_lock
from lorabench.runs.requests import (
    clear_requests,
    request_checkpoint,
    request_stop,
    stop_requested,
    take_checkpoint_request,
)


def test_a_stop_is_asked_for_until_it_is_withdrawn(tmp_path: Path) -> None:
    assert not stop_requested(tmp_path)
    request_stop(tmp_path)
    request_stop(tmp_path)
    assert stop_requested(tmp_path)
    assert stop_requested(tmp_path)
    clear_requests(tmp_path)
    assert not stop_requested(tmp_path)
    clear_requests(tmp_path)


def test_a_checkpoint_is_asked_for_once(tmp_path: Path) -> None:
    assert not take_checkpoint_request(tmp_path)
    request_checkpoint(tmp_path)
    assert take_checkpoint_request(tmp_path)
    assert not take_checkpoint_request(tmp_path)
    request_checkpoint(tmp_path)
    clear_requests(tmp_path)
    assert not take_checkpoint_request(tmp_path)


def test_the_file_may_be_made_by_any_other_means(tmp_path: Path) -> None:
    (tmp_path / "stop").write_text("please")
    assert stop_requested(tmp_path)


def test_a_request_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(LorabenchError, match="stop cannot be made: No such file or directory"):
        request_stop(tmp_path / "gone")


def test_what_was_asked_since_a_moment_stays(tmp_path: Path) -> None:
    for name, moment in (("save", 99.5), ("stop", 100.5)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (moment, moment))
    clear_requests(tmp_path, before=100.0)
    assert stop_requested(tmp_path)
    assert not take_checkpoint_request(tmp_path)
    clear_requests(tmp_path, before=100.5)
    assert stop_requested(tmp_path)


def test_what_is_asked_while_the_lock_is_held_is_no_earlier_than_the_lock(tmp_path: Path) -> None:
    with take_lock(tmp_path) as lock:
        request_stop(tmp_path)
        clear_requests(tmp_path, before=lock.since)
        assert stop_requested(tmp_path)
