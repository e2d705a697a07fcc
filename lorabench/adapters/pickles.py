"""Weights in a pickle (`.bin`, `.pt`): converted by a process of its own, which refuses to run code."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from lorabench.adapters.tensors import FileTensor, is_lfs_pointer, lfs_pointer, read_safetensors
from lorabench.errors import AdapterError, Malformed, NotFound, Refused
from lorabench.text import shorten, visible

# A file, not a module to import: adapters/ stays free of training/ and of torch, and what lies in the
# user's current folder (a torch.py, say) cannot be imported by the child.
_UNPICKLE = Path(__file__).resolve().parents[1] / "training" / "unpickle.py"
_REFUSED, _NO_TORCH = 3, 5
_SECONDS = 120.0


def read_pickle(path: Path) -> tuple[dict[str, FileTensor], dict[str, str]]:
    """Read a torch file's tensors by name, and how many values in it were none (`skipped`).

    The child writes a safetensors file into a private folder, which is gone when this returns: the file
    stays readable as long as a tensor of it is kept.

    Raises:
        Refused: the file asks for code to be run.
        AdapterError: torch, which reads it, cannot be imported.
        Malformed: the file is no torch file, or is damaged, or takes longer than two minutes.
        NotFound: the file cannot be opened.
    """
    label = visible(path.name)
    try:
        if is_lfs_pointer(path):
            raise lfs_pointer(label)
    except OSError as error:
        raise NotFound(f"{label} cannot be read: {error.strerror or visible(error)}.") from error
    with tempfile.TemporaryDirectory(prefix="lorabench-") as folder:
        target = Path(folder) / path.name
        try:
            done = subprocess.run(
                [sys.executable, "-P", str(_UNPICKLE), str(path.absolute()), str(target)],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise Malformed(f"{label} was not unpickled within {_SECONDS:.0f} seconds.") from error
        if done.returncode == 0:
            return read_safetensors(target)
        lines = (done.stdout or done.stderr).decode(errors="replace").strip().splitlines() or [""]
        reason = shorten(visible(lines[-1]), 160)
    if done.returncode == _REFUSED:
        hint = "Save the adapter as safetensors; do not load this file unless you trust who made it."
        raise Refused(f"{label} refused: would run code on loading ({reason}).", hint)
    if done.returncode == _NO_TORCH:
        hint = "Mend that installation of torch, or have the adapter saved as safetensors."
        raise AdapterError(f"{label} is read by torch, which cannot be imported: {reason}.", hint)
    raise Malformed(f"{label} is not a readable torch file ({reason}).", "Copy or download it again.")
