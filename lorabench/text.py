"""Foreign text made safe to show: nothing in a file's name or a tensor's may command a terminal."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePath

_CONTROL_PICTURES = 0x2400
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def visible(value: object) -> str:
    """Return `value` as one line of text in which every control and direction character is visible.

    C0 controls become their control pictures (ESC → ␛), all others that a terminal may obey or hide
    (C1 controls, direction marks, lone surrogates, line separators) become `\\u{…}` escapes.
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(_picture(character) for character in text)


def _picture(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(_CONTROL_PICTURES + code)
    if code == 0x7F:
        return "␡"
    if unicodedata.category(character) in _HIDDEN:
        return f"\\u{{{code:x}}}"
    return character


def shorten(value: str, width: int) -> str:
    """Return `value` cut in the middle to `width` characters, with an ellipsis where it was cut."""
    if len(value) <= width:
        return value
    if width <= 1:
        return "…"[:width]
    head = (width - 1) // 2
    return f"{value[:head]}…{value[len(value) - (width - 1 - head) :]}"


def natural(value: str) -> list[tuple[int, str]]:
    """Return a sort key in which numbers inside text count as numbers: `layers.2` before `layers.10`."""
    words = re.split(r"([0-9]{1,15})", value)
    return [(int(word), "") if at % 2 else (-1, word) for at, word in enumerate(words)]


def natural_path(path: PurePath) -> list[list[tuple[int, str]]]:
    """Return a sort key: a folder before what is in it, checkpoint-500 before checkpoint-1000."""
    return [natural(part) for part in path.parts]


def human_bytes(size: float) -> str:
    """Return a byte count in the unit a person would use: `12.3 MB` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def human_duration(seconds: float) -> str:
    """Return a time as a clock writes it: `1:02:03`, `2:03` or `0:03`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def is_endless_number(text: str) -> bool:
    """Say whether a YAML scalar may be a number beyond all floats: hexadecimal ones begin at 257 digits."""
    return len(text) > 255 and not text.strip("+-0123456789abcdefxABCDEFX_:.")
