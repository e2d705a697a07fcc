"""Tensors known by their header and read one at a time: from a safetensors file, or from memory."""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from lorabench.adapters.model import FloatArray, Tensor
from lorabench.errors import Malformed, NotFound
from lorabench.text import human_bytes, shorten, visible

_ALL = slice(None)
_MOST_AT_ONCE = 1 << 30  # macOS refuses to read 2 GiB or more in one call
_STORED: Mapping[str, str] = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "F8_E4M3": "u1", "F8_E5M2": "u1",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
_MEMORY_DTYPES: Mapping[str, str] = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "bool": "BOOL",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8",
}  # fmt: skip
FLOAT_DTYPES = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
_MEMORY = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
_LFS_POINTER = b"version https://git-lfs"


def _e4m3_values() -> npt.NDArray[np.float32]:
    """The 256 values of E4M3: 4 exponent bits (bias 7), 3 mantissa bits, no infinity (OCP FP8, 2023)."""
    code = np.arange(256)
    exponent, mantissa = (code >> 3) & 15, code & 7
    size = np.where(exponent == 0, mantissa * 2.0**-9, (8 + mantissa) * 2.0 ** (exponent - 10.0))
    size[(code & 127) == 127] = np.nan
    return np.where(code < 128, size, -size).astype(np.float32)


_E4M3 = _e4m3_values()


def decode(raw: npt.NDArray[Any], dtype: str) -> FloatArray:
    """Turn stored numbers into float32 (float64 for F64), `dtype` as safetensors writes it."""
    if dtype == "BF16":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    if dtype == "F8_E5M2":
        return (raw.astype(np.uint16) << 8).view(np.float16).astype(np.float32)
    if dtype == "F8_E4M3":
        return np.asarray(_E4M3[raw])
    return raw.astype(np.float64 if dtype == "F64" else np.float32, copy=False)


class TensorFile:
    """An open file, read by position, so that threads may share it and a deleted file stays readable.

    Read rather than memory-mapped: a mapped file that another program truncates (a trainer that saves
    over its adapter) ends this process with SIGBUS; a read ends in a sentence.
    """

    def __init__(self, path: Path) -> None:
        self.label = visible(path.name)
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)
        self._state = _state(os.fstat(self._descriptor))

    def check_still_at(self, path: Path) -> None:
        """Raise Malformed where another file was put in this one's place since it was opened."""
        if _state(path.stat()) != self._state:
            raise self._changed()

    def _changed(self) -> Malformed:
        return Malformed(f"{self.label} changed while it was open.", "Open it again.")

    def read(self, offset: int, size: int) -> npt.NDArray[np.uint8]:
        """Return `size` bytes from `offset`, in memory of their own.

        Raises:
            Malformed: the file is shorter, or was written to since it was opened.
        """
        if _state(os.fstat(self._descriptor)) != self._state:
            raise self._changed()
        if size > _MEMORY:  # asked for, it might be promised, and this process ended when it fills up
            raise Malformed(f"{self.label} holds a tensor of {human_bytes(size)}, more than the memory.")
        buffer = np.empty(size, np.uint8)
        done = 0
        while done < size:
            count = os.preadv(self._descriptor, [buffer.data[done : done + _MOST_AT_ONCE]], offset + done)
            if count == 0:
                raise Malformed(f"{self.label} ends before its last tensor.", "Copy or download it again.")
            done += count
        return buffer


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


@dataclass(frozen=True, slots=True)
class FileTensor:
    """A tensor in a safetensors file; `offset` counts from the file's first byte."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: TensorFile
    offset: int
    nbytes: int

    def read(self, rows: slice = _ALL, columns: slice = _ALL) -> FloatArray:
        """Read the values, or of a matrix only these rows and columns; other rows are not even read."""
        _check_readable(self)
        start, stop, step = rows.indices(self.shape[0]) if self.shape else (0, 1, 1)
        if step != 1:
            raise ValueError("rows are read in one piece")
        width = self.nbytes // self.shape[0] if self.shape and self.shape[0] else self.nbytes
        count = max(stop - start, 0)
        raw = self.file.read(self.offset + start * width, count * width).view(_STORED[self.dtype])
        raw = raw.reshape((count, *self.shape[1:]) if self.shape else ())
        return decode(raw if columns == _ALL else raw[:, columns], self.dtype)


@dataclass(frozen=True, slots=True, eq=False)
class MemoryTensor:
    """A torch tensor or a numpy array, on whatever device; copied when read."""

    name: str
    value: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(size) for size in self.value.shape)

    @property
    def dtype(self) -> str:
        written = str(self.value.dtype).removeprefix("torch.")
        return _MEMORY_DTYPES.get(written, written)

    @property
    def nbytes(self) -> int:
        return int(self.value.nbytes)

    def read(self, rows: slice = _ALL, columns: slice = _ALL) -> FloatArray:
        _check_readable(self)
        value = self.value[rows] if self.shape else self.value
        if columns != _ALL:
            value = value[:, columns]
        if hasattr(value, "detach"):
            value = value.detach().cpu()
            value = (value if self.dtype == "F64" else value.float()).numpy()
        return np.array(value, dtype=np.float64 if self.dtype == "F64" else np.float32)


def _check_readable(tensor: Tensor) -> None:
    if tensor.dtype not in _STORED:
        name, dtype = visible(tensor.name), visible(tensor.dtype)
        raise Malformed(f"{name} is stored as {dtype}, which lorabench cannot read.")


def memory_tensors(state: Mapping[str, Any]) -> dict[str, MemoryTensor]:
    """Wrap the tensors and arrays of a state dict; what is neither is left out.

    Raises:
        Malformed: a key is no name.
    """
    nameless = next((key for key in state if not isinstance(key, str)), None)
    if nameless is not None:
        written = shorten(visible(repr(nameless)), 40)
        raise Malformed(f"The state dict has the key {written}, which is no tensor's name.")
    return {name: MemoryTensor(name, value) for name, value in state.items() if hasattr(value, "dtype")}


def read_safetensors(path: Path) -> tuple[dict[str, FileTensor], dict[str, str]]:
    """Read a safetensors file's header: its tensors by name, and its metadata.

    Raises:
        NotFound: the file cannot be opened.
        Malformed: the header is damaged, or does not fit the file.
    """
    label = visible(path.name)
    try:
        file = TensorFile(path)
        with safe_open(path, "numpy"):  # it checks lengths, offsets, overlaps and types
            pass
        file.check_still_at(path)
    except (SafetensorError, MemoryError) as error:  # it maps the whole file
        raise _malformed(path, error) from error
    except OSError as error:
        raise NotFound(f"{label} cannot be read: {error.strerror or visible(error)}.") from error
    length = int(file.read(0, 8).view("<u8")[0])
    header = json.loads(file.read(8, length).tobytes(), object_pairs_hook=lambda p: _unique(p, label))
    metadata = header.pop("__metadata__", None) or {}
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = FileTensor(
            name, tuple(entry["shape"]), entry["dtype"], file, 8 + length + begin, end - begin
        )
    return tensors, metadata


def _unique(pairs: Iterable[tuple[str, Any]], label: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise Malformed(f"{label} names {visible(name)} twice.", "Save the adapter again.")
        found[name] = value
    return found


def _malformed(path: Path, error: Exception) -> Malformed:
    label = visible(path.name)
    if is_lfs_pointer(path):
        return lfs_pointer(label)
    reason = visible(error).removeprefix("Error while deserializing header: ")
    return Malformed(
        f"{label} is not a readable safetensors file ({reason}).", "Copy, download or save it again."
    )


def is_lfs_pointer(path: Path) -> bool:
    """Tell whether Git left its pointer in place of the file."""
    with path.open("rb") as file:
        return file.read(len(_LFS_POINTER)) == _LFS_POINTER


def lfs_pointer(label: str) -> Malformed:
    """Say that the weights themselves were not fetched."""
    return Malformed(f"{label} is a Git LFS pointer, not the weights.", "Run `git lfs pull` in its folder.")
