"""Draw curves with braille dots: eight to a character, in a few milliseconds and without plotext."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Dots = npt.NDArray[np.bool_]

DOTS_ACROSS, DOTS_DOWN = 2, 4
BLANK = ord(" ")
PATTERNS = 0x2800
# Unicode numbers the dots 1-2-3 and 7 down the left, 4-5-6 and 8 down the right.
_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Frame:
    """What of the plane is drawn, on how many characters."""

    columns: int
    rows: int
    left: float
    right: float
    bottom: float
    top: float

    def across(self, x: Floats) -> npt.NDArray[np.intp]:
        """Return the dot column of each x, from 0 at the left."""
        return _scaled(x, self.left, self.right, self.columns * DOTS_ACROSS)

    def down(self, y: Floats) -> npt.NDArray[np.intp]:
        """Return the dot row of each y, from 0 at the top."""
        return _scaled(y, self.top, self.bottom, self.rows * DOTS_DOWN)


def _scaled(values: Floats, first: float, last: float, dots: int) -> npt.NDArray[np.intp]:
    share = (values - first) / ((last - first) or 1.0)
    return np.rint(np.clip(share, 0.0, 1.0) * (dots - 1)).astype(np.intp)


def band(frame: Frame, x: Floats, low: Floats, high: Floats) -> Dots:
    """Return the dots between `low` and `high` over ascending x: in each dot column from least to greatest.

    However many points there are, no extreme is lost. Columns are joined to their neighbours, and what lies
    between two distant points is drawn straight. Points that are not finite are left out.
    """
    dots = np.zeros((frame.rows * DOTS_DOWN, frame.columns * DOTS_ACROSS), dtype=np.bool_)
    drawn = np.isfinite(low) & np.isfinite(high) & (x >= frame.left) & (x <= frame.right)
    if not drawn.any():
        return dots
    column = frame.across(x[drawn])
    starts = np.flatnonzero(np.diff(column, prepend=-1))
    filled = column[starts]
    lowest = frame.down(np.minimum.reduceat(low[drawn], starts))
    highest = frame.down(np.maximum.reduceat(high[drawn], starts))
    columns = np.arange(filled[0], filled[-1] + 1)
    bottom = np.rint(np.interp(columns, filled, lowest)).astype(np.intp)
    top = np.rint(np.interp(columns, filled, highest)).astype(np.intp)
    reach_up, reach_down = top.copy(), bottom.copy()
    reach_up[1:] = np.minimum(top[1:], bottom[:-1])
    reach_down[1:] = np.maximum(bottom[1:], top[:-1])
    row = np.arange(dots.shape[0])[:, None]
    dots[:, columns] = (row >= reach_up) & (row <= reach_down)
    return dots


def characters(dots: Dots) -> npt.NDArray[np.int64]:
    """Return each character's code point, shape (rows, columns); a space where no dot is."""
    rows, columns = dots.shape[0] // DOTS_DOWN, dots.shape[1] // DOTS_ACROSS
    cells = dots.reshape(rows, DOTS_DOWN, columns, DOTS_ACROSS)
    codes = PATTERNS + np.einsum("rdca,da->rc", cells.astype(np.int64), _BITS)
    return np.where(codes == PATTERNS, BLANK, codes)
