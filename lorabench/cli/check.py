"""`lorabench check`: will this configuration train? Here torch is needed, and loaded."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from lorabench.cli.output import Page, emit
from lorabench.files import is_folder
from lorabench.runs.history import RUN_FILE
from lorabench.spectra.report import dump_json
from lorabench.text import visible
from lorabench.training.preflight.finding import Finding, Level

if TYPE_CHECKING:
    from lorabench.training.config.run_config import RunConfig

MARKS: dict[Level, str] = {"ok": "✔", "advice": "·", "warning": "▲", "error": "✘"}
STYLES: dict[Level, str] = {"ok": "green", "advice": "cyan", "warning": "yellow", "error": "bold red"}
CHECK_WIDTH = 9


def check(path: Path, *, advice: bool, json: bool) -> int:
    """Print what the preflight finds, each finding as it is found; return 1 where one is an error.

    Raises:
        LorabenchError: the file cannot be read as a configuration.
    """
    found = []
    for finding in _findings(path, advice):
        found.append(finding)
        if not json:
            emit(finding_text(finding), None)
    levels = Counter(finding.level for finding in found)
    if json:
        emit(dump_json({"config": str(path), "findings": [asdict(finding) for finding in found]}), None)
    else:
        emit(f"{_count(levels['error'], 'error')}, {_count(levels['warning'], 'warning')}\n", None)
    return 1 if levels["error"] else 0


def readable_config(path: Path) -> RunConfig:
    """Return the configuration in a file, or in the run.yaml of a folder.

    Raises:
        LorabenchError: the file is not there, or no configuration can be read from it; says why.
    """
    from lorabench.training.config.field import ConfigError
    from lorabench.training.config.run_config import RunConfig

    path = path / RUN_FILE if is_folder(path) else path
    config = RunConfig.load(path)
    if config.broken:
        problems = "\n".join(f"{problem.message} {problem.allowed}".rstrip() for problem in config.problems)
        raise ConfigError(f"{visible(path)} cannot be read as a configuration.", problems)
    return config


def _findings(path: Path, advice: bool) -> Iterator[Finding]:
    """What the libraries print while they are asked goes to standard error, away from the findings."""
    config = readable_config(path)
    from lorabench.training.preflight.run import preflight

    findings = preflight(config, advice=advice)
    while True:
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            finding = next(findings, None)
        if finding is None:
            return
        yield finding


def finding_text(finding: Finding) -> str:
    """Return a finding as the lines that a command prints."""
    page = Page.to(None)
    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_column(width=9)
    line.add_column(min_width=CHECK_WIDTH)
    line.add_column(overflow="fold")
    level = Text(f"{MARKS[finding.level]} {finding.level}", style=STYLES[finding.level])
    line.add_row(level, Text(visible(finding.check)), Text(visible(finding.message)))
    mend = [f"mend: {finding.mend.label}"] if finding.mend else []
    for more in [*finding.detail.splitlines(), *mend]:
        line.add_row("", "", Text(visible(more)))
    page.parts.append(line)
    return page.text()


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
