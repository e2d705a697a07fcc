"""`lorabench describe`: what is in the file, from its header alone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lorabench.adapters.model import Adapter, Finding, LoraLayer, MissingTensor, OtherTensor, Tensor
from lorabench.cli.adapter import adapter_at
from lorabench.cli.output import Field, Page
from lorabench.spectra.columns import Value, format_value
from lorabench.spectra.report import adapter_dict, dump_csv, dump_json
from lorabench.text import human_bytes, shorten, visible

MOST_OTHERS = 12
LONGEST_NAME = 500


def describe(path: Path, page: Page, *, factors: bool, style: str) -> str:
    """Return the description of an adapter as `style` says: text, json or csv; no weight is read."""
    adapter = adapter_at(path)
    rows = [
        row for layer in adapter.layers for row in (_factor_rows(layer) if factors else [_layer_row(layer)])
    ]
    if style == "csv":
        return dump_csv(list(rows[0]) if rows else [], [list(row.values()) for row in rows])
    if style == "json":
        return dump_json(
            {
                "adapter": adapter_dict(adapter),
                "layers": rows,
                "other_tensors": [
                    {"role": other.role, **_tensor_row(other.tensor)} for other in adapter.others
                ],
            }
        )
    _fill(page, adapter, rows)
    return page.text()


def _tensor_row(tensor: Tensor) -> dict[str, Value]:
    shape = "×".join(map(str, tensor.shape)) or "scalar"
    return {"tensor": visible(tensor.name), "shape": shape, "dtype": tensor.dtype, "bytes": tensor.nbytes}


def _layer_row(layer: LoraLayer) -> dict[str, Value]:
    return {
        "layer": layer.layer_index,
        "module": visible(layer.name),
        "adapter": visible(layer.adapter),
        "kind": layer.kind,
        "shape": f"{layer.shape[0]}×{layer.shape[1]}",
        "r": layer.rank,
        "lora_alpha": layer.lora_alpha,
        "scaling": layer.scaling,
        "parameters": layer.parameters,
        "dtype": "/".join(dict.fromkeys((layer.source_a.dtype, layer.source_b.dtype))),
        "notes": _notes(layer),
    }


def _notes(layer: LoraLayer) -> str | None:
    flags = {"DoRA": layer.dora, "rsLoRA": layer.rslora, "transposed": layer.transposed}
    return ", ".join(name for name, is_so in flags.items() if is_so) or None


def _factor_rows(layer: LoraLayer) -> list[dict[str, Value]]:
    sizes = {"A": (layer.rank, layer.shape[1]), "B": (layer.shape[0], layer.rank)}
    return [
        {
            "layer": layer.layer_index,
            "module": visible(layer.name),
            "adapter": visible(layer.adapter),
            "factor": factor,
            "r": layer.rank,
            **_tensor_row(tensor),
            "parameters": sizes[factor][0] * sizes[factor][1],
        }
        for factor, tensor in (("A", layer.source_a), ("B", layer.source_b))
    ]


_KEEP = {
    "module": 9,
    "adapter": 9,
    "factor": 9,
    "r": 8,
    "shape": 7,
    "layer": 6,
    "scaling": 5,
    "parameters": 4,
    "dtype": 3,
}
_TEXT = {"module", "adapter", "kind", "shape", "dtype", "notes", "tensor", "factor"}


def _fill(page: Page, adapter: Adapter, rows: list[dict[str, Value]]) -> None:
    page.pairs(adapter_facts(adapter))
    if rows:
        page.line()
        names = [name for name in rows[0] if any(row[name] is not None for row in rows)]
        if not adapter.is_several:
            names.remove("adapter")
        page.table(
            [
                Field(
                    name,
                    [format_value(row[name]) for row in rows],
                    right=name not in _TEXT,
                    elastic=name == "module",
                    keep=_KEEP.get(name, 0),
                )
                for name in names
            ]
        )
    add_findings(page, all_findings(adapter))
    if adapter.others:
        _fill_others(page, adapter.others)


def _fill_others(page: Page, others: tuple[OtherTensor, ...]) -> None:
    """Add the tensors that are no LoRA pairs: a terminal shows the first few, a file or pipe all."""
    count = MOST_OTHERS if page.terminal else len(others)
    rows = [{"role": other.role, **_tensor_row(other.tensor)} for other in others[:count]]
    page.line()
    page.line(
        f"{len(others)} other tensors, {human_bytes(sum(other.tensor.nbytes for other in others))}", "bold"
    )
    page.table(
        [
            Field(
                name,
                [format_value(row[name]) for row in rows],
                right=name == "bytes",
                elastic=name == "tensor",
            )
            for name in rows[0]
        ]
    )
    if count < len(others):
        page.line(f"… and {len(others) - count} more; with --json they are all there.", "dim")


def adapter_facts(adapter: Adapter) -> list[tuple[str, str]]:
    """Return what an adapter is, as pairs of a name and a text."""
    layers = adapter.layers
    scalings = sorted({layer.scaling for layer in layers if layer.scaling is not None})
    lora_alphas = sorted({layer.lora_alpha for layer in layers if layer.lora_alpha is not None})
    sources = (source for layer in layers for source in (layer.source_a, layer.source_b))
    dtypes = dict.fromkeys(source.dtype for source in sources if not isinstance(source, MissingTensor))
    size = sum(file.stat().st_size for file in adapter.files)
    facts = [
        ("adapter", visible(adapter.name if adapter.path is None else adapter.path)),
        ("format", f"{adapter.format} LoRA{_variants(layers)}"),
        ("base", visible(shorten(adapter.base_model or "not named", LONGEST_NAME))),
        ("r", _listed(adapter.ranks)),
        ("lora_alpha", _listed(lora_alphas) or "unknown"),
        ("scaling", _listed(scalings) or "unknown: counted as 1"),
        ("targets", " ".join(map(visible, adapter.target_modules))),
        ("layers", f"{len(layers)}, with {adapter.parameters:,} parameters in A and B"),
        ("dtype", " ".join(dtypes)),
        ("files", f"{', '.join(visible(file.name) for file in adapter.files)} ({human_bytes(size)})"),
    ]
    return [(name, text) for name, text in facts if text]


def _variants(layers: tuple[LoraLayer, ...]) -> str:
    kinds = [kind for kind in dict.fromkeys(layer.kind for layer in layers) if kind != "linear"]
    flags = [("DoRA", any(layer.dora for layer in layers)), ("rsLoRA", any(layer.rslora for layer in layers))]
    return "".join(f", {word}" for word in [*kinds, *(name for name, is_so in flags if is_so)])


def all_findings(adapter: Adapter) -> list[tuple[str, Finding]]:
    """Return the adapter's findings and its layers', each with the layer's name ("" for the adapter)."""
    return [("", finding) for finding in adapter.findings] + [
        (layer.name, finding) for layer in adapter.layers for finding in layer.findings
    ]


def _listed(numbers: list[float] | tuple[int, ...]) -> str:
    if len(numbers) > 8:
        return f"{numbers[0]:g} … {numbers[-1]:g} ({len(numbers)} different)"
    return " ".join(f"{number:g}" for number in numbers)


def add_findings(page: Page, findings: Iterable[tuple[str, Finding]]) -> None:
    """Add findings with the layer they are of ("" for the adapter); the same one of many layers once."""
    layers: dict[Finding, list[str]] = {}
    for name, finding in findings:
        layers.setdefault(finding, []).append(visible(name))
    if layers:
        page.pairs((finding.level, _sentence(finding, names)) for finding, names in layers.items())


def _sentence(finding: Finding, names: list[str]) -> str:
    more = f" and {len(names) - 1} more layers" if len(names) > 1 else ""
    where = f"{names[0]}{more}: " if names[0] else ""
    return f"{where}{visible(finding.message)} {visible(finding.hint)}".rstrip()
