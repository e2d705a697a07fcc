"""Find the rows of a configuration where TRL would: `dataset_name`, or a mixture under `datasets`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorabench.errors import LorabenchError
from lorabench.files import is_file, is_folder, real
from lorabench.text import visible
from lorabench.training.config.run_config import RunConfig
from lorabench.training.preflight.finding import Mend

FORMATS = {
    ".jsonl": "json",
    ".json": "json",
    ".ndjson": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
"""What `datasets` calls the reader of each file that one gives by name."""

MOST_ENTRIES = 20_000
"""In a folder of data. `datasets` walks it once for each pattern of file names: half a minute for so many."""


class DataError(LorabenchError):
    """Data that TRL would not find or not load; `mend` is the change that would help, where there is one."""

    def __init__(self, message: str, hint: str = "", mend: Mend | None = None) -> None:
        super().__init__(message, hint)
        self.mend = mend


@dataclass(frozen=True, slots=True)
class Source:
    """One entry of the configuration's data, found but not read.

    `builder` is what `datasets.load_dataset_builder` returns. `split` may be a slice in a mixture, such as
    `train[:10%]`; `fraction` is the entry's share of the mixture, `columns` what is kept of it (None: all).
    """

    name: str
    builder: Any
    split: str
    columns: tuple[str, ...] | None = None
    fraction: float | None = None

    def files_of(self, split: str) -> tuple[Path, ...]:
        """Return the local files of a split; none where the data come from the Hugging Face cache."""
        found = (self.builder.config.data_files or {}).get(split, ())
        return tuple(Path(file) for file in found if "://" not in file)

    @property
    def files(self) -> tuple[Path, ...]:
        """The local files of all splits."""
        return tuple(file for split in self.splits for file in self.files_of(split))

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits that there are."""
        return tuple(str(name) for name in self.builder.config.data_files or self.builder.info.splits or ())


def train_sources(config: RunConfig) -> tuple[Source, ...]:
    """Return where the training rows come from; `datasets` wins over `dataset_name`, as in `trl sft`.

    Raises:
        DataError: nothing is named, nothing is there, or it is not on this machine.
    """
    entries = config.get("datasets")
    if entries:
        return _mixture([_mapping(entry) for entry in entries])
    return (_named(config, str(config.get("dataset_train_split") or "train"), "dataset_train_split"),)


def evaluation_source(config: RunConfig) -> Source | None:
    """Return where the evaluation rows come from; None where there are none of their own."""
    if str(getattr(config.get("eval_strategy"), "value", config.get("eval_strategy"))) == "no":
        return None
    if not config.get("datasets"):
        return _named(config, str(config.get("dataset_test_split") or "test"), "dataset_test_split")
    if config.get("test_split_size") is None:
        raise DataError(
            "The run evaluates, but a mixture has no test split.",
            "Set test_split_size, or eval_strategy: no.",
            Mend("hold out 5 % for evaluation", {"test_split_size": 0.05}),
        )
    return None


def _named(config: RunConfig, split: str, field: str) -> Source:
    name = config.get("dataset_name")
    if not name:
        raise DataError("No data: neither dataset_name nor datasets is set.", "Set dataset_name to a folder.")
    source = Source(str(name), _builder(str(name), config.get("dataset_config")), split)
    if split not in source.splits:
        raise DataError(
            f"{visible(name)} has no split {visible(split)}; it has {visible(', '.join(source.splits))}.",
            f"Set {field}" + ("." if field == "dataset_train_split" else ", or eval_strategy: no."),
            _mend_split(config, source.splits, field),
        )
    return source


def _mend_split(config: RunConfig, splits: Sequence[str], field: str) -> Mend | None:
    if field == "dataset_test_split":
        others = [split for split in splits if split != config.get("dataset_train_split")]
        if others:
            return Mend(f"evaluate on {others[0]}", {field: others[0]})
        return Mend("do not evaluate", {"eval_strategy": "no"})
    return Mend(f"train on {splits[0]}", {field: splits[0]}) if len(splits) == 1 else None


def _mixture(entries: Sequence[Mapping[str, Any]]) -> tuple[Source, ...]:
    fractions = [entry.get("fraction") for entry in entries]
    if any(fraction is None for fraction in fractions) and any(fractions):
        raise DataError("Some datasets of the mixture have a fraction, some have none.", "Give all or none.")
    return tuple(
        Source(
            name=str(entry["path"]),
            builder=_builder(
                str(entry["path"]), entry.get("name"), entry.get("data_dir"), entry.get("data_files")
            ),
            split=str(entry.get("split") or "train"),
            columns=tuple(entry["columns"]) if entry.get("columns") else None,
            fraction=entry.get("fraction"),
        )
        for entry in entries
    )


def _mapping(entry: Any) -> Mapping[str, Any]:
    """Return a mixture's entry as a mapping, whether the file or TRL's dataclass holds it."""
    mapping = entry if isinstance(entry, Mapping) else vars(entry)
    if not mapping.get("path"):
        raise DataError("An entry of datasets has no path.", "Each needs path: a folder, or json, csv, …")
    return mapping


def _builder(path: str, name: str | None, data_dir: str | None = None, data_files: Any = None) -> Any:
    """Return what `datasets.load_dataset` would read with, without reading and without the network."""
    _refuse_a_file(path)
    if path == "pandas":
        raise DataError("pandas reads pickles, which run code on loading.", "Write the rows as parquet.")
    if not data_files:
        _refuse_a_tree(path, data_dir)
    from datasets import load_dataset_builder

    if is_file(Path(path) / "state.json"):
        raise DataError(
            f"{visible(path)} was written by save_to_disk, which TRL's load_dataset does not read.",
            f"Name its files: datasets: [{{path: arrow, data_files: {visible(path)}/*.arrow}}].",
            Mend(
                "read its arrow files",
                {"dataset_name": None, "datasets": [{"path": "arrow", "data_files": f"{path}/*.arrow"}]},
            ),
        )
    with _without_network():
        try:
            return load_dataset_builder(path, name=name, data_dir=data_dir, data_files=data_files)
        except ConnectionError as error:
            raise _not_here(path) from error
        except (OSError, ValueError, RuntimeError) as error:
            what = visible(str(error).splitlines()[0])
            raise DataError(f"The data cannot be found: {what}", "Check dataset_name or datasets.") from error


def _refuse_a_file(path: str) -> None:
    """Say before anything is imported that `load_dataset` wants a folder here, and how to give it a file."""
    file = Path(path)
    if not is_file(file):
        return
    reader = FORMATS.get(file.suffix.lower())
    mend = reader and Mend(
        "name it as a data file", {"dataset_name": None, "datasets": [{"path": reader, "data_files": path}]}
    )
    raise DataError(
        f"{visible(path)} is a file; TRL's dataset_name takes a folder.",
        f"A single file goes under datasets: [{{path: {reader or 'json'}, data_files: {visible(path)}}}]; "
        "or name its folder.",
        mend or None,
    )


def _refuse_a_tree(path: str, data_dir: str | None) -> None:
    """Say before `datasets` walks a folder for minutes that it is not one of data files."""
    folder = Path(path, data_dir or "")
    if not is_folder(folder):
        return
    hint = "Name the folder that holds the data files, and nothing else."
    if real(folder).parent == real(folder):
        raise DataError(f"{visible(folder)} is the root of a file system, not a folder of data files.", hint)
    entries = 0
    for _, folders, files in os.walk(folder):
        entries += len(folders) + len(files)
        if entries > MOST_ENTRIES:
            much = f"more than {MOST_ENTRIES:,} files and folders, too many to look at"
            raise DataError(f"{visible(folder)} holds {much}.", hint)


def _not_here(path: str) -> DataError:
    from huggingface_hub.constants import is_offline_mode

    where = f"{visible(path)} is neither a folder here nor a dataset in the Hugging Face cache"
    if is_offline_mode():
        return DataError(f"{where}, and the hub is switched off.", "Name a local folder, or go online once.")
    return DataError(
        f"{where}, so its rows were not looked at.",
        f"To fetch it from the hub: hf download --repo-type dataset {visible(path)} --local-dir DIR",
    )


@contextmanager
def _without_network() -> Iterator[None]:
    """Let `datasets` look at this machine only: a preflight never waits for the hub."""
    from datasets import config

    before = config.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE = before
