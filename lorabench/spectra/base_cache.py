"""What was computed of base weights, kept in the user's cache folder: one small file for each module."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from lorabench.files import cannot
from lorabench.spectra.against_base import TOP, BaseFacts, Merged
from lorabench.spectra.model import PowerLaw

Writer = Callable[[Path], None]

VERSION = f"2-{TOP}"
"""Changes when what is computed changes: entries of another version are not seen."""


def cache_folder() -> Path:
    """Return where the entries lie: `LORABENCH_CACHE`, or the user's cache folder."""
    import platformdirs

    place = os.environ.get("LORABENCH_CACHE") or platformdirs.user_cache_dir("lorabench", appauthor=False)
    return Path(place) / "base"


class BaseCache:
    """Entries by what tells the files and the tensors from all others; whole or not there at all.

    A cache that cannot be written costs time the next time and nothing else: `failure` says why.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder()
        self.failure = ""

    def facts(self, key: str) -> BaseFacts | None:
        """Return what is known of a weight, None where it was not computed or its entry is damaged."""
        try:
            with safe_open(self._path("weight", key), "numpy") as entry:
                told = json.loads(entry.metadata()["facts"])
                arrays = {name: entry.get_tensor(name) for name in entry.keys()}  # noqa: SIM118
            return BaseFacts(
                shape=(told["shape"][0], told["shape"][1]),
                fit=_fit(told["fit"]),
                singular_values=arrays["singular_values"],
                left=arrays["left"],
                right=arrays["right"],
            )
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return None

    def keep_facts(self, key: str, facts: BaseFacts) -> None:
        """Keep what is known of a weight."""
        told = {"shape": facts.shape, "fit": None if facts.fit is None else asdict(facts.fit)}
        arrays: dict[str, npt.NDArray[Any]] = {
            "singular_values": np.ascontiguousarray(facts.singular_values),
            "left": np.ascontiguousarray(facts.left),
            "right": np.ascontiguousarray(facts.right),
        }

        def write(path: Path) -> None:
            save_file(arrays, path, metadata={"facts": json.dumps(told)})

        self._keep(self._path("weight", key), write)

    def merged(self, key: str) -> Merged | None:
        """Return what is known of a weight with an update, None where it was not computed."""
        try:
            told = json.loads(self._path("merged", key).read_bytes())
            return Merged(**{**told, "fit": _fit(told["fit"])})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep_merged(self, key: str, merged: Merged) -> None:
        """Keep what is known of a weight with an update."""
        written = json.dumps(asdict(merged))

        def write(path: Path) -> None:
            path.write_text(written, encoding="utf-8")

        self._keep(self._path("merged", key), write)

    def _path(self, kind: str, key: str) -> Path:
        digest = hashlib.sha256(f"{VERSION} {kind} {key}".encode()).hexdigest()
        return self.folder / digest[:2] / f"{digest[2:34]}.{kind}"

    def _keep(self, path: Path, write: Writer) -> None:
        draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                write(draft)
                draft.replace(path)
            finally:
                with contextlib.suppress(OSError):
                    draft.unlink(missing_ok=True)
        except OSError as error:
            self.failure = cannot(self.folder, "written", error)[0]
        except SafetensorError as error:
            self.failure = str(error)


def _fit(told: dict[str, Any] | None) -> PowerLaw | None:
    return None if told is None else PowerLaw(**told)
