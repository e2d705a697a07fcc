"""Safetensors files: damaged ones end in a sentence, sound ones are read tensor by tensor and no more."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file

from lorabench.adapters import tensors
from lorabench.adapters.open import open_adapter
from lorabench.adapters.tensors import read_safetensors
from lorabench.errors import AdapterError, Malformed, NotFound

A, B = "model.layers.0.q_proj.lora_A.weight", "model.layers.0.q_proj.lora_B.weight"


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def written(path: Path, header: object, body: bytes = b"", length: int | None = None) -> Path:
    """Write a safetensors file by hand, so that it may be wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + body)
    return path


GOOD = {A: entry([2, 3], 0, 24), B: entry([3, 2], 24, 48)}
NAMED_TWICE = b'{"x.lora_A.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"x.lora_A.weight":'
DAMAGED: dict[str, tuple[object, bytes, int | None]] = {
    "truncated body": (GOOD, bytes(40), None),
    "too long a body": (GOOD, bytes(56), None),
    "overlapping": ({A: entry([2, 3], 0, 24), B: entry([3, 2], 12, 36)}, bytes(36), None),
    "a hole between": ({A: entry([2, 3], 0, 24), B: entry([3, 2], 32, 56)}, bytes(56), None),
    "offsets outside the file": ({A: entry([2, 3], 0, 24), B: entry([3, 2], 24, 4800)}, bytes(48), None),
    "negative offsets": ({A: entry([2, 3], -24, 0)}, bytes(24), None),
    "a shape that needs more bytes": ({A: entry([2, 300], 0, 24)}, bytes(24), None),
    "a shape that overflows": ({A: entry([2**40, 2**40], 0, 24)}, bytes(24), None),
    "a type that is none": ({A: entry([2, 3], 0, 24, "F7")}, bytes(24), None),
    "an absurd header length": (GOOD, bytes(48), 2**63),
    "a header longer than the file": (GOOD, bytes(48), 10_000),
    "a header that is no JSON": (b"{not json", b"", None),
    "a header that is a list": (b"[1, 2]", b"", None),
    "a header that is not UTF-8": (b'{"\xff\xfe": 1}', b"", None),
    "entries that are no entries": ({A: 3}, b"", None),
    "one name twice": (NAMED_TWICE + b'{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4), None),
    "a deep header": (b"[" * 100_000, b"", None),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_file_is_a_sentence(damage: tuple[object, bytes, int | None], tmp_path: Path) -> None:
    path = written(tmp_path / "adapter_model.safetensors", *damage)
    with pytest.raises(
        Malformed, match=r"^adapter_model\.safetensors (is not a readable|names model|names x)"
    ):
        open_adapter(path)


@pytest.mark.parametrize("content", [b"", b"\0" * 7, b"PK\3\4 not at all", b"<html>404</html>"])
def test_bytes_that_are_something_else(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(content)
    with pytest.raises(Malformed, match="not a readable safetensors file"):
        open_adapter(path)


def test_a_git_lfs_pointer_is_called_by_its_name(tmp_path: Path) -> None:
    for name in ("adapter_model.safetensors", "adapter_model.bin"):
        (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
        with pytest.raises(Malformed, match="Git LFS pointer"):
            open_adapter(tmp_path / name)


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_safetensors(tmp_path / "none.safetensors")


def test_names_that_command_a_terminal_are_made_visible(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[2J.safetensors"
    save_file({"evil\x1b]0;x\x07.weight": np.zeros(3, np.float32)}, path)
    with pytest.raises(NotFound) as caught:
        open_adapter(path)
    assert str(caught.value).isprintable()


FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_every_value_of_a_type_is_what_torch_says_it_is(dtype: torch.dtype, tmp_path: Path) -> None:
    if dtype.itemsize == 1:
        values = torch.arange(256, dtype=torch.uint8).view(dtype)
    elif dtype.itemsize == 2:
        values = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(dtype)
    else:
        values = torch.randn(512, dtype=dtype)
    save_torch_file({"x": values.reshape(-1, 8)}, tmp_path / "x.safetensors")
    tensors, _ = read_safetensors(tmp_path / "x.safetensors")
    read = tensors["x"].read()
    assert read.dtype == (np.float64 if dtype == torch.float64 else np.float32)
    expected = values.reshape(-1, 8).to(torch.float64 if dtype == torch.float64 else torch.float32)
    np.testing.assert_array_equal(read, expected.numpy())
    np.testing.assert_array_equal(tensors["x"].read(slice(2, 5)), expected.numpy()[2:5])
    np.testing.assert_array_equal(tensors["x"].read(columns=slice(1, None, 3)), expected.numpy()[:, 1::3])


def test_integers_are_a_finding_and_the_other_layers_work(tmp_path: Path) -> None:
    tensors = {A: np.ones((2, 4), np.int8), B: np.ones((4, 2), np.float32)}
    tensors |= {
        name.replace("layers.0", "layers.1"): np.ones(t.shape, np.float32) for name, t in tensors.items()
    }
    save_file(tensors, tmp_path / "x.safetensors")
    broken, sound = open_adapter(tmp_path / "x.safetensors").layers
    assert "stored as I8" in broken.findings[0].message
    with pytest.raises(Malformed, match="stored as I8"):
        broken.factors()
    np.testing.assert_array_equal(sound.delta_weight(), np.full((4, 4), 2.0))


def big_adapter(path: Path, layers: int, out: int, rank: int) -> int:
    """Write the header of an adapter and no body: a sparse file reads as zeros. Return its size."""
    header, offset = {}, 0
    for layer in range(layers):
        for name, shape in ((A, [rank, out]), (B, [out, rank])):
            size = 4 * rank * out
            header[name.replace("layers.0", f"layers.{layer}")] = entry(shape, offset, offset + size)
            offset += size
    written(path, header)
    size = path.stat().st_size + offset
    with path.open("r+b") as file:
        file.truncate(size)
    return size


def test_opening_reads_the_header_alone_and_walking_gives_memory_back(tmp_path: Path) -> None:
    path = tmp_path / "adapter_model.safetensors"
    assert big_adapter(path, layers=560, out=10_400, rank=64) > 2.9e9
    program = textwrap.dedent(
        """
        import sys, time
        from lorabench.adapters.open import open_adapter
        def peak():
            status = open("/proc/self/status").read()  # ru_maxrss would be that of the parent
            return int(status.partition("VmHWM:")[2].split()[0]) / 1000
        before = peak()
        def read():
            return int(next(line.split()[1] for line in open("/proc/self/io") if line.startswith("rchar")))
        start, read_before = time.perf_counter(), read()
        adapter = open_adapter(sys.argv[1])
        seconds, opened = time.perf_counter() - start, read() - read_before
        for layer in adapter.layers[::10]:
            layer.factors()
        print(len(adapter.layers), seconds, opened, peak() - before, "torch" in sys.modules)
        """
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    layers, seconds, opened, peak, has_torch = done.stdout.split()
    assert (layers, has_torch) == ("560", "False")
    assert float(seconds) < 0.5
    assert int(opened) < 1_000_000
    assert float(peak) < 60


def test_opening_a_thousand_tensors_is_quick(tmp_path: Path) -> None:
    path = tmp_path / "adapter_model.safetensors"
    big_adapter(path, layers=560, out=16, rank=2)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "rank_pattern": {}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        adapter = open_adapter(tmp_path)
        seconds.append(time.perf_counter() - start)
    assert len(adapter.layers) == 560
    assert min(seconds) < 0.1  # 20 ms on an idle machine


def test_a_file_that_is_overwritten_while_open_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({A: np.ones((2, 4), np.float32), B: np.ones((4, 2), np.float32)}, path)
    (layer,) = open_adapter(path).layers
    with path.open("r+b") as file:
        file.truncate(100)
    with pytest.raises(Malformed, match="changed while it was open"):
        layer.factors()


def test_a_file_that_is_replaced_or_deleted_stays_readable(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({A: np.ones((2, 4), np.float32), B: np.ones((4, 2), np.float32)}, path)
    (layer,) = open_adapter(path).layers
    path.unlink()
    np.testing.assert_array_equal(layer.delta_weight(), np.full((4, 4), 2.0))


def test_a_tensor_larger_than_one_read_may_be_comes_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.safetensors"
    values = np.arange(1000, dtype=np.float32).reshape(10, 100)
    save_file({"x": values}, path)
    sizes: list[int] = []
    preadv = os.preadv

    def as_macos_does(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        sizes.append(sum(len(buffer) for buffer in buffers))
        if sizes[-1] > 256:
            raise OSError(errno.EINVAL, "Invalid argument")
        return preadv(descriptor, buffers, offset)

    monkeypatch.setattr(tensors, "_MOST_AT_ONCE", 256)
    monkeypatch.setattr(os, "preadv", as_macos_does)
    found, _ = read_safetensors(path)
    sizes.clear()
    np.testing.assert_array_equal(found["x"].read(), values)
    assert sizes == [256] * 15 + [160]


def test_nothing_is_imported_that_a_reader_need_not_have() -> None:
    program = "import sys, lorabench.adapters.open, lorabench.adapters.locate; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "safetensors" in loaded
    assert not loaded & {"torch", "transformers", "peft", "trl", "pandas", "textual", "plotext"}


def test_no_byte_of_a_file_can_provoke_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "adapter_model.safetensors"
    save_file({A: np.ones((2, 4), np.float32), B: np.ones((4, 2), np.float32)}, path, metadata={"a": "b"})
    sound = path.read_bytes()
    random = np.random.default_rng(0)
    said = []
    for _ in range(1500):
        damaged = bytearray(sound)
        for _ in range(random.integers(1, 4)):
            damaged[random.integers(0, 260)] = random.choice([*b'0123456789{}[]",:FIB', *range(256)])
        path.write_bytes(damaged)
        try:
            for layer in open_adapter(path).layers:
                layer.factors()
        except AdapterError as error:
            said.append(str(error))
    assert 50 < len(said) < 1450
    assert all(sentence.isprintable() for sentence in said)


def test_metadata_that_only_a_converted_pickle_has_is_of_no_account(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({A: np.ones((2, 4), np.float32), B: np.ones((4, 2), np.float32)}, path, {"skipped": "7"})
    adapter = open_adapter(path)
    assert not any("pickle" in finding.message for finding in adapter.findings)
    assert adapter.metadata == {"skipped": "7"}
