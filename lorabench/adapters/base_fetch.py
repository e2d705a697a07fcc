"""Fetch from the hub what an adapter updates of its base model: the index, and the shards that hold it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lorabench.adapters.base_folder import BaseNotFound, BaseOnHub, is_offline, weights_of
from lorabench.adapters.base_match import find_weight
from lorabench.adapters.base_model import BaseModel, open_base
from lorabench.adapters.model import Adapter
from lorabench.errors import AdapterError
from lorabench.files import is_file
from lorabench.text import visible

Say = Callable[[str], None]
_INDEX = ("*.safetensors.index.json", "config.json")


def fetch_base(adapter: Adapter, folder: Path | str | None, say: Say) -> BaseModel:
    """Open the base model as `open_base` does; what is not here is fetched into the Hugging Face cache.

    Only the shards with tensors that the adapter updates. `say` is told beforehand what is fetched.

    Raises:
        BaseNotFound: it is neither here nor on the hub, or the hub does not answer.
        AdapterError: its weights cannot be read.
    """
    name = adapter.base_model if folder is None else str(folder)
    try:
        base = open_base(adapter, folder)
    except BaseOnHub as error:
        place = _download(error.name, error.revision, _INDEX, say)
        if weights_of(place) is None:
            place = _download(error.name, error.revision, ("*.safetensors",), say)
        if weights_of(place) is None:
            raise BaseNotFound(
                f"The base model {visible(error.name)} has no safetensors on the hub.", error.hint
            ) from error
        base = BaseModel(place)
    missing = _missing_shards(adapter, base)
    if name is not None and missing and base.folder.parent.name == "snapshots" and not is_offline():
        _download(name, base.folder.name, missing, say)
    return base


def _missing_shards(adapter: Adapter, base: BaseModel) -> list[str]:
    """Return the names of the files that hold what the adapter updates and are not here."""
    shards = set()
    for layer in adapter.layers:
        try:
            shards |= {base.shard(name) for name in find_weight(layer, base).tensors}
        except AdapterError:
            continue  # the comparison says of each layer why it has no base weight
    return sorted(shard.name for shard in shards if not is_file(shard))


def _download(name: str, revision: str, files: Sequence[str], say: Say) -> Path:
    say(f"fetching from the hub {visible(name)}: {visible(', '.join(files))}")
    hint = "Name its folder: --base in a command, b on the Base screen."
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, revision=revision, allow_patterns=[*files], etag_timeout=5.0))
    except (OSError, ValueError, ImportError) as error:
        reason = visible(str(error).strip().partition("\n")[0])
        raise BaseNotFound(f"The base model {visible(name)} cannot be had: {reason}", hint) from error
