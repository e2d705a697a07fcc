"""WeightWatcher's columns, in its own names, for tables of layers and their filters."""

from __future__ import annotations

from functools import lru_cache

from lorabench.spectra.columns import COLUMNS, Column, pick
from lorabench.spectra.model import LayerSpectrum
from lorabench.spectra.weightwatcher import Row, parity_row


@lru_cache(maxsize=1024)
def _parity(spectrum: LayerSpectrum) -> Row:
    """Fit once for all the WeightWatcher columns of a layer: a table asks for them one by one."""
    return parity_row(spectrum, layer_id=0)


def _weightwatcher(name: str, width: int, help: str, numeric: bool = True) -> Column:
    return Column(name, name, help, max(width, len(name)), numeric, read=lambda s: _parity(s)[name])


PARITY_COLUMNS: tuple[Column, ...] = (
    _weightwatcher("name", 40, "The layer's name as WeightWatcher writes it.", numeric=False),
    _weightwatcher("alpha", 7, "Power-law exponent of unscaled B·A by WeightWatcher's fit."),
    _weightwatcher("D", 7, "Kolmogorov-Smirnov distance of the tail from the fit."),
    _weightwatcher("sigma", 7, "(alpha − 1)/√(points in the tail)."),
    _weightwatcher("num_pl_spikes", 13, "How many eigenvalues are ≥ xmin."),
    _weightwatcher("num_evals", 9, "How many eigenvalues there are: r."),
    _weightwatcher("xmin", 9, "Where the fitted tail begins."),
    _weightwatcher("xmax", 9, "The largest eigenvalue above the cut."),
    _weightwatcher("stable_rank", 11, "Σλ / max λ."),
    _weightwatcher("entropy", 8, "Entropy of λ/Σλ, divided by ln(matrix_rank)."),
    _weightwatcher("alpha_weighted", 14, "alpha · log10(max λ)."),
    _weightwatcher("log_alpha_norm", 14, "log10 Σ λ^alpha."),
    _weightwatcher("log_norm", 9, "log10 Σλ."),
    _weightwatcher("log_spectral_norm", 9, "log10 max λ."),
    _weightwatcher("norm", 9, "Σλ: the squared Frobenius norm of unscaled B·A."),
    _weightwatcher("spectral_norm", 9, "max λ (WeightWatcher's name for the largest eigenvalue)."),
    _weightwatcher("lambda_max", 9, "max λ."),
    _weightwatcher("sv_max", 9, "The largest singular value of unscaled B·A."),
    _weightwatcher("sv_min", 9, "The smallest of the r singular values of unscaled B·A."),
    _weightwatcher("M", 6, "The smaller side of B·A."),
    _weightwatcher("N", 6, "The larger side of B·A."),
    _weightwatcher("Q", 7, "N / M."),
    _weightwatcher("matrix_rank", 11, "How many singular values exceed max s · N · 2.22e-16."),
    _weightwatcher("rank_loss", 9, "r − matrix_rank."),
    _weightwatcher("weak_rank_loss", 9, "How many eigenvalues are < 1e-6."),
    _weightwatcher(
        "warning", 13, "over-trained where alpha < 2, under-trained where alpha > 6.", numeric=False
    ),
    _weightwatcher(
        "status", 8, "success, or failed where fewer than two eigenvalues exceed 1e-5.", numeric=False
    ),
)

PARITY_VIEW: tuple[Column, ...] = pick(
    (*PARITY_COLUMNS, *COLUMNS),
    "layer module alpha D sigma num_pl_spikes num_evals xmin stable_rank entropy alpha_weighted "
    "log_alpha_norm log_norm log_spectral_norm warning status",
)
