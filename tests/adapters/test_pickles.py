"""Pickles: read by a child that runs nothing, whatever the file asks for."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lorabench.adapters import pickles
from lorabench.adapters.open import open_adapter
from lorabench.errors import AdapterError, Malformed, Refused
from lorabench.training import unpickle

A, B = "base_model.model.layers.0.q_proj.lora_A.weight", "base_model.model.layers.0.q_proj.lora_B.weight"


def factors() -> dict[str, torch.Tensor]:
    return {A: torch.randn(2, 6), B: torch.randn(4, 2)}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_torch_file_is_read(zipped: bool, tmp_path: Path) -> None:
    state = factors()
    torch.save(state, tmp_path / "adapter_model.bin", _use_new_zipfile_serialization=zipped)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 6}')
    (layer,) = open_adapter(tmp_path).layers
    np.testing.assert_allclose(layer.delta_weight(), 3 * (state[B] @ state[A]).numpy(), rtol=1e-5, atol=1e-6)


def test_tied_strided_and_half_tensors_survive(tmp_path: Path) -> None:
    shared = torch.randn(6, 6)
    state = {
        A: shared.T[:2],
        B: shared[:4, :2],
        A.replace("q_proj", "v_proj"): shared.T[:2],
        B.replace("q_proj", "v_proj"): shared[:4, ::3].to(torch.bfloat16),
    }
    torch.save(state, tmp_path / "adapter_model.bin")
    query, value = open_adapter(tmp_path).layers
    np.testing.assert_array_equal(query.factors()[0], shared.T[:2].numpy())
    np.testing.assert_array_equal(query.factors()[1], shared[:4, :2].numpy())
    np.testing.assert_array_equal(value.factors()[0], shared.T[:2].numpy())
    np.testing.assert_array_equal(value.factors()[1], shared[:4, ::3].bfloat16().float().numpy())


def test_a_trainers_wrapper_and_its_other_values_are_set_aside(tmp_path: Path) -> None:
    torch.save({"state_dict": factors(), "epoch": 3, "name": "x"}, tmp_path / "lora.pt")
    adapter = open_adapter(tmp_path)
    assert [layer.name for layer in adapter.layers] == ["layers.0.q_proj"]
    assert any("2 values in the pickle are no tensors" in finding.message for finding in adapter.findings)


class Calls:
    """Something that calls a function of anyone's choice as soon as it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


CULPRITS = {"os.system", "posix.system", "builtins.eval", "builtins.exec", "subprocess.check_call"}


def hostile(folder: Path) -> dict[str, bytes]:
    """Pickles that would leave a file `ran` in a folder, each by another way."""
    mark = folder / "ran"
    command = f"touch '{mark}'"
    code = f"open({str(mark)!r}, 'w')"
    return {
        "os.system": pickle.dumps(Calls(os.system, command)),
        "eval nested": pickle.dumps({A: [{"deep": (Calls(eval, code),)}]}),
        "exec": pickle.dumps({A: Calls(exec, code)}),
        "subprocess": pickle.dumps({A: Calls(subprocess.check_call, ["touch", str(mark)])}),
        "text protocol": f"cos\nsystem\n(S{command!r}\ntR.".encode(),
        "the INST opcode": f"(S{command!r}\nios\nsystem\n.".encode(),
        "the OBJ opcode": f"(cos\nsystem\nS{command!r}\no.".encode(),
        "a break after the call": f"cos\nsystem\n(S{command!r}\ntR\xff".encode("latin1"),
    }


@pytest.mark.parametrize("way", list(hostile(Path())))
def test_what_would_run_code_is_refused_by_name_and_does_not_run(
    way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "adapter_model.bin"
    source.write_bytes(hostile(tmp_path)[way])
    assert unpickle.main(str(source), str(tmp_path / "target")) == unpickle.REFUSED
    assert capsys.readouterr().out.strip() in CULPRITS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter_model.bin"]


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_hostile_object_inside_a_torch_file_is_refused(zipped: bool, tmp_path: Path) -> None:
    state = {**factors(), "x": Calls(os.system, f"touch '{tmp_path}/ran'")}
    torch.save(state, tmp_path / "adapter_model.bin", _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        Refused, match=r"adapter_model.bin refused: would run code on loading \(\w+\.system\)"
    ):
        open_adapter(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("way", ["os.system", "eval nested"])
def test_the_hostile_pickles_are_real(way: str, tmp_path: Path) -> None:
    program = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
    (tmp_path / "x.bin").write_bytes(hostile(tmp_path)[way])
    subprocess.run([sys.executable, "-c", program, tmp_path / "x.bin"], check=True)
    assert (tmp_path / "ran").exists()


def test_a_hostile_module_in_the_current_folder_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(factors(), tmp_path / "adapter_model.bin")
    for name in ("torch", "safetensors", "pickletools"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    assert len(open_adapter("adapter_model.bin").layers) == 1
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"\x80", b"<html>404</html>", b"PK\3\4 cut off", bytes(100)])
def test_bytes_that_are_no_torch_file(content: bytes, tmp_path: Path) -> None:
    source = tmp_path / "adapter_model.bin"
    source.write_bytes(content)
    assert unpickle.main(str(source), str(tmp_path / "target")) == unpickle.UNREADABLE


def test_a_torch_file_that_was_cut_off(tmp_path: Path) -> None:
    torch.save(factors(), tmp_path / "adapter_model.bin")
    content = (tmp_path / "adapter_model.bin").read_bytes()
    (tmp_path / "adapter_model.bin").write_bytes(content[: len(content) // 2])
    with pytest.raises(Malformed, match="not a readable torch file"):
        open_adapter(tmp_path)


def test_a_child_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(factors(), tmp_path / "adapter_model.bin")
    monkeypatch.setattr(pickles, "_SECONDS", 0.01)
    with pytest.raises(Malformed, match="was not unpickled within"):
        open_adapter(tmp_path)


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(factors(), tmp_path / "adapter_model.bin")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    (layer,) = open_adapter(tmp_path / "adapter_model.bin").layers
    assert list(scratch.iterdir()) == []
    assert layer.factors()[0].shape == (2, 6)


def test_a_torch_that_cannot_be_imported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(factors(), tmp_path / "adapter_model.bin")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "torch.py").write_text("raise ImportError('libcudart.so.12: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(broken))
    with pytest.raises(AdapterError) as caught:
        pickles.read_pickle(tmp_path / "adapter_model.bin")
    assert caught.value.message == (
        "adapter_model.bin is read by torch, which cannot be imported: "
        "libcudart.so.12: cannot open shared object file."
    )
    assert not isinstance(caught.value, Malformed)
