"""The columns of every table of layers, declared once: tables, CSV, JSON, sort, filter and heat grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lorabench.spectra.model import Alpha, LayerSpectrum
from lorabench.spectra.verdict import written_interval
from lorabench.text import visible

Value = str | int | float | None
MISSING = "—"


@dataclass(frozen=True, slots=True)
class Column:
    """One property of a layer: how it is called, what it is, how it is written.

    `name` is the ascii word of filters, `--sort`, CSV and JSON; `title` stands over a table; `aliases`
    are other words for it in a filter. `value` gives None where the layer has no such number, never
    NaN or infinity. `width` is enough for every text but a module's name.
    """

    name: str
    title: str
    help: str
    width: int
    numeric: bool
    read: Callable[[LayerSpectrum], Value]
    write: Callable[[LayerSpectrum], str] | None = None
    aliases: tuple[str, ...] = ()

    def value(self, spectrum: LayerSpectrum) -> Value:
        """Return the number or text of this column, None where the layer has none."""
        value = self.read(spectrum)
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return visible(value) if isinstance(value, str) else value

    def text(self, spectrum: LayerSpectrum) -> str:
        """Return what a table shows: `—` where there is no value."""
        value = self.value(spectrum)
        if value is None:
            return MISSING
        return self.write(spectrum) if self.write else format_value(value)


def format_value(value: Value) -> str:
    """Write a value in a few characters: four significant digits or more, `—` for None."""
    if value is None:
        return MISSING
    if not isinstance(value, float):
        return str(value)
    whole = abs(value) < 1e6 and (value.is_integer() or abs(value) >= 1e4)
    return f"{value:.0f}" if whole else f"{value:#.4g}".rstrip(".")


def _text(
    name: str, title: str, width: int, read: Callable[[LayerSpectrum], Value], help: str, *aliases: str
) -> Column:
    return Column(name, title, help, width, numeric=False, read=read, aliases=aliases)


def _number(
    name: str, title: str, width: int, read: Callable[[LayerSpectrum], Value], help: str, *aliases: str
) -> Column:
    return Column(name, title, help, width, numeric=True, read=read, aliases=aliases)


def _digits(
    name: str, title: str, width: int, digits: int, read: Callable[[LayerSpectrum], Value], help: str
) -> Column:
    def write(spectrum: LayerSpectrum) -> str:
        return f"{read(spectrum):.{digits}f}"

    return Column(name, title, help, width, numeric=True, read=read, write=write)


def _of_alpha(read: Callable[[Alpha], float]) -> Callable[[LayerSpectrum], Value]:
    return lambda spectrum: None if spectrum.alpha is None else read(spectrum.alpha)


def _readable(read: Callable[[LayerSpectrum], float]) -> Callable[[LayerSpectrum], Value]:
    """Give no number for a layer that could not be read: its spectrum is empty."""
    return lambda spectrum: read(spectrum) if spectrum.singular_values.size else None


def _energy(read: Callable[[LayerSpectrum], int]) -> Callable[[LayerSpectrum], Value]:
    """Give no rank for a layer without energy: nothing keeps 90 % of nothing."""
    return lambda spectrum: read(spectrum) if spectrum.frobenius_norm > 0 else None


def pick(columns: Sequence[Column], names: str) -> tuple[Column, ...]:
    """Return the columns of these names, in the order of the names."""
    return tuple(next(column for column in columns if column.name == name) for name in names.split())


def _alpha_with_interval(spectrum: LayerSpectrum) -> str:
    alpha = spectrum.alpha
    assert alpha is not None
    return f"{alpha.fit.alpha:.2f} {written_interval(alpha.low, alpha.high)}"


def _shape(spectrum: LayerSpectrum) -> str:
    out_features, in_features = _part_shape(spectrum)
    return f"{out_features}×{in_features}"


def _part_shape(spectrum: LayerSpectrum) -> tuple[int, int]:
    layer = spectrum.layer
    if spectrum.part == "A":
        return layer.rank, layer.shape[1]
    return (layer.shape[0], layer.rank) if spectrum.part == "B" else layer.shape


def _findings(spectrum: LayerSpectrum) -> str | None:
    return "; ".join(finding.message for finding in spectrum.findings) or None


COLUMNS: tuple[Column, ...] = (
    _number(
        "layer",
        "layer",
        5,
        lambda s: s.layer.layer_index,
        "Depth: the first number in the module's path.",
        "depth",
    ),
    _text(
        "module",
        "module",
        40,
        lambda s: s.layer.name,
        "The module's path, with the number of the expert.",
    ),
    _text(
        "type",
        "type",
        16,
        lambda s: s.layer.module_type,
        "Last part of the module's path: q_proj, to_out.",
        "module_type",
    ),
    _text("part", "part", 4, lambda s: s.part, "What the numbers are of: ΔW, or one of its factors A and B."),
    _text("shape", "shape", 12, _shape, "Rows × columns, out × in for ΔW."),
    _text(
        "adapter",
        "adapter",
        10,
        lambda s: s.layer.adapter,
        "The adapter's name: a file or a model may hold several.",
    ),
    _text("kind", "kind", 9, lambda s: s.layer.kind, "linear, conv, embedding or expert."),
    _number("r", "r", 4, lambda s: s.layer.rank, "Rank of the factors.", "rank"),
    _number(
        "lora_alpha",
        "lora_alpha",
        10,
        lambda s: s.layer.lora_alpha,
        "Scaling hyper-parameter of the configuration.",
    ),
    _number(
        "scaling",
        "scaling",
        8,
        lambda s: s.layer.scaling,
        "s in ΔW = s·B·A: lora_alpha/r, or lora_alpha/√r for rsLoRA.",
    ),
    _number("parameters", "parameters", 11, lambda s: s.layer.parameters, "How many numbers A and B hold."),
    _number(
        "norm",
        "‖ΔW‖",
        9,
        _readable(lambda s: s.frobenius_norm),
        "Frobenius norm √Σσ²: how large the update is.",
        "frobenius_norm",
    ),
    _number(
        "sigma1",
        "σ₁",
        9,
        _readable(lambda s: s.spectral_norm),
        "Spectral norm: the largest singular value.",
        "spectral_norm",
    ),
    _number("norm_a", "‖A‖", 9, lambda s: s.norm_a, "Frobenius norm of A, unscaled."),
    _number(
        "norm_b",
        "‖B‖",
        9,
        lambda s: s.norm_b,
        "Frobenius norm of B, unscaled; 0: nothing was learned.",
    ),
    _digits(
        "stable_rank",
        "stable rank",
        11,
        2,
        lambda s: s.stable_rank,
        "Σσ²/σ₁²: how many directions carry the update.",
    ),
    _digits(
        "effective_rank",
        "eff. rank",
        9,
        2,
        lambda s: s.effective_rank,
        "exp of the entropy of σ/Σσ (Roy & Vetterli 2007).",
    ),
    _number("rank90", "r 90 %", 6, _energy(lambda s: s.rank90), "Rank that keeps 90 % of the energy Σσ²."),
    _number("rank95", "r 95 %", 6, _energy(lambda s: s.rank95), "Rank that keeps 95 % of the energy Σσ²."),
    _number("rank99", "r 99 %", 6, _energy(lambda s: s.rank99), "Rank that keeps 99 % of the energy Σσ²."),
    Column(
        "alpha",
        "α [90 % interval]",
        "Power-law exponent of the eigenvalues σ².",
        20,
        numeric=True,
        read=_of_alpha(lambda a: a.fit.alpha),
        write=_alpha_with_interval,
        aliases=("α",),
    ),
    _digits("alpha_low", "α low", 6, 2, _of_alpha(lambda a: a.low), "Lower end of alpha's 90 % interval."),
    _digits("alpha_high", "α high", 6, 2, _of_alpha(lambda a: a.high), "Upper end of alpha's 90 % interval."),
    _digits("sigma", "σ(α)", 6, 2, _of_alpha(lambda a: a.fit.sigma), "Standard error of alpha: (α − 1)/√n."),
    _number(
        "tail",
        "n",
        4,
        _of_alpha(lambda a: a.fit.tail),
        "How many eigenvalues lie in the fitted tail, λ ≥ x_min.",
        "n",
    ),
    _number(
        "points",
        "points",
        6,
        _of_alpha(lambda a: a.fit.points),
        "How many eigenvalues there are above numerical noise.",
    ),
    _digits(
        "ks",
        "KS",
        6,
        3,
        _of_alpha(lambda a: a.fit.ks),
        "Kolmogorov-Smirnov distance of the tail from the fit.",
    ),
    _number(
        "xmin",
        "x_min",
        9,
        _of_alpha(lambda a: a.fit.xmin),
        "Where the fitted tail begins, an eigenvalue λ = σ².",
    ),
    _number("xmax", "x_max", 9, _of_alpha(lambda a: a.fit.xmax), "The largest eigenvalue."),
    _digits(
        "null_low",
        "null low",
        8,
        2,
        _of_alpha(lambda a: a.null_low),
        "5 % point of alpha of an untrained B·A of this shape and rank.",
    ),
    _digits(
        "null_high",
        "null high",
        9,
        2,
        _of_alpha(lambda a: a.null_high),
        "95 % point of alpha of an untrained B·A of this shape and rank.",
    ),
    _text(
        "verdict",
        "verdict",
        12,
        lambda s: s.verdict.word,
        "What became of the layer, in a word.",
    ),
    _text("reason", "reason", 60, lambda s: s.verdict.reason, "Why the verdict is what it is."),
    _text("findings", "findings", 60, _findings, "What else a user should know of this layer."),
)

LAYER_COLUMNS: tuple[Column, ...] = pick(
    COLUMNS,
    "layer module shape r scaling norm sigma1 stable_rank effective_rank rank90 alpha tail verdict",
)
