"""What was computed is kept: for the next adapter, over a crash, and never of a file that has changed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from lorabench.adapters.base_model import open_base
from lorabench.adapters.open import open_adapter
from lorabench.spectra import base_analysis
from lorabench.spectra.base_analysis import BaseAnalysis
from lorabench.spectra.base_cache import BaseCache, cache_folder
from tests.base.conftest import Compare
from tests.base.made import weight, write_adapter, write_base

MODULES = {f"layers.{n}.q_proj": (40, 32) for n in range(4)}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_base(tmp_path / "base", {f"{m}.weight": weight(40, 32, n) for n, m in enumerate(MODULES)})


@pytest.fixture
def adapter(tmp_path: Path, base: Path) -> Path:
    return write_adapter(tmp_path / "adapter", MODULES, base)


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the base tensors that were read."""
    read: list[str] = []
    whole = base_analysis.BaseWeight.read

    def note(self: base_analysis.BaseWeight) -> object:
        read.append(self.key)
        return whole(self)

    monkeypatch.setattr(base_analysis.BaseWeight, "read", note)
    return read


def opened(adapter: Path) -> BaseAnalysis:
    analysis = BaseAnalysis(loaded := open_adapter(adapter), open_base(loaded))
    analysis.look_up()
    return analysis


def test_the_same_adapter_again_is_answered_without_reading_the_base(
    adapter: Path, compare: Compare, readings: list[str]
) -> None:
    first = compare(adapter)
    assert len(readings) == 4
    again = opened(adapter)
    assert len(readings) == 4
    assert again.left() == 0
    for old, new in zip(first.comparisons, again.comparisons, strict=True):
        assert old.base is not None
        assert new.base is not None
        np.testing.assert_array_equal(new.base.singular_values, old.base.singular_values)
        assert new.base.alpha == old.base.alpha
        assert new.merged == old.merged
        assert new.share == old.share


def test_another_adapter_of_the_same_base_has_its_base_alphas_at_once(
    tmp_path: Path, base: Path, adapter: Path, compare: Compare, readings: list[str]
) -> None:
    compare(adapter)
    other = opened(write_adapter(tmp_path / "other", MODULES, base, rank=4))
    assert len(readings) == 4
    assert all(c.base is not None and 0 < c.share < 1 for c in other.comparisons)
    assert all(c.merged is None for c in other.comparisons)
    assert list(other.compute(merged=False)) == []
    assert list(other.compute()) == [0, 1, 2, 3]


def test_what_was_done_before_a_stop_is_kept(adapter: Path, readings: list[str]) -> None:
    running = opened(adapter).compute()
    next(running), next(running)
    running.close()
    again = opened(adapter)
    assert [c.merged is not None for c in again.comparisons] == [True, True, False, False]
    assert list(again.compute()) == [2, 3]
    assert len(readings) == 4


@pytest.mark.parametrize("change", ["time", "size", "header"])
def test_a_base_file_that_has_changed_is_read_again(
    adapter: Path, base: Path, compare: Compare, readings: list[str], change: str
) -> None:
    compare(adapter)
    file = base / "model.safetensors"
    status = file.stat()
    if change == "time":
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    elif change == "size":
        tensors = {f"{m}.weight": weight(40, 32, n) for n, m in enumerate(MODULES)}
        write_base(base, {**tensors, "more": np.ones(5)})
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    else:
        content = file.read_bytes()
        file.write_bytes(content.replace(b"layers.0", b"layers.9", 1))
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert all(c.base is None for c in opened(adapter).comparisons)
    assert readings == [f"layers.{n}.q_proj.weight" for n in range(4)]


def test_the_same_file_in_another_place_is_the_same(
    tmp_path: Path, adapter: Path, base: Path, compare: Compare, readings: list[str]
) -> None:
    compare(adapter)
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "model.safetensors").symlink_to(base / "model.safetensors")
    loaded = open_adapter(adapter)
    moved = BaseAnalysis(loaded, open_base(loaded, tmp_path / "snapshot"))
    moved.look_up()
    assert moved.left() == 0
    assert len(readings) == 4


@pytest.mark.parametrize("damage", ["empty", "cut", "noise"])
def test_a_damaged_entry_is_computed_anew(adapter: Path, cache: Path, compare: Compare, damage: str) -> None:
    first = compare(adapter)
    entries = [path for path in cache.rglob("*") if path.is_file()]
    assert len(entries) == 8
    for entry in entries:
        size = entry.stat().st_size
        entry.write_bytes(
            {"empty": b"", "cut": entry.read_bytes()[: size // 2], "noise": os.urandom(size)}[damage]
        )
    again = opened(adapter)
    assert all(c.base is None for c in again.comparisons)
    list(again.compute())
    assert [c.merged for c in again.comparisons] == [c.merged for c in first.comparisons]
    assert opened(adapter).left() == 0


def test_an_entry_of_another_version_is_not_seen(
    adapter: Path, compare: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare(adapter)
    monkeypatch.setattr("lorabench.spectra.base_cache.VERSION", "0")
    assert all(c.base is None for c in opened(adapter).comparisons)


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(
    adapter: Path, cache: Path, compare: Compare
) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder should be")
    analysis = compare(adapter)
    assert all(c.merged is not None for c in analysis.comparisons)
    assert analysis.cache.failure in (
        f"{analysis.cache.folder} cannot be written: {why}." for why in ("Not a directory", "File exists")
    )


def test_no_draft_is_left_behind(adapter: Path, cache: Path, compare: Compare) -> None:
    compare(adapter)
    assert {path.suffix for path in cache.rglob("*") if path.is_file()} == {".weight", ".merged"}


def test_two_that_keep_the_same_entry_write_drafts_of_their_own(tmp_path: Path) -> None:
    cache, drafts = BaseCache(tmp_path), []

    def write(draft: Path) -> None:
        drafts.append(draft)
        draft.write_text("outer")
        if len(drafts) == 1:
            cache._keep(tmp_path / "entry", write)

    cache._keep(tmp_path / "entry", write)
    assert cache.failure == ""
    assert len(set(drafts)) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["entry"]


def test_a_square_weight_that_is_read_the_other_way_round_is_another(
    tmp_path: Path, compare: Compare, readings: list[str]
) -> None:
    module = {"h.0.attn.c_proj": (32, 32)}
    base = write_base(tmp_path / "base", {"h.0.attn.c_proj.weight": weight(32, 32)})
    (turned,) = compare(write_adapter(tmp_path / "a", module, base, fan_in_fan_out=True)).comparisons
    (straight,) = compare(write_adapter(tmp_path / "b", module, base)).comparisons
    assert len(readings) == 2
    assert turned.share != pytest.approx(straight.share, rel=0.01)


def test_the_folder_is_the_users_cache_unless_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache" / "base"
    assert BaseCache().folder == tmp_path / "cache" / "base"
    monkeypatch.delenv("LORABENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder().parts[-2:] == ("lorabench", "base")
