"""Our parity tables against tables that WeightWatcher 0.7.7 wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorabench.adapters.open import open_adapter
from lorabench.spectra.analysis import spectra_of
from lorabench.spectra.weightwatcher import analyze_rows, describe_rows, parity_row
from tests.spectra.weightwatcher_tables import assert_same_table, read_table

ADAPTERS = {
    "gpt-neo-movies-r8": "adapters/gpt-neo-movies-r8",
    "gpt2-classification-r8": "adapters/gpt2-classification-r8",
    "roberta-portuguese-r8-500": "adapters/roberta-portuguese-r8/checkpoint-500",
    "roberta-portuguese-r8-4500": "adapters/roberta-portuguese-r8/checkpoint-4500",
    "roberta-portuguese-r8-8610": "adapters/roberta-portuguese-r8/checkpoint-8610",
    "synthetic_1024_r16": "weightwatcher/synthetic_1024_r16",
    "synthetic_1024_r32_small": "weightwatcher/synthetic_1024_r32_small",
    "synthetic_gpt2_cattn_r8": "weightwatcher/synthetic_gpt2_cattn_r8",
    "synthetic_mlp_r128": "weightwatcher/synthetic_mlp_r128",
}
WITH_FACTORS = [name for name in ADAPTERS if not name.startswith("synthetic")]


def reference(shared_data: Path, name: str, table: str) -> list[dict[str, str]]:
    return read_table(shared_data / "weightwatcher" / name / f"{table}.csv")


@pytest.mark.parametrize("name", ADAPTERS)
def test_analyze_gives_weightwatchers_numbers(shared_data, name):
    adapter = open_adapter(shared_data / ADAPTERS[name])
    assert_same_table(analyze_rows(adapter), reference(shared_data, name, "analyze"))


@pytest.mark.parametrize("name", ADAPTERS)
def test_describe_gives_weightwatchers_rows(shared_data, name):
    adapter = open_adapter(shared_data / ADAPTERS[name])
    assert_same_table(describe_rows(adapter), reference(shared_data, name, "describe"))


@pytest.mark.parametrize("name", WITH_FACTORS)
def test_describe_lists_each_factor_and_saved_matrix(shared_data, name):
    adapter = open_adapter(shared_data / ADAPTERS[name])
    assert_same_table(describe_rows(adapter, peft=False), reference(shared_data, name, "describe_factors"))


def test_a_row_made_from_a_spectrum_is_the_row_of_the_table(shared_data):
    adapter = open_adapter(shared_data / ADAPTERS["roberta-portuguese-r8-8610"])
    rows = {row["name"]: row for row in analyze_rows(adapter)}
    for spectrum in spectra_of(adapter):
        name = f"{spectrum.layer.source_a.name.removesuffix('lora_A.weight')}lora_BA"
        row = parity_row(spectrum, int(rows[name]["layer_id"]))
        assert row == pytest.approx(rows[name], rel=1e-10)
