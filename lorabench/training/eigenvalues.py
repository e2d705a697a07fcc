"""Eigenvalues of a weight's Gram matrix on a GPU, where one is idle; the CPU's otherwise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lorabench.runs.device import Device, read_gpu
from lorabench.spectra.gram import Eigenvalues, on_cpu
from lorabench.spectra.model import Float64Array

ROOM = 4 * 2**30
"""Bytes that must be free on a GPU: for CUDA's context, the matrix, and cuSOLVER's work space.

Whatever trains there goes first.
"""


def best_eigenvalues(gpu: Callable[[], Device | None] = read_gpu) -> Eigenvalues:
    """Return the fastest way to a symmetric matrix's eigenvalues that this machine has to spare.

    torch is imported only where NVML shows a GPU with room.
    """
    device = gpu()
    if device is None or device.used is None or device.total is None or device.total - device.used < ROOM:
        return on_cpu
    import torch

    return on_gpu if torch.cuda.is_available() else on_cpu


def on_gpu(matrix: Float64Array, device: str = "cuda") -> Float64Array:
    """Return the eigenvalues of a symmetric matrix (n, n), float64, ascending, as numpy's eigvalsh does.

    On the CPU after all where the device's memory has run out in the meantime.
    """
    import torch

    try:
        values = torch.linalg.eigvalsh(torch.from_numpy(matrix).to(device))
    except torch.OutOfMemoryError:
        return on_cpu(matrix)
    return np.asarray(values.cpu().numpy())
