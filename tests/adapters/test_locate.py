"""Where adapters are: in a folder, below it, under odd names, in shards; and what is not one."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lorabench.adapters.locate import find_adapters, locate
from lorabench.adapters.open import open_adapter
from lorabench.errors import Malformed, NotFound

CONFIG = {
    "peft_type": "LORA",
    "r": 2,
    "lora_alpha": 6,
    "target_modules": ["q_proj"],
    "base_model_name_or_path": "some/base",
}


def pair(module: str = "layers.0.q_proj") -> dict[str, np.ndarray]:
    return {
        f"base_model.model.{module}.lora_A.weight": np.ones((2, 4), np.float32),
        f"base_model.model.{module}.lora_B.weight": np.ones((4, 2), np.float32),
    }


def make(folder: Path, name: str = "adapter_model.safetensors", config: object = CONFIG) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(pair(), folder / name)
    if config is not None:
        (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    "name", ["run[1]", "a b", "наш адаптер", "-r", "*", "$HOME", "a\nb", "%s", "checkpoint-5", "[bold]"]
)
def test_odd_names_are_names(name: str, tmp_path: Path) -> None:
    folder = make(tmp_path / name)
    for path in (folder, folder / "adapter_model.safetensors", folder / "adapter_config.json"):
        adapter = open_adapter(path)
        assert adapter.layers[0].scaling == 3.0
        assert adapter.files == (folder / "adapter_model.safetensors",)
    assert open_adapter(str(folder)).name == name
    assert [found.path for found in find_adapters(tmp_path)] == [folder]


def test_the_current_folder_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make(tmp_path / "mine"))
    assert open_adapter(".").name == "mine"
    assert open_adapter("adapter_model.safetensors").name == "adapter_model.safetensors"
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(NotFound, match="No LoRA weights in empty nor below it"):
        open_adapter(".")


@pytest.mark.parametrize("below", ["final_lora", "checkpoint-500", "a/b/c"])
def test_a_folder_with_one_adapter_below_it_opens_that_one(below: str, tmp_path: Path) -> None:
    make(tmp_path / below)
    assert open_adapter(tmp_path).path == tmp_path / below


def test_a_folder_with_several_below_names_them(tmp_path: Path) -> None:
    for name in ("checkpoint-1000", "checkpoint-500"):
        make(tmp_path / name)
    with pytest.raises(NotFound) as caught:
        open_adapter(tmp_path)
    assert "holds 2 adapters: checkpoint-500, checkpoint-1000." in caught.value.message
    assert caught.value.hint == "Open one of them."


def test_the_adapter_at_the_root_comes_before_those_below(tmp_path: Path) -> None:
    make(tmp_path)
    make(tmp_path / "checkpoint-500")
    assert open_adapter(tmp_path).path == tmp_path
    assert [found.path for found in find_adapters(tmp_path)] == [tmp_path, tmp_path / "checkpoint-500"]


def test_a_base_model_beside_the_adapter_is_never_taken_for_it(tmp_path: Path) -> None:
    make(tmp_path)
    save_file({"embed.weight": np.ones((3, 3), np.float32)}, tmp_path / "model.safetensors")
    (location,) = find_adapters(tmp_path)
    assert location.files == (tmp_path / "adapter_model.safetensors",)
    with pytest.raises(NotFound, match="looks like a whole model"):
        open_adapter(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    "name", ["adapters.safetensors", "pytorch_lora_weights.safetensors", "my lora.safetensors"]
)
def test_other_names_that_hold_lora(name: str, tmp_path: Path) -> None:
    make(tmp_path, name)
    assert open_adapter(tmp_path).files == (tmp_path / name,)


def test_several_files_of_their_own_names_are_each_an_adapter(tmp_path: Path) -> None:
    for name in ("lora_10.safetensors", "lora_9.safetensors"):
        make(tmp_path, name, config=None)
    save_file({"x": np.ones(3, np.float32)}, tmp_path / "optimizer_state.safetensors")
    assert [found.name for found in find_adapters(tmp_path)] == ["lora_9.safetensors", "lora_10.safetensors"]
    with pytest.raises(NotFound, match=r"holds 2 adapters: lora_9.safetensors, lora_10.safetensors\."):
        open_adapter(tmp_path)


def sharded(folder: Path) -> Path:
    folder.mkdir()
    names = [f"adapter_model-0000{part}-of-00002.safetensors" for part in (1, 2)]
    index = {}
    for name, module in zip(names, ("layers.0.q_proj", "layers.1.q_proj"), strict=True):
        save_file(pair(module), folder / name)
        index |= dict.fromkeys(pair(module), name)
    (folder / "adapter_model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return folder


def test_shards_are_read_as_one(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "big")
    for path in (folder, folder / "adapter_model.safetensors.index.json"):
        assert [layer.name for layer in open_adapter(path).layers] == ["layers.0.q_proj", "layers.1.q_proj"]
    (folder / "adapter_model.safetensors.index.json").unlink()
    assert len(open_adapter(folder).layers) == 2
    assert len(open_adapter(folder / "adapter_model-00002-of-00002.safetensors").files) == 2


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "big")
    (folder / "adapter_model-00002-of-00002.safetensors").unlink()
    with pytest.raises(NotFound, match=r"The shard adapter_model-00002-of-00002\.safetensors is missing"):
        open_adapter(folder)
    (location,) = find_adapters(tmp_path)
    assert "is missing" in location.findings[0].message
    assert location.files == ()


@pytest.mark.parametrize("index", ["{", "[]", "{}", '{"weight_map": {"a": "../../etc/passwd"}}', "[" * 10**5])
def test_an_index_that_is_nonsense_is_a_sentence(index: str, tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors.index.json").write_text(index)
    with pytest.raises(Malformed):
        open_adapter(tmp_path / "adapter_model.safetensors.index.json")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="There is nothing at"):
        open_adapter(tmp_path / "none")
    with pytest.raises(NotFound, match="No LoRA weights in"):
        open_adapter(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(NotFound, match=r"notes.txt is no file of weights"):
        open_adapter(tmp_path / "notes.txt")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(NotFound, match=r"adapter_config\.json lies here without weights"):
        open_adapter(tmp_path)


def test_a_listing_peeks_at_the_configuration(tmp_path: Path) -> None:
    make(tmp_path / "one")
    (location,) = find_adapters(tmp_path)
    assert (location.name, location.format, location.peft_type) == ("one", "PEFT", "LORA")
    assert (location.rank, location.lora_alpha, location.base_model) == (2, 6.0, "some/base")
    assert location.target_modules == ("q_proj",)


@pytest.mark.parametrize(
    "config",
    [
        [],
        3,
        {"r": "x", "target_modules": 5, "peft_type": []},
        {"r": float("nan")},
        {"target_modules": {"a": 1}},
    ],
)
def test_a_listing_survives_any_configuration(config: object, tmp_path: Path) -> None:
    make(tmp_path, config=config)
    (location,) = find_adapters(tmp_path)
    assert location.rank is None
    assert location.files


def test_numbers_that_tell_no_scaling_are_found_without_opening(tmp_path: Path) -> None:
    make(tmp_path / "none", config=CONFIG | {"r": 0})
    make(tmp_path / "sound")
    none, sound = find_adapters(tmp_path)
    assert [finding.message for finding in none.findings] == [
        "r is 0, which is no use. The scaling is unknown and counts as 1."
    ]
    assert sound.findings == ()
    opened = [finding.message for finding in open_adapter(tmp_path / "none").findings]
    assert opened.count(none.findings[0].message) == 1


def test_links_that_go_round_end(tmp_path: Path) -> None:
    make(tmp_path / "a")
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a" / "self").symlink_to("self")
    (location,) = find_adapters(tmp_path)
    assert location.files == (tmp_path / "a" / "adapter_model.safetensors",)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_said(tmp_path: Path) -> None:
    make(tmp_path / "a")
    (tmp_path / "locked").mkdir(mode=0)
    broken = [found for found in find_adapters(tmp_path) if not found.files]
    assert [found.path.name for found in broken] == ["locked"]


def test_a_folder_that_cannot_be_listed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "a")
    (tmp_path / "locked").mkdir()
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = {location.name: location for location in find_adapters(tmp_path)}
    assert found["locked"].findings[0].message == "It cannot be read: Permission denied."
    assert found["a"].files
    with pytest.raises(NotFound, match="locked cannot be read: Permission denied"):
        locate(tmp_path / "locked")


def test_work_is_bounded(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"empty-{number}").mkdir()
    make(tmp_path / "empty-7")
    start = time.perf_counter()
    assert [found.name for found in find_adapters(tmp_path)] == ["empty-7"]
    assert time.perf_counter() - start < 1.0
    few = find_adapters(tmp_path, max_folders=10)
    assert "first 10 folders" in next(found for found in few if found.path == tmp_path).findings[0].message
    make(tmp_path / "a/b/c/d/e/f/g/h")
    assert len(find_adapters(tmp_path)) == 1


def test_hidden_folders_are_left_out(tmp_path: Path) -> None:
    make(tmp_path / ".cache" / "x")
    assert find_adapters(tmp_path) == []


def test_real_adapters_are_all_listed(shared_data: Path, tmp_path: Path) -> None:
    found = find_adapters(shared_data / "adapters")
    assert len(found) == 19
    assert all(location.files for location in found)
    assert [finding.message for location in found for finding in location.findings] == [
        "pytorch_lora_weights.bin lies beside these weights and was not read."
    ]
    formats = {
        location.path.relative_to(shared_data / "adapters").parts[0]: location.format for location in found
    }
    assert formats["mlx-qwen-r8"] == "MLX"
    assert formats["cloneofsimo-disney-r1"] == "cloneofsimo"
    assert formats["sd-processor-keys-r4"] == "diffusers"
    assert formats["bloom-legacy-bin"] == "PEFT"
    shutil.copytree(shared_data / "models", tmp_path / "models")
    assert find_adapters(tmp_path) == []
