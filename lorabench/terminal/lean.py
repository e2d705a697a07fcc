"""The same colours in fewer bytes: Textual names both colours of each piece anew, also those that stay."""

from __future__ import annotations

import re
from functools import lru_cache

_LOOK = re.compile(r"\x1b\[([\d;]*)m")
# Where the cursor goes, the colours do not matter; all else might paint with them.
_MOVE = re.compile(r"\n?\x1b\[\d+;\d+H")
_PARTS = re.compile(
    r"(?P<attributes>(?:[1-9](?:;|$))*)"
    r"(?P<ink>38;2;\d+;\d+;\d+|38;5;\d+|[39][0-7])?;?"
    r"(?P<ground>48;2;\d+;\d+;\d+|48;5;\d+|(?:4|10)[0-7])?"
)


def lean(text: str) -> str:
    """Return what paints the same with fewer escape sequences; it begins and ends without any colour."""
    pieces: list[str] = []
    there = wanted = ""
    at = 0
    for look in _LOOK.finditer(text):
        there = _piece(pieces, text[at : look.start()], there, wanted)
        at, new = look.end(), look[1]
        wanted = "" if new in ("", "0") else f"{wanted};{new}" if wanted else new
    there = _piece(pieces, text[at:], there, wanted)
    return "".join(pieces) + _change(there, wanted)


def _piece(pieces: list[str], piece: str, there: str, wanted: str) -> str:
    """Add a piece of text, as it is wanted; return how the terminal writes after it."""
    if not piece:
        return there
    if _MOVE.fullmatch(piece):
        pieces.append(piece)
        return there
    pieces += (_change(there, wanted), piece)
    return wanted


@lru_cache(maxsize=4096)
def _change(there: str, wanted: str) -> str:
    """Return what makes a terminal that writes in one way write in another one."""
    if there == wanted:
        return ""
    anew = f"\x1b[0;{wanted}m" if there and wanted else f"\x1b[{wanted or 0}m"
    before, after = _PARTS.fullmatch(there), _PARTS.fullmatch(wanted)
    if before is None or after is None or not wanted:
        return anew
    if before["attributes"] not in ("", after["attributes"]):
        return anew
    more = [] if before["attributes"] else [after["attributes"].rstrip(";")]
    for part, plain in (("ink", "39"), ("ground", "49")):
        if before[part] != after[part]:
            more.append(after[part] or plain)
    return min(f"\x1b[{';'.join(filter(None, more))}m", anew, key=len)
