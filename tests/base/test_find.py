"""The base model is found where the adapter says, in the cache, or not at all, with a sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lorabench.adapters.base_fetch import fetch_base
from lorabench.adapters.base_folder import BaseOnHub, find_base
from lorabench.adapters.base_model import open_base
from lorabench.adapters.open import open_adapter
from lorabench.errors import AdapterError
from tests.base.made import weight, write_adapter, write_base

WEIGHTS = {"q_proj.weight": weight(8, 8)}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hugging Face cache with two snapshots of org/model."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = tmp_path / "hub" / "models--org--model"
    for commit in ("aaa", "bbb"):
        write_base(model / "snapshots" / commit, WEIGHTS)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("aaa")
    (model / "refs" / "v2").write_text("bbb")
    return model / "snapshots"


def test_a_folder_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = write_base(tmp_path / "base", WEIGHTS)
    assert find_base(str(base)) == base
    monkeypatch.chdir(tmp_path)
    assert find_base("base") == Path("base")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_base("~/base") == base


def test_a_folder_as_it_was_named_where_the_adapter_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write_base(tmp_path / "work" / "models" / "base", WEIGHTS)
    adapter = tmp_path / "work" / "outputs" / "run" / "checkpoint-5"
    adapter.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert find_base("models/base", adapter) == base


def test_the_cache_has_the_revision_that_was_asked_for(hub: Path) -> None:
    assert find_base("org/model") == hub / "aaa"
    assert find_base("org/model", revision="v2") == hub / "bbb"
    assert find_base("org/model", revision="bbb") == hub / "bbb"
    with pytest.raises(AdapterError, match="HF_HUB_OFFLINE is set"):
        find_base("org/model", revision="ccc")


def test_a_snapshot_without_weights_is_passed_over(hub: Path) -> None:
    (hub / "aaa" / "model.safetensors").unlink()
    assert find_base("org/model") == hub / "bbb"


@pytest.mark.parametrize("variable", ["HF_HOME", "XDG_CACHE_HOME"])
def test_the_cache_is_where_the_environment_says(
    tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.delenv("HF_HOME", raising=False)
    below = "home" if variable == "HF_HOME" else "home/huggingface"
    (tmp_path / below).mkdir(parents=True)
    (tmp_path / "hub").rename(tmp_path / below / "hub")
    monkeypatch.setenv(variable, str(tmp_path / "home"))
    assert find_base("org/model") == tmp_path / below / "hub/models--org--model/snapshots/aaa"


def test_finding_alone_fetches_nothing(hub: Path, online: list[list[str]]) -> None:
    with pytest.raises(BaseOnHub, match=r"org/other is not on this machine\. `lorabench base` fetches"):
        find_base("org/other")
    assert online == []


@pytest.fixture
def online(tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The patterns of what the hub was asked for; it has org/other in three shards, org/small in one file."""
    import huggingface_hub

    asked: list[list[str]] = []
    weights = {f"layers.{n}.q_proj.weight": weight(8, 8, n) for n in range(3)}
    there = {
        "org/other": write_base(tmp_path / "there", weights, shards=3),
        "org/small": write_base(tmp_path / "small", weights),
    }

    def download(name: str, *, revision: str, allow_patterns: list[str], **_: object) -> str:
        asked.append(allow_patterns)
        if name not in there:
            raise OSError("no route to host\nmore")
        place = hub.parent.parent / f"models--{name.replace('/', '--')}" / "snapshots" / "commit"
        place.mkdir(parents=True, exist_ok=True)
        for file in there[name].iterdir():
            if any(file.match(pattern) for pattern in allow_patterns):
                shutil.copy(file, place)
        return str(place)

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return asked


def test_only_the_shards_that_the_adapter_updates_are_fetched_and_it_is_said(
    tmp_path: Path, online: list[list[str]]
) -> None:
    adapter = open_adapter(write_adapter(tmp_path / "a", {"layers.1.q_proj": (8, 8)}, "org/other"))
    said: list[str] = []
    base = fetch_base(adapter, None, said.append)
    shard = "model-00002-of-00003.safetensors"
    assert online == [["*.safetensors.index.json", "config.json"], [shard]]
    assert said[1] == f"fetching from the hub org/other: {shard}"
    assert base.values("layers.1.q_proj.weight") == pytest.approx(weight(8, 8, 1))
    wider = {f"layers.{n}.q_proj": (8, 8) for n in range(2)}
    fetch_base(open_adapter(write_adapter(tmp_path / "b", wider, "org/other")), None, said.append)
    assert online[2:] == [["model-00001-of-00003.safetensors"]]
    assert len(said) == 3


def test_a_model_of_one_file_is_fetched_whole(tmp_path: Path, online: list[list[str]]) -> None:
    adapter = open_adapter(write_adapter(tmp_path / "a", {"layers.1.q_proj": (8, 8)}, "org/small"))
    base = fetch_base(adapter, None, lambda _: None)
    assert online[1:] == [["*.safetensors"]]
    assert base.values("layers.1.q_proj.weight") == pytest.approx(weight(8, 8, 1))


def test_a_hub_that_does_not_answer_is_a_sentence(tmp_path: Path, online: list[list[str]]) -> None:
    adapter = open_adapter(write_adapter(tmp_path / "a", {"q_proj": (8, 8)}, "org/nowhere"))
    with pytest.raises(AdapterError, match=r"org/nowhere cannot be had: no route to host Name its folder"):
        fetch_base(adapter, None, lambda _: None)


def test_what_is_not_there_says_where_it_was_looked_for(hub: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"org/nothing is no folder and not in the cache; HF_HUB_OFFLINE"):
        find_base("org/nothing")
    with pytest.raises(AdapterError, match=r"The base model /no/such/folder is not there"):
        find_base("/no/such/folder")
    with pytest.raises(AdapterError, match="holds no weights"):
        find_base(str(tmp_path))


def test_an_adapter_that_names_no_base_says_how_to_name_it(tmp_path: Path) -> None:
    adapter = open_adapter(write_adapter(tmp_path / "a", {"q_proj": (8, 8)}, ""))
    with pytest.raises(AdapterError, match="does not name its base model"):
        open_base(adapter)
    base = write_base(tmp_path / "base", WEIGHTS)
    assert open_base(adapter, base).folder == base
