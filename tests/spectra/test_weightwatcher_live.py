"""Our parity tables against WeightWatcher itself, run now: pip install 'lorabench[parity]'."""

from __future__ import annotations

import csv
import io
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorabench.adapters.open import open_adapter
from lorabench.spectra.weightwatcher import analyze_rows, describe_rows
from tests.spectra.made import PREFIX, pair_with, power_law_values, random_pair, write_adapter
from tests.spectra.weightwatcher_tables import assert_same_table

pytestmark = pytest.mark.parity

SHARED = ["gpt-neo-movies-r8", "gpt2-classification-r8", "roberta-portuguese-r8/checkpoint-500"]


@pytest.fixture(scope="module")
def weightwatcher() -> Any:
    module = pytest.importorskip("weightwatcher")
    logging.getLogger(module.__name__).setLevel(logging.CRITICAL)
    return module


def their_table(weightwatcher: Any, method: str, folder: Path, peft: bool) -> list[dict[str, str]]:
    table = getattr(weightwatcher.WeightWatcher(), method)(model=str(folder), peft=peft)
    return list(csv.DictReader(io.StringIO(table.to_csv(index=False, float_format="%.17g"))))


def assert_parity(weightwatcher: Any, folder: Path) -> None:
    adapter = open_adapter(folder)
    for peft in (True, False):
        theirs = their_table(weightwatcher, "describe", folder, peft)
        assert_same_table(describe_rows(adapter, peft=peft), theirs)
        theirs = their_table(weightwatcher, "analyze", folder, peft)
        assert_same_table(analyze_rows(adapter, peft=peft), theirs, rounding=True)


@pytest.mark.parametrize("name", SHARED)
def test_adapters_by_others_have_weightwatchers_numbers(weightwatcher, shared_data, tmp_path, name):
    folder = shutil.copytree(shared_data / "adapters" / name, tmp_path / "adapter")
    assert_parity(weightwatcher, folder)


@pytest.mark.parametrize("rank", [8, 12, 19, 20, 33, 64])
def test_fresh_adapters_have_weightwatchers_numbers(weightwatcher, tmp_path, rank):
    """Power laws, decaying and untrained spectra; three scales move the absolute cut through them."""
    pairs = {}
    for depth, scale in enumerate((1.0, 1e-1, 1e-2)):
        a, b = random_pair(256, 192, rank, seed=depth, decay=1e-2)
        pairs[f"{depth}.self_attn.q_proj"] = (a, b * np.float32(scale))
        a, b = random_pair(192, 192, rank, seed=10 + depth)
        pairs[f"{depth}.self_attn.o_proj"] = (a, b * np.float32(scale))
        values = power_law_values(2.0 + depth, rank, seed=depth) * scale
        a, b = pair_with(values, 96, 320, seed=depth)
        pairs[f"{depth}.mlp.down_proj"] = (a.astype(np.float32), b.astype(np.float32))
    assert_parity(weightwatcher, write_adapter(tmp_path / "adapter", pairs))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_float_types_have_weightwatchers_numbers(weightwatcher, tmp_path, dtype):
    a, b = random_pair(128, 96, 16)
    pairs = {"0.self_attn.q_proj": (a.astype(dtype), b.astype(dtype))}
    assert_parity(weightwatcher, write_adapter(tmp_path / "adapter", pairs))


def test_layers_that_are_too_small_are_left_out_and_numbered_all_the_same(weightwatcher, tmp_path):
    pairs = {
        "0.self_attn.q_proj": random_pair(64, 48, 4),
        "1.self_attn.q_proj": random_pair(64, 48, 8),
        "10.self_attn.q_proj": random_pair(64, 48, 8, seed=1),
        "2.self_attn.q_proj": random_pair(64, 48, 8, seed=2),
    }
    folder = write_adapter(tmp_path / "adapter", pairs)
    assert_parity(weightwatcher, folder)
    assert [row["layer_id"] for row in describe_rows(open_adapter(folder))] == [2, 4, 6]


def test_a_module_saved_whole_is_a_row_among_the_factors(weightwatcher, tmp_path):
    from safetensors.numpy import load_file, save_file

    folder = write_adapter(tmp_path / "adapter", {"0.self_attn.q_proj": random_pair(64, 48, 8)})
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors["base_model.model.score.weight"] = np.random.default_rng(0).standard_normal((24, 64)).astype("f4")
    tensors[f"{PREFIX}0.input_layernorm.weight"] = np.ones(64, np.float32)
    save_file(tensors, file)
    assert_parity(weightwatcher, folder)
    assert len(analyze_rows(open_adapter(folder), peft=False)) == 3
