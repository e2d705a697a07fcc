"""Weights split over several files: the index that lists them, or their own numbering."""

from __future__ import annotations

import re
from pathlib import Path

from lorabench.adapters.config import mapping
from lorabench.errors import Malformed, NotFound
from lorabench.files import is_file, read_plain
from lorabench.json_text import parse_json
from lorabench.text import visible

INDEX = ".index.json"
LARGEST_INDEX = 16_000_000
"""Bytes: ten times what the largest models' indices take."""
_NUMBERED = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})(?P<suffix>\.[^.]+)")


def shards_of(path: Path) -> list[Path]:
    """Return all files that the weights at `path` are split into: itself alone, mostly.

    `path` may be an index (`….index.json`, with a weight_map) or one shard of several, as in
    `adapter_model-00001-of-00002.safetensors`.

    Raises:
        NotFound: a shard is missing (the message names it).
        Malformed: the index cannot be read, or names a file outside its folder.
    """
    numbered = _NUMBERED.fullmatch(path.name)
    if path.name.endswith(INDEX):
        names = _listed(path)
    elif numbered:
        count = numbered["count"]
        names = [
            f"{numbered['stem']}-{n:05d}-of-{count}{numbered['suffix']}" for n in range(1, int(count) + 1)
        ]
    else:
        return [path]
    for name in names:
        if not is_file(path.parent / name):
            raise NotFound(f"The shard {visible(name)} is missing.", f"It belongs to {visible(path.name)}.")
    return [path.parent / name for name in names]


def _listed(index: Path) -> list[str]:
    label = visible(index.name)
    try:
        content = parse_json(read_plain(index, LARGEST_INDEX))
    except (OSError, ValueError) as error:
        raise Malformed(f"{label} cannot be read: {visible(error)}.") from error
    names = sorted({str(name) for name in mapping(mapping(content).get("weight_map")).values()})
    if not names:
        raise Malformed(f"{label} lists no files.", "Its weight_map should name a file for each tensor.")
    for name in names:
        if Path(name).name != name:
            raise Malformed(f"{label} names {visible(name)}, which is not in its folder.")
    return names
