"""What tiles of transforms are made of: the padded image, or windows one after the other.

See src/fft/fft_pixels.cuh.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

from ...core import dtypes
from ...core.problem import Pair, Problem, restate_for_tables, tables_are_gathered

# A tile of the padded image holds at least the pixels that the kernel covers. With more bytes than
# this, its transforms would take more memory than `fft_planning.WORKSPACE_MOST`.
_SPAN_BYTES = 128 << 20
# To save that, windows may have so many times the positions of the padded axis, and so many taps
# that smaller tiles hold them.
_TIMES_PADDED, _TAPS_MOST = 8, 1 << 14
# Tiles may be larger than the padded image up to this side.
_SIDE_LEAST = 1024


@dataclass(frozen=True)
class TileLayout:
    """A problem with the stride and dilation that its tiles have."""

    problem: Problem
    gathered: tuple[bool, bool]  # whether rows, and columns, are those of windows
    # No tile may have more, lest its errors exceed those that `methods.fft` expects.
    elements_most: int


@lru_cache(maxsize=1024)
def layout_of(problem: Problem) -> TileLayout:
    """Return what tiles are made of: windows where these take less, or all else far too much."""
    laid, elements_most = restate_for_tables(problem), 1
    gathered = list(tables_are_gathered(problem))
    most = _SPAN_BYTES / dtypes.storage(problem.acc_dtype).itemsize
    for axis in sorted((0, 1), key=lambda axis: -laid.dilation[axis]):
        taps, outputs = laid.k_shape[axis - 2], laid.out_shape[axis - 2]
        padded = (outputs - 1) * laid.stride[axis] + laid.span[axis]
        elements_most *= max(_SIDE_LEAST, 1 << (padded - 1).bit_length())
        far = math.prod(laid.span) > most and laid.dilation[axis] > 1
        if far and taps <= _TAPS_MOST and outputs * taps <= _TIMES_PADDED * padded:
            gathered[axis] = True
            laid = replace(
                laid, stride=_put(laid.stride, axis, taps), dilation=_put(laid.dilation, axis, 1)
            )
    return TileLayout(laid, (gathered[0], gathered[1]), elements_most)


def _put(pair: Pair, axis: int, value: int) -> Pair:
    return (value, pair[1]) if axis == 0 else (pair[0], value)
