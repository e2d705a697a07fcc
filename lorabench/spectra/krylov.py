"""The leading eigenvectors of a symmetric matrix, and how much of a vector may lie on any one of them."""

from __future__ import annotations

import numpy as np

from lorabench.spectra.gram import Apply
from lorabench.spectra.model import Float64Array

_SMALL = 384
"""Up to this side all eigenvectors are computed: no iteration is faster."""
_EXTRA = 10
_FIRST, _BLOCKS = 12, 24
"""Blocks of the Krylov space before it is restarted from its best vectors: few where these stand out."""
_RESIDUAL = 1e-9
_MOST_RESTARTS = 40
_MOST_STEPS = 30
"""Few enough that no Ritz value converges to the last digit, from where the recurrence would lose its own."""
_EXHAUSTED = 1e-12
_HUGE = 1e100
_SEED = 20130101


def leading(product: Float64Array, k: int) -> tuple[Float64Array, Float64Array]:
    """Return the k largest eigenvalues of a positive semi-definite matrix, descending, and their vectors.

    Shapes (k,) and (n, k). Block Krylov iteration with Rayleigh-Ritz and restarts (Musco & Musco 2015), until
    every residual ‖Gu − λu‖ is below 1e-9·λ₁; where that does not come about all vectors are computed.
    """
    n = len(product)
    k = min(k, n)
    if n > _SMALL:
        found = _iterate(product, k)
        if found is not None:
            return found
    values, vectors = np.linalg.eigh(product)
    return np.maximum(values[: -k - 1 : -1], 0), vectors[:, : -k - 1 : -1]


def _iterate(product: Float64Array, k: int) -> tuple[Float64Array, Float64Array] | None:
    n, width = len(product), k + _EXTRA
    rng = np.random.default_rng(_SEED)
    block = np.linalg.qr(rng.standard_normal((n, width)))[0]
    for round_ in range(_MOST_RESTARTS):
        basis = np.empty((n, width * min(_BLOCKS if round_ else _FIRST, n // width)))
        images = np.empty_like(basis)
        for start in range(0, basis.shape[1], width):
            here = slice(start, start + width)
            basis[:, here] = block
            images[:, here] = product @ block
            block = _new_directions(images[:, here], basis[:, : here.stop], rng)
        values, rotation = np.linalg.eigh(basis.T @ images)
        best = rotation[:, : -width - 1 : -1]
        values, block = values[: -width - 1 : -1], basis @ best
        residuals = np.linalg.norm(images @ best[:, :k] - block[:, :k] * values[:k], axis=0)
        if residuals.max() <= _RESIDUAL * values[0]:
            return np.maximum(values[:k], 0), block[:, :k]
        block = np.linalg.qr(block)[0]
    return None


def _new_directions(images: Float64Array, known: Float64Array, rng: np.random.Generator) -> Float64Array:
    """Return an orthonormal basis of what is new in the images, random where there is too little of it."""
    block, triangle = np.linalg.qr(images - known @ (known.T @ images))
    spent = np.abs(np.diagonal(triangle)) <= _EXHAUSTED * np.abs(images).max()
    block[:, spent] = rng.standard_normal((len(block), int(spent.sum())))
    # Once leaves rounding in the known directions, twice is enough (Kahan).
    return np.asarray(np.linalg.qr(block - known @ (known.T @ block))[0])


def stays_below(apply: Apply, start: Float64Array, eigenvalues: Float64Array, limit: float) -> bool:
    """Tell whether every eigenvector's part of a vector is shorter than √limit; False where that is unknown.

    `apply` multiplies by a symmetric matrix that has these eigenvalues λᵢ. With the polynomials p₀, p₁, …
    that are orthonormal in the measure Σ cᵢ²·δ(λᵢ), where cᵢ are the unit start vector's parts and whose
    recurrence Lanczos' iteration gives, no point of it carries more than 1/Σ pⱼ(λᵢ)² (the Christoffel
    function; Szegő 1939). That bound falls with each step.
    """
    norm = float(np.linalg.norm(start))
    basis = np.empty((len(start), _MOST_STEPS + 1))
    basis[:, 0] = start / norm
    before, now, total = np.zeros_like(eigenvalues), np.ones_like(eigenvalues), np.ones_like(eigenvalues)
    beta, largest = 0.0, float(eigenvalues.max())
    for step in range(_MOST_STEPS):
        if norm**2 < limit * total.min():
            return True
        known = basis[:, : step + 1]
        image = apply(basis[:, step])
        a = float(basis[:, step] @ image)
        for _ in range(2):
            image = image - known @ (known.T @ image)
        following = float(np.linalg.norm(image))
        if following <= _EXHAUSTED * largest:
            return False
        basis[:, step + 1] = image / following
        before, now = now, np.clip(((eigenvalues - a) * now - beta * before) / following, -_HUGE, _HUGE)
        beta = following
        total += now**2
    return False
