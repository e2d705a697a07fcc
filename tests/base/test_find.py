"""The base model is found where the adapter says, in the cache, or not at all, with a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorabench.adapters.base_folder import find_base
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


def test_online_the_hub_is_asked_for_safetensors(
    tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked = {}

    def download(name: str, **options: object) -> str:
        asked[name] = options
        return str(write_base(tmp_path / "fetched", WEIGHTS))

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert find_base("org/other", revision="v1") == tmp_path / "fetched"
    assert asked["org/other"]["revision"] == "v1"
    assert "*.bin" not in asked["org/other"]["allow_patterns"]


def test_a_hub_that_does_not_answer_is_a_sentence(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def download(name: str, **_: object) -> str:
        raise OSError("no route to host\nmore")

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(AdapterError, match=r"org/other cannot be had: no route to host Give its folder"):
        find_base("org/other")


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
