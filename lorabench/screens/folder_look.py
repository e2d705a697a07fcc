"""Whether a folder still holds what the bench has listed: a look at times, far cheaper than to list it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lorabench.runs.scan import folders_below, times_of

if TYPE_CHECKING:
    from lorabench.screens.listing import Row

# A listing that took a tenth of a second is not done again within two: a folder may change all the time.
REST = 20


class FolderLook:
    """The times of the folders and adapters as they were listed; to be made before the listing begins."""

    def __init__(self, folder: Path) -> None:
        self._begun = time.monotonic()
        self._times = times_of(folders_below(folder))
        self._rests_until = 0.0

    def listed(self, rows: Iterable[Row]) -> None:
        """Look at the files of these adapters from now on, too: one may be copied here while it is listed."""
        self._times |= times_of(file for row in rows if row.location for file in row.location.files)
        now = time.monotonic()
        self._rests_until = now + REST * (now - self._begun)

    def changed(self) -> set[Path]:
        """Return the folders and files that were written since; none while the last listing is too young."""
        if time.monotonic() < self._rests_until:
            return set()
        return {path for path, now in times_of(self._times).items() if now != self._times[path]}
