"""Pictures stored mirrored or lying on a side, read upright."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .image import Pixels, Source

__all__ = ["stand_upright"]

# Of orientation 1 to 8: whether stored rows are columns, and whether rows and columns are mirrored
# after that, as the tag says which sides the stored first row and column are.
_TURNS = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def stand_upright(source: Source, orientation: int) -> Source:
    """Return a source whose first row is the top and whose first column is the left."""
    if orientation not in _TURNS:
        return source
    swap, mirror_rows, mirror_columns = _TURNS[orientation]
    stored = source.size
    height, width = reversed(stored) if swap else stored

    def read(index: tuple[int, ...], rows: slice, columns: slice) -> Pixels:
        down = _mirror(rows, height) if mirror_rows else rows
        across = _mirror(columns, width) if mirror_columns else columns
        part = source.read(index, across, down) if swap else source.read(index, down, across)
        part = np.swapaxes(part, 0, 1) if swap else part
        step = slice(None, None, -1)
        return part[step if mirror_rows else slice(None), step if mirror_columns else slice(None)]

    last = source.shape[len(source.stack) + 2 :]
    return replace(source, shape=(*source.stack, height, width, *last), read=read)


def _mirror(part: slice, side: int) -> slice:
    first, last, _ = part.indices(side)
    return slice(side - last, side - first)
