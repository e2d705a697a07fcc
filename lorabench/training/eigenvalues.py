"""Eigenvalues of a weight's Gram matrix on a GPU, where one is idle; the CPU's otherwise."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np

from lorabench.runs.device import Device, read_gpu
from lorabench.spectra.gram import Eigenvalues, on_cpu
from lorabench.spectra.model import Float64Array

SPARE = 2**30
"""Bytes that stay free on a GPU for CUDA's context, and for what trains there, which goes first."""
MATRICES = 4
"""cuSOLVER's eigenvalues take the matrix, a copy, and work space of about two more."""


def room_for(n: int) -> int:
    """Return how many bytes must be free on a GPU for the eigenvalues of a matrix (n, n), float64."""
    return SPARE + MATRICES * 8 * n**2


def best_eigenvalues(gpu: Callable[[], Device | None] = read_gpu) -> Eigenvalues:
    """Return the fastest way to a symmetric matrix's eigenvalues that this machine has to spare.

    Asked anew for each matrix, whether it has room. torch is imported only where NVML shows a GPU with some.
    """
    if _free(gpu()) < SPARE:
        return on_cpu
    import torch

    if not torch.cuda.is_available():
        return on_cpu

    def where_there_is_room(matrix: Float64Array) -> Float64Array:
        return on_gpu(matrix) if _free(gpu()) >= room_for(len(matrix)) else on_cpu(matrix)

    return where_there_is_room


def on_gpu(matrix: Float64Array, device: str = "cuda") -> Float64Array:
    """Return the eigenvalues of a symmetric matrix (n, n), float64, ascending, as numpy's eigvalsh does.

    On the CPU after all where the device's memory has run out in the meantime or cuSOLVER fails. What it took
    of the memory is given back.
    """
    import torch

    values: Float64Array | None
    try:
        values = np.asarray(torch.linalg.eigvalsh(torch.from_numpy(matrix).to(device)).cpu().numpy())
    except RuntimeError:  # OutOfMemoryError and LinAlgError are such, and so are cuSOLVER's own
        values = None
    with suppress(RuntimeError):  # a device that has failed answers everything so
        torch.cuda.empty_cache()
    return on_cpu(matrix) if values is None else values


def _free(device: Device | None) -> int:
    if device is None or device.used is None or device.total is None:
        return 0
    return device.total - device.used
