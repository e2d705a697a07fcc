"""Turn a torch file (a pickle) into a safetensors file: `python unpickle.py SOURCE TARGET`.

Run in a process of its own, so that whoever wants the weights needs no torch. Only torch's restricted
unpickler is used, which makes tensors and containers and calls nothing that the file names.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

REFUSED, UNREADABLE = 3, 4
_CALLING = {"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "REDUCE", "EXT1", "EXT2", "EXT4"}


def main(source: str, target: str) -> int:
    """Write what `source` holds to `target`; else print the reason and return REFUSED or UNREADABLE."""
    try:
        content = torch.load(source, weights_only=True, map_location="cpu")
        leaves = dict(_leaves("", content))
        # A clone each: safetensors holds no two tensors that share memory, and none with strides.
        tensors = {
            name: value.detach().contiguous().clone()
            for name, value in leaves.items()
            if isinstance(value, torch.Tensor)
        }
        save_file(tensors, target, metadata={"skipped": str(len(leaves) - len(tensors))})
    except pickle.UnpicklingError as error:
        print(_culprit(str(error)))  # noqa: T201
        return REFUSED if zipfile.is_zipfile(source) or _calls_something(source) else UNREADABLE
    except Exception as error:  # noqa: BLE001  whatever a damaged file provokes is the answer to be given
        print(f"{type(error).__name__}: {error}")  # noqa: T201
        return UNREADABLE
    return 0


def _leaves(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Walk nested dicts; the wrapper that trainers put around a state dict leaves no trace in the names."""
    if not isinstance(value, Mapping):
        yield prefix, value
        return
    for key, inner in value.items():
        wrapper = key in ("state_dict", "model", "module") and isinstance(inner, Mapping)
        yield from _leaves(prefix if wrapper else f"{prefix}.{key}" if prefix else str(key), inner)


def _culprit(message: str) -> str:
    """The function or class that the file asked for, or torch's first line."""
    named = re.search(r"GLOBAL ([\w.]+)", message)
    return named[1] if named else message.partition("\n")[0]


def _calls_something(source: str) -> bool:
    """Tell a pickle that names or calls an object from bytes that are no pickle, without running it."""
    with Path(source).open("rb") as file:
        try:
            return any(operation.name in _CALLING for operation, _, _ in pickletools.genops(file))
        except Exception:  # noqa: BLE001  pickletools raises whatever the bytes provoke
            return False


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
