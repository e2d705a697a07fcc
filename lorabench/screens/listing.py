"""The rows of the bench: the runs and adapters of a folder, as a tree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from lorabench.adapters.locate import AdapterLocation, find_adapters
from lorabench.errors import NOT_AS_TAGGED
from lorabench.files import is_there, read_plain
from lorabench.json_text import DEEPEST
from lorabench.runs.history import RUN_FILE, History, read_history
from lorabench.runs.scan import find_runs
from lorabench.text import is_endless_number, natural_path

LARGEST_CONFIG = 100_000


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A run, an adapter, both in one folder, or a folder that holds several; `depth` is its indent.

    `config` is the run.yaml of a run that has no adapter yet, as it stands there; `problem`, why it has none.
    """

    path: Path
    name: str
    depth: int
    location: AdapterLocation | None = None
    history: History | None = None
    size: int = 0
    config: Mapping[str, object] = field(default_factory=dict)
    problem: str = ""

    @property
    def run(self) -> Path:
        """Where its run is, if it has one: of a checkpoint the folder above."""
        saved = self.history is not None and self.history.state == "checkpoint"
        return self.path.parent if saved else self.path

    @property
    def recorded(self) -> bool:
        """Whether a training of its run has been recorded, by whatever tool, or goes on."""
        return self.history is not None and self.history.state != "configured"

    @property
    def rank(self) -> int | None:
        """The rank of the adapter, or of the one to come."""
        if self.location is not None:
            return self.location.rank
        rank = self.config.get("lora_r")
        return rank if isinstance(rank, int) else None

    @property
    def targets(self) -> tuple[str, ...]:
        """The target modules of the adapter, or of the one to come."""
        if self.location is not None:
            return self.location.target_modules
        targets = self.config.get("lora_target_modules")
        listed = targets if isinstance(targets, list) else [targets]
        # Aliases can make of a few bytes what, written down, has no end.
        return tuple(target for target in listed if isinstance(target, str) and target)

    @property
    def state(self) -> str:
        """What the row is, or what its files say of its run, in one word."""
        if self.history is not None and self.history.state == "training":
            return "training"  # whatever an adapter is that it writes just now
        if self.location is not None and any(f.level == "error" for f in self.location.findings):
            return "unreadable"
        if self.history is not None:
            return "unreadable" if self.problem and self.history.state == "configured" else self.history.state
        return "folder" if self.location is None else "adapter"


def list_folder(folder: Path) -> list[Row]:
    """Return the rows of `folder`, each below the row whose folder it lies in."""
    locations = {location.path: location for location in find_adapters(folder)}
    found = {*locations, *find_runs(folder)}
    rows: list[Row] = []
    open_rows: list[Row] = []
    for path in sorted(found | _branches(found, folder), key=natural_path):
        while open_rows and not path.is_relative_to(open_rows[-1].path):
            open_rows.pop()
        above = open_rows[-1].path if open_rows else folder
        name = str(path.relative_to(above)) if path != above else path.absolute().name
        location = locations.get(path)
        size = _size(location.files) if location else 0
        config, problem = ({}, "") if location else _config(path / RUN_FILE)
        name = name.removesuffix(".safetensors")
        row = Row(path, name, len(open_rows), location, read_history(path), size, config, problem)
        rows.append(row)
        open_rows.append(row)
    return rows


def renewed(rows: Iterable[Row], news: Mapping[Path, History]) -> tuple[list[Row], list[Path]]:
    """Return the rows with the news of their runs, and the runs that hold more now: they saved or ended."""
    fresh: list[Row] = []
    more: list[Path] = []
    for row in rows:
        now, before = news.get(row.path), row.history
        if now is not None and before is not None:
            ended = before.state == "training" and now.state != "training"
            if ended or now.saved_step != before.saved_step:
                more.append(row.path)
            row = replace(row, history=now)
        fresh.append(row)
    return fresh, more


def _branches(found: set[Path], folder: Path) -> set[Path]:
    """The folders between `folder` and what was found from which more than one way leads on."""
    ways: Counter[Path] = Counter()
    counted = {folder}
    for path in found:
        while path not in counted and path.is_relative_to(folder):
            counted.add(path)
            path = path.parent
            ways[path] += 1
    return {parent for parent, number in ways.items() if number > 1 and parent != folder}


def _config(path: Path) -> tuple[Mapping[str, object], str]:
    """What a run.yaml says; nothing, and a problem, where it cannot be read: the Config screen tells why."""
    import yaml

    if not is_there(path):
        return {}, ""
    try:
        text = read_plain(path, LARGEST_CONFIG)
        config = "" if _is_hostile(text) else yaml.load(text, Loader=yaml.CSafeLoader)
    except (OSError, RecursionError, yaml.YAMLError, *NOT_AS_TAGGED):
        config = ""
    if config is None or isinstance(config, dict):
        return config or {}, ""
    return {}, f"{RUN_FILE} cannot be read: 2 says where."


def _is_hostile(text: bytes) -> bool:
    """Say whether a YAML text is so deep that the loader in C would crash, or has numbers without end."""
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        endless = isinstance(event, yaml.ScalarEvent) and is_endless_number(event.value)
        if depth > DEEPEST or endless:
            return True
    return False


def _size(files: Iterable[Path]) -> int:
    try:
        return sum(file.stat().st_size for file in files)
    except OSError:
        return 0
