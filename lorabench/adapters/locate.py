"""Where adapters are: which files hold one's weights, and which adapters lie below a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lorabench.adapters.config import CONFIG_NAME, LoraSettings, finite_number, mapping, read_config
from lorabench.adapters.model import Finding, Format
from lorabench.adapters.patterns import PatternMatcher
from lorabench.adapters.shards import INDEX, shards_of
from lorabench.errors import AdapterError, NotFound
from lorabench.files import is_file, is_folder, real, why_not_there
from lorabench.text import natural_path, visible

_MAX_FOLDERS = 20_000
_HEADER_PEEK = 1_000_000
# The names that the libraries themselves write, best first; a folder with one of them is an adapter.
_MAIN: dict[str, Format] = {
    "adapter_model.safetensors": "PEFT",
    f"adapter_model.safetensors{INDEX}": "PEFT",
    "adapter_model.bin": "PEFT",
    f"adapter_model.bin{INDEX}": "PEFT",
    "adapters.safetensors": "MLX",
    "pytorch_lora_weights.safetensors": "diffusers",
    "pytorch_lora_weights.bin": "diffusers",
}
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_WEIGHTS = (".safetensors", *_PICKLES)
_SHARD = re.compile(r".+-\d{5}-of-\d{5}\..+")
# What a name in the header of a LoRA file looks like, by format; the header alone is read.
_MARKS: tuple[tuple[Format, re.Pattern[bytes]], ...] = (
    ("kohya", re.compile(rb'\.lora_(down|up)\.weight"')),
    ("diffusers", re.compile(rb'(_lora|\.lora|lora_linear_layer)\.(down|up)\.weight"')),
    ("MLX", re.compile(rb'\.lora_[ab]"')),
    ("PEFT", re.compile(rb"\.lora_(embedding_)?[AB][.\"]")),
    ("torchtune", re.compile(rb'\.lora_[ab]\.weight"')),
    ("cloneofsimo", re.compile(rb'"unet:\d+:(up|down)"')),
    ("unnamed pairs", re.compile(rb'"w_a_\d+"')),
)


@dataclass(frozen=True, slots=True)
class AdapterLocation:
    """An adapter on disk, known by names and adapter_config.json alone; no tensor was read.

    `path` is what `open_adapter` takes: the folder, or a file that is not its folder's only adapter. What
    cannot be opened is listed too, with an "error" finding: a folder that may not be read, a configuration
    without weights; it then has no `files`.
    """

    path: Path
    files: tuple[Path, ...] = ()
    format: Format | None = None
    peft_type: str | None = None
    rank: int | None = None
    lora_alpha: float | None = None
    target_modules: tuple[str, ...] = ()
    base_model: str | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def name(self) -> str:
        """The folder's or the file's own name."""
        return _own_name(self.path)


def _own_name(path: Path) -> str:
    """Name `.` and `..` by the folder that they are."""
    return path.name if path.name not in ("", "..") else real(path).name or str(path)


def locate(path: Path) -> AdapterLocation:
    """Find the weights that a user means by a file or a folder.

    A folder may hold them under any usual name, or be the parent of exactly one folder that does. A base
    model's `model.safetensors` beside an adapter is never taken for it.

    Raises:
        NotFound: nothing there, or more than one adapter to choose from (the message names them).
        Malformed: an index that cannot be read.
    """
    label = visible(_own_name(path))
    if is_file(path):
        return _at_file(path)
    if not is_folder(path):
        raise NotFound(*why_not_there(path))
    try:
        here = list(_adapters_in(path))
    except OSError as error:
        raise NotFound(f"{label} cannot be read: {error.strerror or visible(error)}.") from error
    candidates = [found for found in here if found.files]
    candidates = candidates or [found for found in find_adapters(path, max_depth=3) if found.files]
    if len(candidates) == 1 or (candidates and candidates[0].path == path):
        return candidates[0]
    if candidates:
        candidates.sort(key=lambda found: natural_path(found.path))
        names = [visible(found.path.relative_to(path)) for found in candidates]
        listed = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        raise NotFound(f"{label} holds {len(names)} adapters: {listed}.", "Open one of them.")
    if here:
        raise NotFound(f"{label}: {here[0].findings[0].message}", "Was the save interrupted?")
    raise NotFound(
        f"No LoRA weights in {label} nor below it.", f"Looked for {', '.join(list(_MAIN)[:3])} and the like."
    )


def find_adapters(
    folder: Path, *, max_depth: int = 6, max_folders: int = _MAX_FOLDERS
) -> list[AdapterLocation]:
    """List the adapters in a folder and below it, in the order of their paths.

    Reads names, configurations, and of files with names of their own the safetensors header. Hidden
    folders are left out; a folder that links back to one above it is visited once.
    """
    found: list[AdapterLocation] = []
    seen: set[tuple[int, int]] = set()
    waiting = [(Path(folder), 0)]
    while waiting:
        here, depth = waiting.pop()
        try:
            status = here.stat()
            identity = (status.st_dev, status.st_ino)
            if identity in seen:
                continue
            if len(seen) >= max_folders:
                found.append(_broken(Path(folder), f"Only the first {max_folders} folders were searched."))
                break
            seen.add(identity)
            found.extend(_adapters_in(here))
            if depth < max_depth:
                waiting.extend((below, depth + 1) for below in _folders_in(here))
        except OSError as error:
            found.append(_broken(here, f"It cannot be read: {error.strerror or visible(error)}."))
    return sorted(found, key=lambda location: natural_path(location.path))


def _folders_in(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return [folder / entry.name for entry in entries if entry.name[0] != "." and _is(entry.is_dir)]


def _is(kind: Callable[[], bool]) -> bool:
    """Ask an entry for its kind; a link that leads nowhere, or to itself, has none."""
    try:
        return kind()
    except OSError:
        return False


def _adapters_in(folder: Path) -> Iterator[AdapterLocation]:
    """The adapters whose files lie in this very folder: that of the folder first."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.name[0] != "." and _is(entry.is_file))
    main = next((name for name in _MAIN if name in names), None)
    shards = [name for name in names if name.startswith("adapter_model-") and _SHARD.fullmatch(name)]
    strays: list[tuple[Path, Format | None]] = []
    for name in names:
        try:
            strays.extend(_stray(folder / name))
        except OSError as error:
            yield _broken(folder / name, f"It cannot be read: {error.strerror or visible(error)}.")
    if main or shards:
        beside = [name for name in names if name in _MAIN and name != main and not name.endswith(INDEX)]
        for location in _described(folder, folder / (main or shards[0]), _MAIN.get(main or "", "PEFT")):
            yield replace(location, findings=location.findings + tuple(_unread(beside)))
    elif len(strays) == 1:
        file, written_by = strays.pop()
        yield from _described(folder, file, written_by)
    elif CONFIG_NAME in names and not strays:
        yield _broken(folder, f"{CONFIG_NAME} lies here without weights.")
    for file, written_by in strays:
        yield from _described(file, file, written_by)


def _unread(names: Sequence[str]) -> Iterator[Finding]:
    for name in names:
        yield Finding(
            "info", f"{name} lies beside these weights and was not read.", "Open it by its own path."
        )


def _stray(file: Path) -> Iterator[tuple[Path, Format | None]]:
    """Tell whether a file of no usual name holds LoRA weights."""
    name = file.name
    if name in _MAIN or _SHARD.fullmatch(name) or name.startswith(("model.", "pytorch_model.", "optimizer.")):
        return
    if name.endswith(_PICKLES):
        if re.search(r"lora|adapter", name, re.IGNORECASE):
            yield file, None
    elif name.endswith(".safetensors"):
        with file.open("rb") as opened:
            header = opened.read(_HEADER_PEEK)
        length = int.from_bytes(header[:8], "little")
        written_by = next((form for form, mark in _MARKS if mark.search(header[: 8 + length])), None)
        if written_by:
            yield file, written_by


def _at_file(path: Path) -> AdapterLocation:
    name = path.name
    if name == CONFIG_NAME:
        return locate(path.parent)
    if not name.endswith((*_WEIGHTS, INDEX)):
        raise NotFound(
            f"{visible(name)} is no file of weights.", f"lorabench opens folders and {', '.join(_WEIGHTS)}."
        )
    return _describe(path, shards_of(path), _MAIN.get(name))


def _described(path: Path, first: Path, written_by: Format | None) -> Iterator[AdapterLocation]:
    try:
        yield _describe(path, shards_of(first), written_by)
    except AdapterError as error:
        yield _broken(path, str(error))


def _describe(path: Path, files: Sequence[Path], written_by: Format | None) -> AdapterLocation:
    """Add what adapter_config.json says, whatever it holds."""
    config, findings = read_config(files[0].parent)
    of_mlx = mapping(config.get("lora_parameters"))
    rank = finite_number(config.get("r", of_mlx.get("rank")))
    targets = config.get("target_modules")
    targets = [targets] if isinstance(targets, str) else targets if isinstance(targets, list) else []
    base_model = config.get("base_model_name_or_path") or config.get("model")
    peft_type = config.get("peft_type")
    if written_by == "PEFT" and config and peft_type in (None, "LORA"):
        findings += _useless_numbers(config)
    return AdapterLocation(
        path=path,
        files=tuple(files),
        format=written_by,
        peft_type=str(peft_type) if peft_type else None,
        rank=int(rank) if rank is not None else None,
        lora_alpha=finite_number(config.get("lora_alpha")),
        target_modules=tuple(str(target) for target in targets),
        base_model=str(base_model) if base_model else None,
        findings=tuple(findings),
    )


def _useless_numbers(config: Mapping[str, Any]) -> list[Finding]:
    """What opening the adapter would say of r and lora_alpha; the patterns need its modules."""
    numbers = {name: config[name] for name in ("r", "lora_alpha") if name in config}
    return LoraSettings(numbers, [], PatternMatcher()).findings


def _broken(path: Path, message: str) -> AdapterLocation:
    return AdapterLocation(path, findings=(Finding("error", message),))
