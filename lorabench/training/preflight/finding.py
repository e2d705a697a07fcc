"""What the preflight says: findings, and the mends that one key applies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["ok", "advice", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Mend:
    """A change of the configuration that would mend a finding: TRL's field name → its new value."""

    label: str
    changes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the preflight.

    `check` names what was looked at (`coverage`, `trainable`, `data`, …) and is the word in the left column.
    `message` is a sentence with its numbers; `detail` holds more lines for whoever asks. Errors stop a start.
    `field` names the field that is to be mended, where it is one.
    """

    check: str
    level: Level
    message: str
    detail: str = ""
    mend: Mend | None = None
    field: str = ""
