"""Find the base model's folder: by a path, or in the Hugging Face cache."""

from __future__ import annotations

import os
import re
from pathlib import Path

from lorabench.errors import AdapterError
from lorabench.files import at_home, is_file, is_there, real
from lorabench.text import visible

WEIGHTS = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
)
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_TRUE = {"1", "ON", "YES", "TRUE"}


class BaseNotFound(AdapterError):
    """A base model whose weights are not here."""


class BaseOnHub(BaseNotFound):
    """A base model that is not here and may be on the hub, which may be asked."""

    def __init__(self, name: str, revision: str) -> None:
        super().__init__(
            f"The base model {visible(name)} is not on this machine.",
            "`lorabench base` fetches what the adapter updates of it, or takes its folder with --base.",
        )
        self.name = name
        self.revision = revision


def find_base(name: str, beside: Path | None = None, revision: str = "main") -> Path:
    """Return the folder with the weights of the base model that an adapter calls `name`.

    Tried in turn: a folder of that name; one seen from a folder above `beside`, the adapter's own (adapters
    name what lay below the folder that they were trained in); the Hugging Face cache. Nothing is fetched.

    Raises:
        BaseOnHub: it is a name on the hub, and HF_HUB_OFFLINE is not set.
        BaseNotFound: nothing of that name, or nothing with weights in it.
    """
    given = at_home(name)
    above = [] if beside is None or given.is_absolute() else [folder / given for folder in _above(beside)]
    folder = next((place for place in (given, *above) if weights_of(place) is not None), None)
    if folder is not None:
        return folder
    if is_there(given):
        raise BaseNotFound(
            f"{visible(name)} holds no weights.", f"Looked for {', '.join(WEIGHTS)} and other safetensors."
        )
    hint = "Name its folder: --base in a command, b on the Base screen."
    if not _HUB_NAME.fullmatch(name):
        raise BaseNotFound(f"The base model {visible(name)} is not there.", hint)
    cached = _in_cache(name, revision)
    if cached is not None:
        return cached
    if is_offline():
        raise BaseNotFound(
            f"The base model {visible(name)} is no folder and not in the cache; HF_HUB_OFFLINE is set.", hint
        )
    raise BaseOnHub(name, revision)


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids to ask the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE


def weights_of(folder: Path) -> Path | None:
    """Return the index or the file that holds a folder's weights, None where there is none."""
    for name in WEIGHTS:
        if is_file(folder / name):
            return folder / name
    others = (path for path in folder.glob("*.safetensors") if not path.name.startswith("adapter_"))
    return min(others, default=None)


def _above(path: Path) -> list[Path]:
    return list(real(path).parents)


def _cache() -> Path:
    home = os.environ.get("HF_HOME")
    if home is None:
        home = str(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface"))
    return at_home(os.environ.get("HF_HUB_CACHE") or Path(home, "hub"))


def _in_cache(name: str, revision: str) -> Path | None:
    """Return the snapshot of a revision, of any where that is not here; only one that has weights."""
    model = _cache() / f"models--{name.replace('/', '--')}"
    snapshots = model / "snapshots"
    reference = model / "refs" / revision
    named = reference.read_text(encoding="utf-8").strip() if is_file(reference) else revision
    others = sorted(snapshots.glob("*"), key=lambda path: path.stat().st_mtime, reverse=True)
    places = [snapshots / named, *(others if revision == "main" else ())]
    return next((place for place in places if weights_of(place) is not None), None)
