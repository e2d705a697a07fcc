"""Adapter files made to harm: each ends in a description, or in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorabench.adapters.locate import find_adapters
from lorabench.cli.analyze import Options, analyze
from lorabench.cli.describe import describe
from lorabench.cli.output import Page
from tests.fuzz.bounds import LONG, examples, sentence_or

A, B = "base_model.model.layers.0.q_proj.lora_A.weight", "base_model.model.layers.0.q_proj.lora_B.weight"
HOSTILE_WORDS = st.sampled_from(
    [
        "\x1b[2J", "\x1b]0;x\x07", "\x9b31m", "\r", "\n", "\t", "\0", "\x7f", "\u202e", "\u2066", "\u200b",
        "\ufeff", "\u2028", "[red]", "[/]", "[link=file:///etc]x[/link]", "\ud7ff", "𝔘", "a" * 200_000,
        "..", "/", "\\", "%s", "{0}", "=cmd|' /C calc'!A0", "9" * 5000, "०१२", "²", "lora_A", "lora_B",
        "alpha", "base_layer", "modules_to_save", "0", "weight", "-1", "",
    ]
)  # fmt: skip
WORDS = st.one_of(HOSTILE_WORDS, st.text(max_size=8))
PLAIN = st.sampled_from(
    [
        A, B, "x.lora_A.default.weight", "x.lora_B.default.weight", "x.lora_down.weight", "x.lora_up.weight",
        "x.alpha", "x.lora_a", "x.lora_b", "x.m", "x.lora_embedding_A", "x.lora_embedding_B", "w_a_1",
        "w_b_1", "unet:0:up", "unet:0:down", "x.dora_scale", "x.lora_magnitude_vector", "x.lora_mid.weight",
        "x.experts.base_layer.lora_A.weight", "x.experts.lora_B.weight", "x.lora_E", "x.hada_w1_a",
    ]
)  # fmt: skip


@st.composite
def names(draw: st.DrawFn) -> str:
    """A tensor's name as some library writes it, in which a part may be anything."""
    name = draw(PLAIN)
    if draw(st.booleans()):
        parts = name.split(".")
        parts[draw(st.integers(0, len(parts) - 1))] += draw(WORDS)
        name = ".".join(parts)
    return name


SIZES = st.one_of(st.integers(0, 9), st.sampled_from([0, 1, 2, 100_000, 2**31, 2**40, 2**63, 2**64, -1]))
ODD_SHAPES = st.one_of(st.lists(st.integers(0, 6), max_size=4), st.lists(SIZES, max_size=5))
FLOATS = st.sampled_from(["F32", "F16", "BF16", "F64", "F8_E4M3", "F8_E5M2"])
ODD_DTYPES = st.sampled_from(["I8", "BOOL", "U64", "F4", "E8M0"])
WIDTHS = {"F64": 8, "U64": 8, "F32": 4, "F16": 2, "BF16": 2, "F4": 0.5}
JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), WORDS.map(lambda word: word[:2000])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def headers(draw: st.DrawFn) -> tuple[bytes, int]:
    """A header, and how long the body is that it asks for; often sound, else with one entry changed."""
    entries: dict[str, Any] = {}
    offset, rank, side = 0, draw(st.integers(1, 4)), draw(st.integers(1, 6))
    for name in draw(st.lists(names(), max_size=6, unique=True)):
        odd = draw(st.integers(0, 19))
        first = ("B", "b", "up", "b_1")
        shape = [side, rank] if name.removesuffix(".weight").endswith(first) else [rank, side]
        shape = draw(ODD_SHAPES) if odd == 0 else shape
        dtype = draw(ODD_DTYPES if odd == 1 else FLOATS)
        size = WIDTHS.get(dtype, 1)
        for side in shape:
            size *= side
        size = int(size) if 0 <= size < 2_000_000 else 24
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    if entries and draw(st.integers(0, 9)) == 0:
        broken = entries[draw(st.sampled_from(list(entries)))]
        key = draw(st.sampled_from(["dtype", "shape", "data_offsets"]))
        broken[key] = draw(st.one_of(JUNK, st.lists(SIZES, max_size=3)))
    if draw(st.booleans()):
        told = st.fixed_dictionaries({"lora_adapter_metadata": JUNK.map(json.dumps)})
        entries["__metadata__"] = draw(st.one_of(told, st.dictionaries(WORDS, WORDS, max_size=2)))
    text = json.dumps(entries, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    if entries and draw(st.integers(0, 19)) == 0:  # one name twice
        text = text[:-1] + b"," + text[1:]
    return text, offset


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A whole file: the header's length, the header, and a body of any bytes, some of it changed or cut."""
    header, size = draw(headers())
    filling = draw(st.sampled_from([b"\0", b"\x3f", b"\x7f\x80\xff", b"\xff", b"\x00\x00\x80\x3f", b"\x01"]))
    length = draw(st.sampled_from([len(header)] * 60 + [0, len(header) + 1, 2**31, 2**63, 2**64 - 1]))
    content = bytearray(length.to_bytes(8, "little") + header + (filling * (size // len(filling) + 1))[:size])
    if draw(st.integers(0, 4)) == 0:
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.integers(0, len(content)))] if draw(st.integers(0, 19)) == 0 else content)


STYLES = st.sampled_from(["text", "json", "csv"])


def described(path: Path, style: str = "text", *, factors: bool = False) -> str:
    """Return what `describe` and `analyze` say."""
    said = describe(path, Page(), factors=factors, style=style)
    return said + analyze(path, Page(), Options(style=style, factors=factors, weightwatcher=factors))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adapter")


@given(content=files(), style=STYLES, factors=st.booleans())
@examples(250, 20_000)
def test_any_file_is_described_or_refused_in_a_sentence(
    place: Path, content: bytes, style: str, factors: bool
) -> None:
    path = place / "x.safetensors"
    path.write_bytes(content)
    sentence_or(lambda: described(path, style, factors=factors))
    sentence_or(lambda: "\n".join(f.message for found in find_adapters(place) for f in found.findings))


def sound(rank: int = 2, side: int = 3, dtype: str = "F32", width: int = 4) -> tuple[dict[str, Any], int]:
    size = rank * side * width
    header = {
        A: {"dtype": dtype, "shape": [rank, side], "data_offsets": [0, size]},
        B: {"dtype": dtype, "shape": [side, rank], "data_offsets": [size, 2 * size]},
    }
    return header, 2 * size


def written(path: Path, header: dict[str, Any], body: bytes) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return path


def test_a_file_cut_at_every_length_is_a_sentence(tmp_path: Path) -> None:
    header, size = sound()
    path = written(tmp_path / "x.safetensors", header, bytes(size))
    content = path.read_bytes()
    for length in range(0, len(content), 1 if LONG else 3):
        path.write_bytes(content[:length])
        assert "not a readable safetensors file" in sentence_or(lambda: described(path))


@pytest.mark.parametrize("rank", [0, 1, 100_000])
@pytest.mark.parametrize("value", [b"\0\0\0\0", b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\x7f\x7f"])
def test_ranks_and_values_that_no_training_gives(rank: int, value: bytes, tmp_path: Path) -> None:
    header, size = sound(rank)
    path = written(tmp_path / "x.safetensors", header, value * (size // 4))
    sentence_or(lambda: described(path))


@pytest.mark.parametrize("side", [10**11, 10**14])
def test_a_sparse_file_larger_than_the_memory_is_a_sentence(side: int, tmp_path: Path) -> None:
    header, size = sound(side=side)
    path = written(tmp_path / "x.safetensors", header, b"")
    try:
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size + size)
    except OSError:
        pytest.skip("this file system holds no such file")
    sentence_or(lambda: described(path))


def zeros(path: Path, shapes: dict[str, list[int]]) -> Path:
    """Write an adapter of zeros."""
    header: dict[str, Any] = {}
    offset = 0
    for name, shape in shapes.items():
        size = 4
        for side in shape:
            size *= side
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    return written(path, header, bytes(offset))


def test_a_block_diagonal_factor_of_kilobytes_does_not_become_gigabytes(tmp_path: Path) -> None:
    path = zeros(tmp_path / "x.safetensors", {A: [40_000, 1, 1, 1], B: [40_000, 1, 1, 1]})
    assert "too many to be read whole" in sentence_or(lambda: described(path))


@pytest.mark.parametrize("stacked", [True, False], ids=["PEFT", "MLX"])
def test_a_hundred_thousand_experts_are_one_finding(stacked: bool, tmp_path: Path) -> None:
    if stacked:
        config = {"r": 1, "lora_alpha": 1, "target_parameters": ["experts.w"]}
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        shapes = {"experts.lora_A.weight": [100_000, 1], "experts.lora_B.weight": [1, 100_000]}
    else:
        shapes = {"x.lora_a": [100_000, 1, 1], "x.lora_b": [100_000, 1, 1]}
    zeros(tmp_path / "adapter_model.safetensors", shapes)
    assert "100000 experts" in sentence_or(lambda: described(tmp_path))
