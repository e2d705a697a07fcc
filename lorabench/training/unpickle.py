"""Turn a torch file (a pickle) into a safetensors file: `python unpickle.py SOURCE TARGET`.

Run in a process of its own, so that whoever wants the weights needs no torch. Only torch's restricted
unpickler is used, which makes tensors and containers and calls nothing that the file names.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import resource
import sys
import zipfile
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

REFUSED, UNREADABLE, NO_TORCH = 3, 4, 5

try:
    import torch
    from safetensors.torch import save_file
except Exception as error:  # noqa: BLE001  whatever a broken installation provokes
    print(str(error).partition("\n")[0] or type(error).__name__)  # noqa: T201
    sys.exit(NO_TORCH)

_MOST_VALUES = 200_000
_MOST_TIMES = 4  # tensors that share their memory are written one by one
_SMALL = 10_000_000
_ROOM = 400_000_000
_STATM = Path("/proc/self/statm")
# Whatever runs was named by one of these.
_CALLING = ("GLOBAL", "STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4")


def main(source: str, target: str) -> int:
    """Write what `source` holds to `target`; else print the reason and return REFUSED or UNREADABLE."""
    try:
        content = torch.load(source, weights_only=True, map_location="cpu")
        leaves = dict(islice(_leaves("", content), _MOST_VALUES + 1))
        _check_size(source, leaves)
        # A clone each: safetensors holds no two tensors that share memory, and none with strides.
        tensors = {
            name: value.detach().contiguous().clone()
            for name, value in leaves.items()
            if isinstance(value, torch.Tensor)
        }
        save_file(tensors, target, metadata={"skipped": str(len(leaves) - len(tensors))})
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        called = named[1] if named else _called(source)
        print(called or "it is no pickle")  # noqa: T201
        return REFUSED if called or zipfile.is_zipfile(source) else UNREADABLE
    except Exception as error:  # noqa: BLE001  whatever a damaged file provokes is the answer to be given
        print(str(error).partition("\n")[0] or type(error).__name__)  # noqa: T201
        return UNREADABLE
    return 0


def _check_size(source: str, leaves: Mapping[str, Any]) -> None:
    """Refuse what a small file can ask for: one dict in many places, one number as a tensor of any size."""
    wanted = sum(value.nbytes for value in leaves.values() if isinstance(value, torch.Tensor))
    if len(leaves) > _MOST_VALUES or wanted > _MOST_TIMES * Path(source).stat().st_size + _SMALL:
        raise ValueError("written out, it would be far larger than it is")


def _limit_memory(source: str) -> None:
    """End this process rather than the machine's memory: a compressed file may unfold into any size."""
    if not _STATM.exists():  # no Linux
        return
    held = int(_STATM.read_text().split()[5]) * resource.getpagesize()  # much, where torch has CUDA
    most = held + _MOST_TIMES * Path(source).stat().st_size + _ROOM
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _leaves(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Walk nested dicts; the wrapper that trainers put around a state dict leaves no trace in the names."""
    if not isinstance(value, Mapping):
        yield prefix, value
        return
    for key, inner in value.items():
        wrapper = key in ("state_dict", "model", "module") and isinstance(inner, Mapping)
        yield from _leaves(prefix if wrapper else f"{prefix}.{key}" if prefix else str(key), inner)


def _called(source: str) -> str | None:
    """Name what a pickle would call, by reading and not running it; None of bytes that are no pickle.

    A torch file of before 1.6 is several pickles one after another.
    """
    strings = ["", ""]
    with Path(source).open("rb") as file:
        try:
            while True:
                for operation, argument, _ in pickletools.genops(file):
                    if operation.name in ("GLOBAL", "INST"):
                        strings = str(argument).split(" ", 1)
                    elif "UNICODE" in operation.name:
                        strings = [strings[-1], str(argument)]
                    if operation.name in _CALLING and not strings[0].startswith(("torch", "collections")):
                        return ".".join(strings)
        except Exception:  # noqa: BLE001  pickletools raises whatever the bytes provoke, at their end too
            return None


if __name__ == "__main__":
    _limit_memory(sys.argv[1])
    sys.exit(main(*sys.argv[1:]))
