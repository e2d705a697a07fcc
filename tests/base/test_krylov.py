"""Leading vectors by Krylov iteration, and intruders without all vectors: as exact as with all of them."""

from __future__ import annotations

import numpy as np
import pytest

from lorabench.spectra import against_base
from lorabench.spectra.against_base import count_intruders, measure_base
from lorabench.spectra.gram import add_low_rank, gram, times
from lorabench.spectra.krylov import leading, stays_below
from tests.base.made import weight

SHAPES = [(620, 450), (450, 620), (512, 512)]


@pytest.mark.parametrize("shape", [*SHAPES, (1300, 1100), (7, 3)], ids=str)
def test_a_gram_matrix_by_tiles_is_that_of_the_smaller_side(shape: tuple[int, int]) -> None:
    w = weight(*shape, directions=2)
    wide = w.astype(np.float64) if shape[0] <= shape[1] else w.T.astype(np.float64)
    np.testing.assert_allclose(gram(w), wide @ wide.T, rtol=0, atol=1e-12 * np.square(w).sum())
    np.testing.assert_array_equal(gram(w), gram(w).T)


def test_a_low_rank_change_is_added_in_place() -> None:
    rng = np.random.default_rng(0)
    product, x, y = rng.standard_normal((1100, 1100)), *rng.standard_normal((2, 1100, 5))
    expected = product + x @ y.T + y @ x.T
    add_low_rank(product, x, y)
    np.testing.assert_allclose(product, expected, atol=1e-12)
    np.testing.assert_allclose(times(x.T.astype(np.float32), y), x.T @ y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("directions", [1, 12, 40], ids="directions-{}".format)
def test_leading_vectors_are_those_of_a_full_decomposition(directions: int) -> None:
    product = gram(weight(700, 900, seed=directions, directions=directions))
    values, vectors = leading(product, 10)
    exact, exact_vectors = np.linalg.eigh(product)
    np.testing.assert_allclose(values, exact[:-11:-1], rtol=1e-12)
    cosines = np.abs((vectors * exact_vectors[:, :-11:-1]).sum(axis=0))
    np.testing.assert_allclose(cosines, 1, atol=1e-8)


def test_equal_leading_values_and_zero_are_no_trouble() -> None:
    basis = np.linalg.qr(np.random.default_rng(1).standard_normal((500, 500)))[0]
    product = (basis * np.r_[np.full(20, 4.0), np.full(480, 1.0)]) @ basis.T
    values, vectors = leading(product, 10)
    np.testing.assert_allclose(values, 4)
    np.testing.assert_allclose(np.linalg.norm(basis[:, :20].T @ vectors, axis=0), 1)
    values, vectors = leading(np.zeros((500, 500)), 10)
    assert (values == 0).all()
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(10), atol=1e-12)


@pytest.mark.parametrize("largest", [0.05, 0.2, 0.3, 0.6, 0.95])
def test_no_vector_is_said_to_stay_below_a_share_that_it_exceeds(largest: float) -> None:
    product = gram(weight(500, 800, seed=9))
    eigenvalues, vectors = np.linalg.eigh(product)
    rng = np.random.default_rng(2)
    said = 0
    for at in rng.integers(0, 490, 24):
        rest = vectors @ rng.standard_normal(500)
        rest -= vectors[:, at] * (vectors[:, at] @ rest)
        start = np.sqrt(largest) * vectors[:, at] + np.sqrt(1 - largest) * rest / np.linalg.norm(rest)
        below = stays_below(lambda x: product @ x, start, eigenvalues, 0.25)
        assert not (below and np.square(vectors.T @ start).max() >= 0.25)
        said += below
    assert said == (24 if largest == 0.05 else said if largest < 0.25 else 0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_intruders_are_counted_as_with_all_vectors(shape: tuple[int, int]) -> None:
    w = weight(*shape)
    u = np.linalg.svd(w.astype(np.float64), full_matrices=False)[0]
    rng = np.random.default_rng(4)
    noise = rng.standard_normal((shape[0], 6))
    columns = np.column_stack(
        [
            u[:, 3],  # a leading vector
            u[:, 200],  # one from within the bulk: found only with all of them
            0.55 * u[:, 300] + 0.835 * u[:, 301],  # near two neighbours
            0.45 * u[:, 11:15].sum(axis=1) + 0.43 * u[:, 250],  # below the limit everywhere
            u[:, 5] + 0.3 * noise[:, 0] / np.sqrt(shape[0]) * 4,
            *noise.T,
        ]
    )
    columns /= np.linalg.norm(columns, axis=0)
    product = gram(w)
    exact = int(np.count_nonzero(np.abs(u.T @ columns).max(axis=0) < 0.5))
    assert exact == 7
    assert count_intruders(w, product, measure_base(w, product), columns) == exact


def test_intruders_of_noise_need_no_full_decomposition(monkeypatch: pytest.MonkeyPatch) -> None:
    w = weight(640, 480)
    product = gram(w)
    base = measure_base(w, product)
    columns = np.linalg.qr(np.random.default_rng(6).standard_normal((640, 10)))[0]
    monkeypatch.delattr(against_base, "_left_vectors")
    assert count_intruders(w, product, base, columns) == 10
