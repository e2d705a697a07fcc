"""Base models in one file, in shards, in pickles, damaged, and quantised."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lorabench.adapters.base_model import BaseModel
from lorabench.errors import AdapterError
from lorabench.spectra.base_analysis import problems
from tests.base.conftest import Compare
from tests.base.made import weight, write_adapter, write_base

MODULES = {f"model.layers.{layer}.{name}": (40, 32) for layer in range(3) for name in ("q_proj", "v_proj")}
WEIGHTS = {f"{module}.weight": weight(40, 32, seed) for seed, module in enumerate(MODULES)}


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter on six modules."""
    return write_adapter(tmp_path / "adapter", MODULES, tmp_path / "base")


def alphas(analysis) -> list[float]:
    return [c.base.alpha.fit.alpha for c in analysis.comparisons]


def test_shards_and_one_file_give_the_same(tmp_path: Path, adapter: Path, compare: Compare) -> None:
    one = alphas(compare(adapter, write_base(tmp_path / "one", WEIGHTS)))
    assert alphas(compare(adapter, write_base(tmp_path / "three", WEIGHTS, shards=3))) == one


def test_a_missing_shard_takes_only_its_own_layers(tmp_path: Path, adapter: Path, compare: Compare) -> None:
    base = write_base(tmp_path / "base", WEIGHTS, shards=3)
    (base / "model-00002-of-00003.safetensors").unlink()
    found = problems(compare(adapter).comparisons)
    assert [name for name, _ in found] == ["model.layers.0.v_proj", "model.layers.2.q_proj"]
    assert found[0][1] == "The shard model-00002-of-00003.safetensors is missing. Download it again."


def test_a_truncated_shard_takes_only_its_own_layers(tmp_path: Path, adapter: Path, compare: Compare) -> None:
    base = write_base(tmp_path / "base", WEIGHTS, shards=3)
    shard = base / "model-00001-of-00003.safetensors"
    os.truncate(shard, shard.stat().st_size - 100)
    found = problems(compare(adapter).comparisons)
    assert [name for name, _ in found] == ["model.layers.0.q_proj", "model.layers.1.v_proj"]
    assert "is not a readable safetensors file" in found[0][1]


def test_a_tensor_that_only_the_index_knows_is_named(tmp_path: Path, adapter: Path, compare: Compare) -> None:
    base = write_base(tmp_path / "base", WEIGHTS, shards=3)
    save_file({"other": np.ones(3)}, base / "model-00003-of-00003.safetensors")
    found = dict(problems(compare(adapter).comparisons))
    assert found["model.layers.1.q_proj"] == (
        "model-00003-of-00003.safetensors does not hold model.layers.1.q_proj.weight, as its index says."
    )


def test_an_index_that_leads_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", WEIGHTS, shards=3)
    index = base / "model.safetensors.index.json"
    index.write_text(index.read_text().replace("model-00001", "../model-00001"))
    with pytest.raises(AdapterError, match="which is not in its folder"):
        BaseModel(base)


def test_weights_that_hold_a_nan_are_named(tmp_path: Path, adapter: Path, compare: Compare) -> None:
    broken = weight(40, 32)
    broken[3, 5] = np.nan
    write_base(tmp_path / "base", {**WEIGHTS, "model.layers.1.q_proj.weight": broken})
    found = problems(compare(adapter).comparisons)
    assert found == [
        ("model.layers.1.q_proj", "model.layers.1.q_proj.weight holds a NaN or an infinity."),
    ]


@pytest.mark.parametrize("shards", [1, 2])
def test_pickles_are_converted_one_at_a_time(
    tmp_path: Path, adapter: Path, compare: Compare, shards: int
) -> None:
    import json

    import torch

    expected = alphas(compare(adapter, write_base(tmp_path / "safe", WEIGHTS)))
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    names = sorted(WEIGHTS)
    files = {name: f"pytorch_model-{1 + at % 2:05d}-of-00002.bin" for at, name in enumerate(names)}
    if shards == 1:
        files = dict.fromkeys(names, "pytorch_model.bin")
    else:
        (base / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": files}))
    for file in set(files.values()):
        torch.save({n: torch.from_numpy(WEIGHTS[n]) for n in names if files[n] == file}, base / file)
    assert alphas(compare(adapter)) == expected


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, adapter: Path, compare: Compare) -> None:
    import pickle

    class Attack:
        def __reduce__(self):
            return os.system, ("touch /tmp/never",)

    base = tmp_path / "base"
    base.mkdir()
    (base / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Attack()}))
    with pytest.raises(AdapterError, match="would run code"):
        compare(adapter)


def test_int8_by_bitsandbytes_is_multiplied_by_its_scales(
    tmp_path: Path, adapter: Path, compare: Compare
) -> None:
    w = WEIGHTS["model.layers.0.q_proj.weight"]
    scale = np.abs(w).max(axis=1)
    stored = {
        "model.layers.0.q_proj.weight": np.round(w / scale[:, None] * 127).astype(np.int8),
        "model.layers.0.q_proj.SCB": scale,
    }
    write_base(tmp_path / "base", {**WEIGHTS, **stored})
    (first, *_) = compare(adapter).comparisons
    assert first.weight is not None
    np.testing.assert_allclose(first.weight.read(), w, atol=float(scale.max()) / 250)


@pytest.mark.parametrize("block", [(40, 32), (1, 32), (16, 16)], ids=["whole", "row", "block"])
def test_float8_is_multiplied_by_its_scales(tmp_path: Path, block: tuple[int, int]) -> None:
    import torch
    from safetensors.torch import save_file as save_torch

    w = torch.from_numpy(WEIGHTS["model.layers.0.q_proj.weight"])
    rows, columns = block
    counts = (-(-40 // rows), -(-32 // columns))
    scale = torch.rand(counts) + 0.5
    spread = scale.repeat_interleave(rows, 0)[:40].repeat_interleave(columns, 1)[:, :32]
    stored = (w / spread).to(torch.float8_e4m3fn)
    base = tmp_path / "base"
    base.mkdir()
    name = "model.layers.0.q_proj.weight"
    save_torch({name: stored, f"{name}_scale_inv": scale}, base / "model.safetensors")
    np.testing.assert_allclose(
        BaseModel(base).values(name), stored.float().numpy() * spread.numpy(), rtol=1e-6
    )


@pytest.mark.parametrize(("rows", "counts"), [(960, 8), (448, 4), (192, 2)])
@pytest.mark.parametrize("told", [{}, {"quantization_config": {"weight_block_size": [128, 128]}}], ids=str)
def test_float8_blocks_are_of_128_though_their_number_divides_the_side(
    tmp_path: Path, rows: int, counts: int, told: dict[str, object]
) -> None:
    stored, scale = float8(rows, 128), np.arange(1.0, counts + 1, dtype=np.float32)[:, None]
    base = write_float8(tmp_path / "base", stored, scale, **told)
    expected = stored.float().numpy() * np.repeat(scale, 128, axis=0)[:rows]
    np.testing.assert_array_equal(BaseModel(base).values(NAME), expected)


def test_the_block_size_that_config_json_tells_is_taken(tmp_path: Path) -> None:
    stored, scale = float8(90, 60), np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    told = {"quantization_config": {"weight_block_size": [30, 40]}}
    expected = stored.float().numpy() * np.repeat(np.repeat(scale, 30, 0), 40, 1)[:, :60]
    base = write_float8(tmp_path / "base", stored, scale, **told)
    np.testing.assert_array_equal(BaseModel(base).values(NAME), expected)
    told = {"quantization_config": {"weight_block_size": [50, 40]}}
    base = write_float8(tmp_path / "other", stored, scale, **told)
    with pytest.raises(AdapterError, match="does not fit"):
        BaseModel(base).values(NAME)


def test_float8_experts_of_three_axes_are_multiplied_by_their_scales(tmp_path: Path) -> None:
    stored = float8(3 * 192, 128).reshape(3, 192, 128)
    scale = np.arange(1.0, 7, dtype=np.float32).reshape(3, 2, 1)
    expected = stored.float().numpy() * np.repeat(scale, 128, axis=1)[:, :192]
    base = BaseModel(write_float8(tmp_path / "base", stored, scale))
    np.testing.assert_array_equal(base.values(NAME), expected)
    np.testing.assert_array_equal(base.values(NAME, slice(1, 2)), expected[1:2])


NAME = "model.layers.0.q_proj.weight"


def float8(rows: int, columns: int):
    import torch

    values = np.random.default_rng(rows).standard_normal((rows, columns))
    return torch.from_numpy(values).to(torch.float8_e4m3fn)


def write_float8(folder: Path, stored, scale: np.ndarray, **config: object) -> Path:
    """Write a base model of one float8 weight with its scales."""
    import torch
    from safetensors.torch import save_file as save_torch

    write_base(folder, {}, **config)
    save_torch({NAME: stored, f"{NAME}_scale_inv": torch.from_numpy(scale)}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("ending", "dtype", "said"),
    [
        ("qweight", np.int32, r"quantised in four or fewer bits \(GPTQ or AWQ\)"),
        ("weight.absmax", np.uint8, r"quantised in four bits \(bitsandbytes\)"),
        ("weight_packed", np.int32, r"quantised packed"),
        ("weight", np.int8, "is stored as I8, quantised"),
    ],
)
def test_other_quantised_weights_are_a_sentence(
    tmp_path: Path, adapter: Path, compare: Compare, ending: str, dtype: type, said: str
) -> None:
    rest = {name: w for name, w in WEIGHTS.items() if "layers.0.q_proj" not in name}
    if ending == "weight.absmax":
        rest["model.layers.0.q_proj.weight"] = np.ones((640, 1), np.uint8)
    write_base(tmp_path / "base", {**rest, f"model.layers.0.q_proj.{ending}": np.ones((5, 32), dtype)})
    ((name, why),) = problems(compare(adapter).comparisons)
    assert name == "model.layers.0.q_proj"
    import re

    assert re.search(said, why)
    assert "--base" in why
