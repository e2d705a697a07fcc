"""What a watcher asks of the trainer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lorabench.errors import LorabenchError
from lorabench.runs.requests import (
    clear_requests,
    request_checkpoint,
    request_stop,
    requests_in,
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


def test_what_was_there_before_is_told_from_what_was_asked_since_by_any_clock(tmp_path: Path) -> None:
    assert requests_in(tmp_path) == []
    request_checkpoint(tmp_path)
    request_stop(tmp_path)
    os.utime(tmp_path / "stop", (2**33, 2**33))
    known = requests_in(tmp_path)
    os.utime(tmp_path / "stop", (1, 1))  # asked again, by a clock that is behind
    clear_requests(tmp_path, only=known)
    assert stop_requested(tmp_path)
    assert not take_checkpoint_request(tmp_path)
    clear_requests(tmp_path, only=requests_in(tmp_path))
    assert not stop_requested(tmp_path)
