"""The report of an adapter: its numbers, and that JSON, CSV and pandas carry them unchanged."""

import csv
import io
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import lorabench
from lorabench.errors import LorabenchError
from lorabench.spectra.columns import COLUMNS
from lorabench.spectra.report import dump_csv, dump_json, mean_of, summarize
from lorabench.text import visible
from tests.spectra.made import pair_with, random_pair, write_adapter

RANK = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four layers of rank 8: two that are alike but for the scale, one with B = 0, one with a NaN."""
    values = np.geomspace(4, 0.1, RANK)
    nan_a, nan_b = random_pair(24, 32, RANK)
    nan_b[3, 3] = np.nan
    dead_a, dead_b = random_pair(24, 32, RANK)
    pairs = {
        "0.self_attn.q_proj": pair_with(values, 24, 32),
        "1.self_attn.q_proj": pair_with(values * 3, 24, 32),
        "2.self_attn.q_proj": (dead_a, dead_b * 0),
        "3.self_attn.q_proj": (nan_a, nan_b),
    }
    return write_adapter(tmp_path_factory.mktemp("report"), pairs, lora_alpha=2 * RANK)


@pytest.fixture(scope="module")
def report(folder):
    return lorabench.analyze(folder)


def test_the_summary_counts_verdicts_and_gathers_norms(report):
    summary = report.summary
    assert summary.layers == 4
    assert summary.verdicts["dead"] == 1
    assert summary.verdicts["unreadable"] == 1
    assert sum(summary.verdicts.values()) == 4
    energy = 4 * np.sum(np.geomspace(4, 0.1, RANK) ** 2)
    assert summary.norm == pytest.approx(np.sqrt(energy * (1 + 9)))
    assert summary.norm_largest.module.endswith("1.self_attn.q_proj")
    assert summary.norm_largest.value == pytest.approx(np.sqrt(energy * 9))


def test_the_mean_alpha_is_that_of_the_layers_that_have_one(report):
    alphas = [s.alpha.fit.alpha for s in report.spectra if s.alpha]
    assert len(alphas) == report.summary.alpha.layers == 2
    assert report.summary.alpha.mean == pytest.approx(np.mean(alphas))
    assert report.summary.alpha_smallest.value == min(alphas)
    assert report.summary.alpha_largest.value == max(alphas)


def test_the_decided_mean_leaves_out_the_undecided(report):
    decided = [s for s in report.spectra if s.verdict.word in ("well-formed", "heavy-tailed", "random-like")]
    mean = report.summary.alpha_decided
    assert (mean.layers if mean else 0) == len(decided)


def test_a_mean_has_a_sample_deviation_from_two_values_on():
    assert mean_of([]) is None
    assert mean_of([3.0]).deviation is None
    two = mean_of([1.0, 3.0])
    assert (two.mean, two.layers) == (2.0, 2)
    assert two.deviation == pytest.approx(np.std([1, 3], ddof=1))


def test_a_summary_of_nothing_is_empty():
    summary = summarize([])
    assert (summary.layers, summary.verdicts, summary.norm) == (0, {}, 0)
    assert summary.alpha is summary.norm_largest is summary.alpha_smallest is None


def strict(text):
    def refuse(token):
        raise AssertionError(f"{token} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_json_is_strict_and_carries_every_column_and_the_spectrum(report):
    written = strict(report.to_json())
    assert list(written) == ["adapter", "summary", "layers"]
    assert written["adapter"]["ranks"] == [RANK]
    assert written["summary"]["verdicts"]["dead"] == 1
    for row, spectrum in zip(written["layers"], report.spectra, strict=True):
        assert set(row) == {column.name for column in COLUMNS} | {"singular_values"}
        assert row["singular_values"] == spectrum.singular_values.tolist()
        assert row["verdict"] == spectrum.verdict.word
    unreadable = written["layers"][3]
    assert unreadable["norm"] is unreadable["alpha"] is unreadable["rank90"] is None
    assert unreadable["findings"][0]["level"] == "error"


def test_json_and_csv_hold_no_character_that_a_terminal_obeys():
    text = "\x1b[2J\x9b\x7f\u202e é\n\U000e0001"
    written = dump_json({"name": text})
    assert written.replace("\n", "").isprintable()
    assert json.loads(written) == {"name": text}
    assert dump_csv(["name"], [[text]]) == f"name\n{visible(text)}\n"


def test_csv_gives_the_numbers_back_exactly(report):
    rows = list(csv.DictReader(io.StringIO(report.to_csv())))
    assert list(rows[0]) == [column.name for column in COLUMNS]
    for row, spectrum in zip(rows, report.spectra, strict=True):
        for column in COLUMNS:
            value = column.value(spectrum)
            read = type(value)(row[column.name]) if value is not None else row[column.name] or None
            assert read == value, column.name


def test_csv_of_no_layers_still_has_its_header(report):
    empty = lorabench.Report(report.adapter, ())
    assert empty.to_csv().splitlines() == [",".join(column.name for column in COLUMNS)]


def test_text_that_looks_like_csv_comes_back_whole(tmp_path):
    name = '0.a,"b"=c'
    folder = write_adapter(tmp_path, {name: random_pair(8, 8, 2)})
    (row,) = csv.DictReader(io.StringIO(lorabench.analyze(folder).to_csv()))
    assert row["module"].endswith('0.a,"b"=c')


REAL = {
    "gpt-neo-movies-r8": "gpt-neo-movies-r8",
    "gpt2-classification-r8": "gpt2-classification-r8",
    "roberta-portuguese-r8/checkpoint-8610": "roberta-portuguese-r8-8610",
}


@pytest.mark.parametrize("adapter", REAL)
def test_details_are_weightwatchers_table(adapter, shared_data):
    reference = pd.read_csv(shared_data / "weightwatcher" / REAL[adapter] / "analyze.csv")
    details = lorabench.analyze(shared_data / "adapters" / adapter).details()
    assert list(details) == list(reference)
    assert list(details.longname) == list(reference.longname)
    assert list(details.warning) == list(reference.warning.fillna(""))
    for column in ("alpha", "D", "xmin", "num_pl_spikes", "log_norm", "stable_rank", "entropy"):
        np.testing.assert_allclose(details[column], reference[column], rtol=1e-6, err_msg=column)


def test_details_without_peft_have_a_row_for_each_factor(shared_data):
    reference = pd.read_csv(shared_data / "weightwatcher" / "gpt-neo-movies-r8" / "describe_factors.csv")
    details = lorabench.analyze(shared_data / "adapters" / "gpt-neo-movies-r8").details(peft=False)
    assert list(details.longname) == list(reference.longname)


def test_details_are_weightwatchers_own_where_it_would_not_crash(folder):
    details = lorabench.analyze(folder).details()
    assert list(details.status) == ["success", "success", "failed", "failed"]


def test_without_pandas_details_say_what_to_install(report, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(LorabenchError, match="pip install pandas"):
        report.details()


def test_a_state_dict_is_analysed_as_its_file_is(folder, report):
    from safetensors.numpy import load_file

    state = load_file(folder / "adapter_model.safetensors")
    spectra = lorabench.analyze(state).spectra
    for in_memory, from_file in zip(spectra, report.spectra, strict=True):
        assert in_memory.layer.module == from_file.layer.module
        ratio = in_memory.singular_values * 2  # without a configuration the scaling is unknown: 1
        np.testing.assert_allclose(ratio, from_file.singular_values, rtol=1e-12)


def test_an_adapter_that_is_open_is_analysed_as_it_is(folder, report):
    adapter = lorabench.open_adapter(folder)
    assert lorabench.open_adapter(adapter) is adapter
    again = lorabench.analyze(adapter)
    assert again.adapter is adapter
    assert again.to_csv() == report.to_csv()
    with pytest.raises(TypeError, match="has its configuration already"):
        lorabench.open_adapter(adapter, config={"r": 1})


def test_importing_lorabench_imports_nothing_heavy():
    program = (
        "import sys, lorabench; print(sorted({'numpy', 'torch', 'typer', 'textual'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "[]"


def test_the_public_names_are_there():
    for name in lorabench.__all__:
        assert getattr(lorabench, name) is not None
        assert name in dir(lorabench)
    with pytest.raises(AttributeError, match="nothing_like_it"):
        lorabench.nothing_like_it  # noqa: B018


def test_a_peft_model_in_memory_is_analysed_as_its_saved_file_is(tmp_path):
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    base = torch.nn.ModuleDict({"q_proj": torch.nn.Linear(32, 24), "v_proj": torch.nn.Linear(32, 16)})
    model = get_peft_model(
        base, LoraConfig(r=8, lora_alpha=16, init_lora_weights=False, target_modules="all-linear")
    )
    model.save_pretrained(tmp_path)
    in_memory, from_file = lorabench.analyze(model), lorabench.analyze(tmp_path)
    assert len(in_memory.spectra) == 2
    assert in_memory.to_csv() == from_file.to_csv()
    names = ["name", "longname"]  # in memory a tensor's name says which adapter it is of: lora_A.default
    tables = [report.details().drop(columns=names) for report in (in_memory, from_file)]
    pd.testing.assert_frame_equal(*tables)
    by_name = {s.layer.module_type: s for s in in_memory.spectra}
    delta = model.base_model.model["q_proj"].get_delta_weight("default").detach().double().numpy()
    assert by_name["q_proj"].frobenius_norm == pytest.approx(np.linalg.norm(delta), rel=1e-6)


def test_details_have_the_layers_that_weightwatcher_leaves_out_for_their_size(shared_data):
    details = lorabench.analyze(shared_data / "adapters" / "sd-unet-r4-dead-layers").details()
    assert len(details) == 128
    assert set(details.num_evals) == {4}
