"""Eigenvalues by two-stage reduction: numpy's own, and the matrix is what it was."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorabench.spectra import gram, two_stage
from tests.base.made import weight

needs_two_stages = pytest.mark.skipif(
    two_stage._lapack() is None, reason="numpy has another LAPACK than its wheels bring"
)


def symmetric(n: int, seed: int = 0, rank: int | None = None) -> np.ndarray:
    root = np.random.default_rng(seed).standard_normal((n, rank or n))
    return root @ root.T


@needs_two_stages
@settings(max_examples=20, deadline=None)
@given(n=st.integers(50, 400), rank=st.integers(1, 400), seed=st.integers(0, 999), power=st.integers(-60, 60))
def test_two_stages_give_numpys_eigenvalues(n: int, rank: int, seed: int, power: int) -> None:
    matrix = symmetric(n, seed, min(rank, n)) * 10.0**power
    reference = np.linalg.eigvalsh(matrix)
    found = two_stage.reduce_in_place(matrix.copy())
    assert found is not None
    assert np.abs(found - reference).max() <= 1e-13 * reference.max()


@needs_two_stages
@pytest.mark.parametrize("n", [two_stage.SMALLEST, 1537])
def test_a_large_matrix_is_the_same_after_its_eigenvalues(n: int) -> None:
    matrix = gram.gram(weight(n, n + 7))
    before = matrix.copy()
    found = gram.on_cpu(matrix)
    assert np.array_equal(matrix, before)
    assert found == pytest.approx(np.linalg.eigvalsh(before), rel=1e-10)


@needs_two_stages
def test_a_large_matrix_needs_no_copy() -> None:
    matrix = symmetric(200)
    before = matrix.copy()
    two_stage.reduce_in_place(matrix)
    below = np.tril_indices(200, -1)
    assert np.array_equal(matrix[below], before[below])
    assert not np.array_equal(matrix, before)


@needs_two_stages
def test_a_library_that_computes_nonsense_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = two_stage._reduce

    def nonsense(library: ctypes.CDLL, matrix: np.ndarray) -> np.ndarray:
        values = whole(library, matrix)
        return (
            None if values is None else values * np.where(np.arange(len(values)) == len(values) - 1, 1.01, 1)
        )

    monkeypatch.setattr(two_stage, "_reduce", nonsense)
    matrix = symmetric(two_stage.SMALLEST)
    assert two_stage.reduce_in_place(matrix.copy()) is None
    assert np.array_equal(gram.on_cpu(matrix), np.linalg.eigvalsh(matrix))


def test_another_lapack_leaves_it_to_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(two_stage, "_lapack", lambda: None)
    matrix = symmetric(two_stage.SMALLEST)
    assert np.array_equal(gram.on_cpu(matrix), np.linalg.eigvalsh(matrix))


@needs_two_stages
def test_a_matrix_that_is_too_small_or_lies_otherwise_is_left_to_numpy_as_it_was() -> None:
    band = two_stage._BAND
    locked = symmetric(2 * band)
    locked.flags.writeable = False
    for matrix in (symmetric(band), symmetric(2 * band)[::2, ::2], symmetric(2 * band).astype("f4"), locked):
        before = matrix.copy()
        assert two_stage.reduce_in_place(matrix) is None
        assert np.array_equal(matrix, before)


@needs_two_stages
@pytest.mark.filterwarnings("error")
def test_squares_out_of_range_are_left_to_numpy_without_a_word() -> None:
    assert two_stage.reduce_in_place(symmetric(100) * 1e200) is None
