"""What a run was made of: enough to make it again, and to see whether it was."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from typing import Any

PACKAGES = ("lorabench", "torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes")


def versions() -> dict[str, str]:
    """Return the version of Python and of each library that decides what a training does."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def digest(text: str) -> str:
    """Return the SHA-256 of a configuration's text."""
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(dataset: Any) -> str | None:
    """Return the SHA-256 of a dataset's rows in their order; None for a stream, which nobody has seen whole.

    Hashes the rows' Arrow buffers (about 1 GB a second), not the files that they came from.
    """
    import pyarrow  # type: ignore[import-untyped]
    from datasets import Dataset

    if not isinstance(dataset, Dataset):
        return None
    sink = _Sink()
    for table in (dataset.data.table, dataset._indices.table if dataset._indices is not None else None):
        if table is None:
            continue
        plain = table.replace_schema_metadata(None).combine_chunks()
        with pyarrow.ipc.new_stream(pyarrow.PythonFile(sink, "w"), plain.schema) as stream:
            stream.write_table(plain)
    return sink.hash.hexdigest()


class _Sink:
    """A file that keeps nothing but the hash of what is written to it."""

    closed = False

    def __init__(self) -> None:
        self.hash = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.hash.update(data)
        return len(data)

    def tell(self) -> int:
        return 0

    def flush(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        """Nothing is open."""
