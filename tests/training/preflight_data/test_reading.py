"""Rows are found and read where TRL would find them, whatever they are stored in."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest

from lorabench.training.config.run_config import RunConfig
from lorabench.training.preflight import data_sources
from lorabench.training.preflight.data_rows import rows_of
from lorabench.training.preflight.data_scan import scan_rows
from lorabench.training.preflight.data_sources import DataError, evaluation_source, train_sources
from lorabench.training.preflight.json_rows import Broken, json_rows
from tests.training.preflight_data.conftest import write_jsonl

ROWS = [{"text": f"row {number}"} for number in range(10)]


def read(**fields: Any) -> list[Any]:
    return list(rows_of(train_sources(RunConfig.of(fields))))


def as_trl_reads(**fields: Any) -> list[dict[str, Any]]:
    """The rows that `trl sft` would train on."""
    from datasets import load_dataset
    from trl import DatasetMixtureConfig, get_dataset

    if "datasets" in fields:
        return get_dataset(DatasetMixtureConfig(**fields))["train"].to_list()
    return load_dataset(fields["dataset_name"])["train"].to_list()


def write(folder: Path, form: str) -> None:
    """Write ROWS in one of the forms that `datasets` reads from a folder."""
    import pandas as pd
    from datasets import Dataset, DatasetDict

    folder.mkdir()
    table = pd.DataFrame(ROWS)
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    if form == "jsonl":
        (folder / "train.jsonl").write_text(lines)
    elif form == "jsonl-bom-blank":
        (folder / "train.jsonl").write_text("\ufeff" + lines.replace("\n", "\n\n"), encoding="utf-8")
    elif form == "jsonl-gz":
        (folder / "train.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    elif form == "json":
        (folder / "train.json").write_text(json.dumps(ROWS, indent=1))
    elif form == "two-files":
        write_jsonl(folder, ROWS[:4], "train-0.jsonl")
        write_jsonl(folder, ROWS[4:], "train-1.jsonl")
    elif form == "csv":
        table.to_csv(folder / "train.csv", index=False)
    elif form == "parquet":
        table.to_parquet(folder / "train.parquet")
    else:
        DatasetDict({"train": Dataset.from_list(ROWS)}).save_to_disk(folder)


FORMS = ["jsonl", "jsonl-bom-blank", "jsonl-gz", "json", "two-files", "csv", "parquet", "save_to_disk"]


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_is_read_as_trl_reads_it(tmp_path: Path, form: str) -> None:
    write(tmp_path / "data", form)

    rows = read(dataset_name=str(tmp_path / "data"))

    assert rows == ROWS == as_trl_reads(dataset_name=str(tmp_path / "data"))


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_of_larger_data_one_row_in_n_is_read_and_all_are_counted(tmp_path: Path, form: str) -> None:
    write(tmp_path / "data", form)

    rows = list(rows_of(train_sources(RunConfig.of({"dataset_name": str(tmp_path / "data")})), stride=4))

    assert rows == [row if at % 4 == 0 else None for at, row in enumerate(ROWS)]


def test_a_mixture_with_slices_columns_and_fractions_is_read_as_trl_reads_it(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "one", [{"text": f"one {n}", "id": n} for n in range(20)])
    write_jsonl(tmp_path / "two", [{"text": f"two {n}"} for n in range(7)])
    mixtures: list[list[dict[str, Any]]] = [
        [{"path": str(tmp_path / "one"), "columns": ["text"]}, {"path": str(tmp_path / "two")}],
        [{"path": str(tmp_path / "two"), "split": "train[2:5]"}],
        [{"path": str(tmp_path / "two"), "split": "train[50%:]"}],
        [{"path": "json", "data_files": str(tmp_path / "two" / "*.jsonl")}],
        [
            {"path": str(tmp_path / "one"), "columns": ["text"], "fraction": 0.75},
            {"path": str(tmp_path / "two"), "fraction": 0.25},
        ],
    ]
    for mixture in mixtures:
        assert read(datasets=mixture) == as_trl_reads(datasets=[dict(entry) for entry in mixture])


def test_datasets_win_over_dataset_name(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "one", ROWS[:1])
    write_jsonl(tmp_path / "two", ROWS[1:3])

    assert read(dataset_name=str(tmp_path / "one"), datasets=[{"path": str(tmp_path / "two")}]) == ROWS[1:3]


def test_a_broken_line_is_named_by_its_line_and_the_rest_is_read(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_bytes(b'{"text": "a"}\n\n{"text": "b"\n[1]\n{"text": "\xff"}\n{"text": "c"}\n')

    rows = list(json_rows(file))

    assert rows == [
        {"text": "a"},
        Broken("train.jsonl, line 3: Expecting ',' delimiter at column 13."),
        Broken("train.jsonl, line 4: a JSON list, not an object."),
        Broken("train.jsonl, line 5: not UTF-8 at byte 10."),
        {"text": "c"},
    ]


def test_a_broken_json_document_is_named_by_its_line(tmp_path: Path) -> None:
    file = tmp_path / "train.json"
    file.write_text('[\n {"text": "a"},\n {"text": }\n]')

    assert list(json_rows(file)) == [Broken("train.json, line 3: Expecting value at column 11.")]


def test_a_broken_table_says_after_which_row(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.parquet").write_bytes(b"PAR1 this is no parquet file PAR1")

    (broken,) = read(dataset_name=str(folder))

    assert broken.message.startswith(f"{folder} cannot be read after row 0: ")


def refusal(**fields: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        train_sources(RunConfig.of(fields))
    return caught.value


def test_a_file_is_named_as_a_data_file_instead(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "data", ROWS) / "train.jsonl"

    error = refusal(dataset_name=str(file))

    assert error.message == f"{file} is a file; TRL's dataset_name takes a folder."
    assert error.mend is not None
    config = RunConfig.of({"dataset_name": str(file)})
    config.apply(error.mend.changes)
    assert list(rows_of(train_sources(config))) == ROWS


def test_a_dataset_saved_without_splits_is_read_by_its_arrow_files(tmp_path: Path) -> None:
    from datasets import Dataset, load_dataset

    folder = tmp_path / "saved"
    Dataset.from_list(ROWS).save_to_disk(folder)
    with pytest.raises(ValueError, match="save_to_disk"):
        load_dataset(str(folder))

    error = refusal(dataset_name=str(folder))

    assert error.mend is not None
    config = RunConfig.of({"dataset_name": str(folder)})
    config.apply(error.mend.changes)
    assert list(rows_of(train_sources(config))) == ROWS


@pytest.mark.parametrize("name", ["somebody/some-data", "some-data", "/no/such/folder"])
def test_data_that_are_not_here_are_a_sentence_in_under_a_second(name: str) -> None:
    import datasets  # noqa: F401  its import is not what is timed

    start = time.monotonic()
    error = refusal(dataset_name=name)

    assert time.monotonic() - start < 1
    assert name in error.message


def test_a_dataset_in_the_hugging_face_cache_is_read_without_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    prepared = datasets.load_dataset_builder(
        str(write_jsonl(tmp_path / "some-data", ROWS)), cache_dir=str(tmp_path)
    )
    prepared.download_and_prepare()
    cached = tmp_path / "hub" / "somebody___some-data" / "default" / "0.0.0" / ("0" * 40)
    cached.parent.mkdir(parents=True)
    Path(prepared.cache_dir).rename(cached)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hub"))

    assert read(dataset_name="somebody/some-data") == ROWS


def test_an_empty_folder_and_no_data_at_all_are_sentences(tmp_path: Path) -> None:
    assert "doesn't contain any data files" in refusal(dataset_name=str(tmp_path)).message
    assert refusal().message == "No data: neither dataset_name nor datasets is set."


@pytest.mark.parametrize("root", ["/", "//", "/.", "/usr/.."])
def test_the_root_of_a_file_system_is_no_folder_of_data(root: str) -> None:
    assert refusal(dataset_name=root).message.endswith(
        "is the root of a file system, not a folder of data files."
    )


def test_a_folder_of_very_many_files_is_refused_before_it_is_walked_for_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_sources, "MOST_ENTRIES", 30)
    write_jsonl(tmp_path / "data", ROWS)
    assert read(dataset_name=str(tmp_path)) == ROWS
    for number in range(5):
        for inner in range(6):
            (tmp_path / f"{number}" / f"{inner}").mkdir(parents=True)
    error = refusal(dataset_name=str(tmp_path))
    assert error.message == f"{tmp_path} holds more than 30 files and folders, too many to look at."
    assert read(datasets=[{"path": str(tmp_path), "data_dir": "data"}]) == ROWS


def test_a_missing_split_is_named_with_those_that_there_are(tmp_path: Path) -> None:
    folder = write_jsonl(tmp_path / "data", ROWS, "test.jsonl")

    error = refusal(dataset_name=str(folder))

    assert error.message == f"{folder} has no split train; it has test."
    assert error.mend is not None
    assert error.mend.changes == {"dataset_train_split": "test"}


def test_a_run_that_evaluates_needs_a_test_split(tmp_path: Path) -> None:
    fields = {"dataset_name": str(write_jsonl(tmp_path / "data", ROWS))}

    assert evaluation_source(RunConfig.of(fields)) is None
    with pytest.raises(DataError, match="has no split test; it has train") as caught:
        evaluation_source(RunConfig.of({**fields, "eval_strategy": "epoch"}))
    assert caught.value.mend is not None
    assert caught.value.mend.changes == {"eval_strategy": "no"}


def test_a_scan_keeps_evenly_spaced_rows_and_no_more_than_it_says() -> None:
    found = scan_rows(({"text": str(number)} for number in range(9001)), "text")

    assert (found.count, found.looked_at, found.spacing, len(found.kept)) == (9001, 9001, 8, 1126)
    assert [number for number, _ in found.kept] == list(range(1, 9002, 8))
    assert not found.measured_all
