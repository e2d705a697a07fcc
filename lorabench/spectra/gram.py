"""The full spectrum of a weight W from the Gram matrix of its smaller side, in float64.

G = W·Wᵀ (or WᵀW where W is tall) has the squares of W's singular values as eigenvalues, at a fraction of the
cost and the memory of a singular value decomposition. Squaring costs digits: an eigenvalue is known to about
n·2⁻⁵²·λ₁, so that singular values below 1e-6·σ₁ carry few. Who needs those asks numpy's SVD.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lorabench.adapters.model import FloatArray
from lorabench.errors import Malformed
from lorabench.spectra.model import Float64Array
from lorabench.spectra.two_stage import SMALLEST, reduce_in_place

_TILE = 1024
"""Rows or columns that are converted to float64, multiplied or added to at a time."""

Apply = Callable[[Float64Array], Float64Array]
Eigenvalues = Callable[[Float64Array], Float64Array]
"""What gives the eigenvalues of a symmetric matrix, ascending: the CPU's, or a GPU's."""


def gram(weight: FloatArray) -> Float64Array:
    """Return W·Wᵀ or WᵀW, whichever is smaller, shape (n, n), float64; W itself is converted tile by tile.

    Raises:
        Malformed: W is so large that the squares leave the range of float64.
    """
    wide = weight if weight.shape[0] <= weight.shape[1] else weight.T
    product = np.zeros((len(wide), len(wide)))
    bands = [slice(first, min(first + _TILE, len(wide))) for first in range(0, len(wide), _TILE)]
    for start in range(0, wide.shape[1], _TILE):
        part = wide[:, start : start + _TILE].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            for band in bands:
                product[band, : band.stop] += part[band] @ part[: band.stop].T
    if not np.isfinite(np.trace(product)):
        raise Malformed("The base weight's squared norm is too large for float64.")
    _mirror_lower(product)
    return product


def _mirror_lower(matrix: Float64Array) -> None:
    """Make a square matrix symmetric by what stands on and below its diagonal."""
    for first in range(0, len(matrix), _TILE):
        band = slice(first, first + _TILE)
        corner = matrix[band, band]
        corner[:] = np.tril(corner) + np.tril(corner, -1).T
        matrix[:first, band] = matrix[band, :first].T


def add_low_rank(product: Float64Array, left: Float64Array, right: Float64Array) -> None:
    """Add left·rightᵀ + right·leftᵀ, both of shape (n, r), to a Gram matrix in place."""
    x, y = np.hstack([left, right]), np.hstack([right, left])
    for first in range(0, len(product), _TILE):
        rows = slice(first, first + _TILE)
        product[rows] += x[rows] @ y.T


def on_cpu(matrix: Float64Array) -> Float64Array:
    """Return the eigenvalues of a symmetric matrix (n, n), float64, ascending, by all cores that BLAS has.

    A large matrix is worked on in its own memory, and is again what it was on return.
    """
    if len(matrix) >= SMALLEST:
        diagonal = matrix.diagonal().copy()
        try:
            values = reduce_in_place(matrix)
        finally:
            np.fill_diagonal(matrix, diagonal)
            _mirror_lower(matrix)
        if values is not None:
            return values
    return np.asarray(np.linalg.eigvalsh(matrix), dtype=np.float64)


def singular_values(product: Float64Array, eigenvalues: Eigenvalues = on_cpu) -> Float64Array:
    """Return the singular values of W from its Gram matrix, descending, shape (n,)."""
    return np.asarray(np.sqrt(np.maximum(eigenvalues(product)[::-1], 0)))


def times(weight: FloatArray, matrix: Float64Array) -> Float64Array:
    """Return weight @ matrix in float64, the weight converted tile by tile."""
    product = np.empty((weight.shape[0], matrix.shape[1]))
    for first in range(0, len(weight), _TILE):
        rows = slice(first, first + _TILE)
        product[rows] = weight[rows].astype(np.float64) @ matrix
    return product
