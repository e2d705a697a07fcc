"""Open an adapter: a folder, a file, a state dict, or a PEFT model in memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorabench.adapters.config import read_config
from lorabench.adapters.experts import name_targets
from lorabench.adapters.kinds import check_peft_type
from lorabench.adapters.layers import build_layers
from lorabench.adapters.model import Adapter
from lorabench.adapters.pairs import pair_tensors
from lorabench.adapters.scaling import scalings
from lorabench.adapters.tensors import read_safetensors
from lorabench.text import visible


def open_adapter(source: str | os.PathLike[str]) -> Adapter:
    path = Path(source)
    folder = path if path.is_dir() else path.parent
    file = path if path.is_file() else path / "adapter_model.safetensors"
    config, findings = read_config(folder)
    label = visible(path.name)
    check_peft_type(config, label)
    tensors, metadata = read_safetensors(file)
    pairs, others = pair_tensors(tensors)
    name_targets(pairs, config)
    settings, noticed = scalings(pairs, pairs[0].format, config, metadata)
    layers = build_layers(pairs, settings, config)
    return Adapter(
        path.name,
        path,
        pairs[0].format,
        config,
        tuple(layers),
        tuple(others),
        (*findings, *noticed),
        (file,),
        metadata,
    )
