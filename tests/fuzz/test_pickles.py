"""Pickles that run code on loading: no command runs it, and neither does the bench."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from lorabench.screens.listing import list_folder
from tests.fuzz.bounds import LONG, harmless

A, B = "x.layers.0.q_proj.lora_A.weight", "x.layers.0.q_proj.lora_B.weight"


class Calls:
    """Something that calls a function of anyone's choice as soon as it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def factors(mark: Path) -> dict[str, Any]:
    """Sound tensors, one of which carries a call in its attributes."""
    marked = torch.nn.Parameter(torch.ones(2, 6))
    marked.note = Calls(os.system, f"touch '{mark}'")  # type: ignore[attr-defined]
    return {A: marked, B: torch.ones(4, 2)}


def hostile(path: Path, mark: Path, way: str) -> None:
    """Write a file that would leave `mark` behind."""
    if way == "os.system":
        path.write_bytes(pickle.dumps(Calls(os.system, f"touch '{mark}'")))
    elif way == "builtins":
        path.write_bytes(pickle.dumps({A: [Calls(eval, f"open({str(mark)!r}, 'w')")]}))
    elif way == "in a tensor's attributes":
        torch.save(factors(mark), path)
    elif way == "zip of another name":
        torch.save({A: Calls(os.system, f"touch '{mark}'")}, path)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("../../data.pkl", pickle.dumps(Calls(os.system, f"touch '{mark}'")))
    else:  # a zip behind which another pickle stands, as readers of either kind see it
        torch.save({A: torch.ones(2, 6), B: torch.ones(4, 2)}, path)
        path.write_bytes(pickle.dumps(Calls(os.system, f"touch '{mark}'")) + path.read_bytes())


WAYS = ("os.system", "builtins", "in a tensor's attributes", "zip of another name", "a pickle before a zip")
COMMANDS = ("describe", "analyze", "base", "serve-check")[: None if LONG else 1]


@pytest.mark.parametrize("way", WAYS if LONG else WAYS[-1:])
def test_no_command_and_no_listing_runs_it(way: str, tmp_path: Path) -> None:
    folder, mark = tmp_path / "adapter", tmp_path / "ran"
    folder.mkdir()
    hostile(folder / "adapter_model.bin", mark, way)
    (folder / "adapter_config.json").write_text(
        '{"peft_type": "LORA", "r": 2, "base_model_name_or_path": "x"}'
    )
    assert [row.path for row in list_folder(folder)] == [folder]
    command = (
        "import sys; from lorabench.__main__ import main; sys.exit(max(main([c, sys.argv[1]]) for c in {}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", command.format(COMMANDS), folder], capture_output=True, text=True, timeout=100
    )
    assert not mark.exists()
    assert "Traceback" not in done.stderr
    assert harmless(done.stdout + done.stderr)
