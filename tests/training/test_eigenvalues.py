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
from lorabench.training.eigenvalues import SPARE, best_eigenvalues, on_gpu, room_for


def gram(size: int) -> np.ndarray:
    numbers = np.random.default_rng(size).normal(size=(size, 2 * size))
    return numbers @ numbers.T


def test_torch_s_eigenvalues_are_numpy_s() -> None:
    matrix = gram(80)
    assert on_gpu(matrix, "cpu") == pytest.approx(np.linalg.eigvalsh(matrix), rel=1e-10)


@pytest.mark.parametrize(
    ("device", "cuda"),
    [
        (None, True),
        (Device("GPU", 0, 2 * SPARE), False),  # a CPU build of torch beside a GPU
        (Device("GPU", 10 * SPARE, 10 * SPARE + SPARE // 2), True),  # a training fills it
        (Device("GPU", None, None), True),
    ],
)
def test_without_a_gpu_to_spare_the_cpu_does_it(
    monkeypatch: pytest.MonkeyPatch, device: Device | None, cuda: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert best_eigenvalues(lambda: device) is on_cpu


def test_a_gpu_does_what_it_has_room_for_at_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []

    def noted(matrix: np.ndarray) -> np.ndarray:
        done.append(len(matrix))
        return np.zeros(len(matrix))

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("lorabench.training.eigenvalues.on_gpu", noted)
    assert room_for(8192) == 2**30 + 4 * 8 * 8192**2
    used = [0]
    find = best_eigenvalues(lambda: Device("GPU", used[0], room_for(80)))
    find(gram(80))
    assert find(gram(81)) == pytest.approx(np.linalg.eigvalsh(gram(81)), rel=1e-12)
    used[0] = 1
    find(gram(80))
    assert done == [80]


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("cusolver error: CUSOLVER_STATUS_FAILED")],
    ids=["memory", "cusolver"],
)
def test_a_gpu_that_fails_leaves_it_to_the_cpu_and_gives_its_memory_back(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def failing(_: object) -> None:
        raise error

    emptied: list[bool] = []
    monkeypatch.setattr(torch.linalg, "eigvalsh", failing)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    matrix = gram(12)
    assert on_gpu(matrix, "cpu") == pytest.approx(np.linalg.eigvalsh(matrix), rel=1e-12)
    assert emptied == [True]


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
