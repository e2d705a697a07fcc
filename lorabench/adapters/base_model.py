"""A base model's weights: known by name, read one tensor at a time, never as a whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from lorabench.adapters.base_folder import BaseNotFound, find_base, weights_of
from lorabench.adapters.config import mapping
from lorabench.adapters.model import Adapter, FloatArray, Tensor
from lorabench.adapters.pickles import read_pickle
from lorabench.adapters.shards import INDEX, LARGEST_INDEX, shards_of
from lorabench.adapters.tensors import FLOAT_DTYPES, read_safetensors
from lorabench.errors import Malformed, NotFound
from lorabench.files import is_file, read_plain
from lorabench.text import visible

_WEIGHT = ".weight"
_LARGEST_HEADER = 100_000_000  # bytes: the format's own bound
_END = 1 << 16
"""How much of a file's end tells it from others: a torch file (zip) has its table of contents there."""


def open_base(adapter: Adapter, folder: Path | str | None = None) -> BaseModel:
    """Open the base model that an adapter names, or the one that `folder` names.

    Raises:
        BaseNotFound: the adapter names none, or it is not there.
        AdapterError: its weights cannot be read.
    """
    name = adapter.base_model if folder is None else str(folder)
    if name is None:
        raise BaseNotFound(
            "The adapter does not name its base model.",
            "Name its folder: --base in a command, b on the Base screen.",
        )
    revision = adapter.config.get("revision") if folder is None else None
    return BaseModel(find_base(name, adapter.path, str(revision or "main")))


class BaseModel:
    """The tensors of a base model by name, opened shard by shard when they are asked for.

    A shard that is missing or damaged takes only its own tensors away. Of torch files one shard is open at a
    time, converted into a temporary safetensors file that is gone when the next one is opened.
    """

    def __init__(self, folder: Path) -> None:
        weights = weights_of(folder)
        if weights is None:
            raise BaseNotFound(f"{visible(folder)} holds no weights.")
        self.folder = folder
        self.config = _config(folder)
        self._shards: dict[Path, Mapping[str, Tensor]] = {}
        self._of: dict[str, Path] = {}
        if weights.name.endswith(INDEX):
            self._of = _weight_map(weights)
        else:
            for shard in shards_of(weights):
                self._of |= dict.fromkeys(self._open(shard), shard)

    def __contains__(self, name: str) -> bool:
        return name in self._of

    @property
    def names(self) -> list[str]:
        """The names of all tensors, those of shards that cannot be read too."""
        return list(self._of)

    @cached_property
    def endings(self) -> Mapping[str, Sequence[str]]:
        """The paths of all modules and of what they lie in, by each dotted end of theirs."""
        paths = {path for name in self._of for path in accumulate(name.split(".")[:-1], "{}.{}".format)}
        endings: dict[str, list[str]] = {}
        for path in sorted(paths):
            parts = path.split(".")
            for start in range(len(parts)):
                endings.setdefault(".".join(parts[start:]), []).append(path)
        return endings

    @property
    def tied(self) -> bool:
        """Whether the head shares the embedding's weights, by config.json."""
        inner = mapping(self.config.get("text_config"))
        return self.config.get("tie_word_embeddings", inner.get("tie_word_embeddings")) is not False

    def shard(self, name: str) -> Path:
        """Return the file of a tensor, which may be missing."""
        return self._of[name]

    def tensor(self, name: str) -> Tensor:
        """Return a tensor, known by its header.

        Raises:
            NotFound: its shard is not there.
            Malformed: its shard is damaged, or does not hold it although the index says so.
        """
        shard = self._of[name]
        tensors = self._open(shard)
        if name not in tensors:
            raise Malformed(f"{visible(shard.name)} does not hold {visible(name)}, as its index says.")
        return tensors[name]

    def values(self, name: str, rows: slice = slice(None)) -> FloatArray:
        """Read a tensor's values, or some of its rows; eight-bit ones are multiplied by their scales.

        bitsandbytes' int8 has a scale for each row (SCB, with 127 steps); float8 has one scale, one for each
        row, or one for each block (weight_scale, weight_scale_inv), of the size that config.json tells.

        Raises:
            Malformed: they are integers without a scale, or the scales do not fit.
        """
        tensor = self.tensor(name)
        module = name.removesuffix(_WEIGHT)
        places = (f"{module}.SCB", f"{name}_scale_inv", f"{name}_scale")
        scale = next((place for place in places if place in self), None)
        if tensor.dtype not in FLOAT_DTYPES and not (tensor.dtype == "I8" and f"{module}.SCB" in self):
            raise Malformed(
                f"{visible(name)} is stored as {visible(tensor.dtype)}, quantised.", UNQUANTISED_HINT
            )
        if scale is None:
            return tensor.read(rows)
        scales, block = self.tensor(scale).read(), _block_size(self.config)
        if scales.ndim and len(scales) == tensor.shape[0]:
            return _scaled(tensor.read(rows), scales[rows], scale, block)
        return _scaled(tensor.read(), scales, scale, block)[rows]

    def identity(self, name: str) -> str:
        """Return what tells the file of a tensor from every other: by its size, time and header.

        Raises:
            NotFound: the file is not there.
        """
        path = self._of[name]
        if not is_file(path):
            raise _missing(path)
        try:
            status = path.stat()
            with path.open("rb") as file:
                if path.suffix == ".safetensors":
                    header = file.read(8)
                    header += file.read(min(int.from_bytes(header, "little"), _LARGEST_HEADER))
                else:
                    file.seek(max(0, status.st_size - _END))
                    header = file.read()
        except OSError as error:
            raise NotFound(f"{visible(path.name)} cannot be read: {error.strerror}.") from error
        written = f"{status.st_size} {status.st_mtime_ns} ".encode()
        return hashlib.sha256(written + header).hexdigest()

    def _open(self, shard: Path) -> Mapping[str, Tensor]:
        if shard not in self._shards:
            if not is_file(shard):
                raise _missing(shard)
            if shard.suffix == ".safetensors":
                self._shards[shard] = read_safetensors(shard)[0]
            else:
                self._shards = {shard: read_pickle(shard)[0]}
        return self._shards[shard]


UNQUANTISED_HINT = "Give the folder of the model before quantisation with --base."


def _scaled(
    stored: FloatArray, scale: FloatArray, name: str, block_size: tuple[int, int] | None
) -> FloatArray:
    """Multiply stored values, shape (…, out, in), by their scales: one, one a row, or one a block."""
    does_not_fit = Malformed(f"{visible(name)} {scale.shape} does not fit a weight of {stored.shape}.")
    if scale.ndim > stored.ndim:
        raise does_not_fit
    factor = np.asarray(scale / 127 if name.endswith(".SCB") else scale, dtype=np.float32)
    factor = factor.reshape(*scale.shape, *[1] * (stored.ndim - scale.ndim))
    for axis, (size, count) in enumerate(zip(stored.shape, factor.shape, strict=True)):
        if count in (1, size):
            continue
        from_end = axis - stored.ndim
        if block_size is not None and from_end >= -2:
            block = block_size[from_end]
        else:  # all that write such files without telling the size take a power of two
            block = 1 << (-(-size // count) - 1).bit_length() if count else 1
        if -(-size // block) != count:
            raise does_not_fit
        factor = np.repeat(factor, block, axis).take(range(size), axis)
    return np.asarray(stored * factor)


def _block_size(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the rows and columns of a quantised block, None where config.json does not tell."""
    told = mapping(config.get("quantization_config")).get("weight_block_size")
    if isinstance(told, list) and len(told) == 2 and all(type(n) is int and n > 0 for n in told):
        return told[0], told[1]
    return None


def _missing(shard: Path) -> NotFound:
    return NotFound(f"The shard {visible(shard.name)} is missing.", "Download it again.")


def _weight_map(index: Path) -> dict[str, Path]:
    try:
        content = json.loads(read_plain(index, LARGEST_INDEX))
    except (OSError, ValueError, RecursionError) as error:
        raise Malformed(f"{visible(index.name)} cannot be read: {visible(error)}.") from error
    files = {str(name): str(file) for name, file in mapping(mapping(content).get("weight_map")).items()}
    for file in set(files.values()):
        if Path(file).name != file:
            raise Malformed(f"{visible(index.name)} names {visible(file)}, which is not in its folder.")
    if not files:
        raise Malformed(f"{visible(index.name)} lists no tensors.")
    return {name: index.parent / file for name, file in files.items()}


def _config(folder: Path) -> Mapping[str, Any]:
    """Read config.json, for what the weights' names do not tell; a damaged one tells nothing."""
    try:
        return mapping(json.loads(read_plain(folder / "config.json", LARGEST_INDEX)))
    except (OSError, ValueError, RecursionError):
        return {}
