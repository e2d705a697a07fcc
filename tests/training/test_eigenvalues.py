"""Eigenvalues on a GPU where one has room: chosen by what NVML says, and the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lorabench.adapters.base_model import open_base
from lorabench.adapters.open import open_adapter
from lorabench.runs.device import Device
from lorabench.spectra.base_analysis import BaseAnalysis
from lorabench.spectra.base_cache import BaseCache
from lorabench.spectra.gram import on_cpu
from lorabench.training.eigenvalues import ROOM, best_eigenvalues, on_gpu


def gram(size: int) -> np.ndarray:
    numbers = np.random.default_rng(size).normal(size=(size, 2 * size))
    return numbers @ numbers.T


def test_torch_s_eigenvalues_are_numpy_s() -> None:
    matrix = gram(80)
    assert on_gpu(matrix, "cpu") == pytest.approx(np.linalg.eigvalsh(matrix), rel=1e-10)


@pytest.mark.parametrize(
    ("device", "cuda", "chosen"),
    [
        (None, True, on_cpu),
        (Device("GPU", 0, 2 * ROOM), True, on_gpu),
        (Device("GPU", 0, 2 * ROOM), False, on_cpu),  # a CPU build of torch beside a GPU
        (Device("GPU", 10 * ROOM, 10 * ROOM + ROOM // 2), True, on_cpu),  # a training fills it
        (Device("GPU", None, None), True, on_cpu),
    ],
)
def test_a_gpu_is_used_where_it_has_room(
    monkeypatch: pytest.MonkeyPatch, device: Device | None, cuda: bool, chosen: object
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert best_eigenvalues(lambda: device) is chosen


def test_memory_that_runs_out_in_the_meantime_leaves_it_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(torch.linalg, "eigvalsh", full)
    matrix = gram(12)
    assert on_gpu(matrix, "cpu") == pytest.approx(np.linalg.eigvalsh(matrix), rel=1e-12)


def test_the_comparison_with_a_base_asks_what_it_was_given(samples: Path, tmp_path: Path) -> None:
    asked = []

    def counting(matrix: np.ndarray) -> np.ndarray:
        asked.append(len(matrix))
        return np.linalg.eigvalsh(matrix)

    adapter = open_adapter(samples / "style-clean-r16")
    analysis = BaseAnalysis(adapter, open_base(adapter), BaseCache(tmp_path), counting)
    first = next(iter(analysis.compute(merged=True)))
    assert analysis.comparisons[first].base is not None
    assert len(asked) == 2  # of W, and of W + ΔW


@pytest.mark.gpu
def test_a_real_gpu_gives_numpy_s_eigenvalues() -> None:
    matrix = gram(512)
    assert on_gpu(matrix) == pytest.approx(np.linalg.eigvalsh(matrix), rel=1e-9)
