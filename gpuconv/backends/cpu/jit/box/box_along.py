"""Sums of short windows along rows of whole numbers, which are exact in any order (llvmlite).

Adding up all columns of a short window takes less time than transposing rows twice, which is how
longer windows are summed (see `box_driver`).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..functions import compile_function
from ..vectors import Vectors, lanes

# Vectors of a row that are summed at once, so that their additions do not wait for each other.
VECTORS = 4


def _block(dtype: str, columns: int) -> Any:
    @intrinsic
    def block(typingctx, source, q, step, target):
        def codegen(context, builder, signature, args):
            source, q, step, target = args
            v = Vectors(builder, dtype)
            [sums] = v.zeros(1, columns)
            with cgutils.for_range(builder, q) as loop:
                start = builder.add(source, builder.mul(loop.index, step))
                for c, place in enumerate(sums):
                    pixels = v.load(v.at(start, c * v.bytes))
                    builder.store(v.add(builder.load(place), pixels), place)
            for c, place in enumerate(sums):
                v.store(builder.load(place), v.at(target, c * v.bytes))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), codegen

    return block


# Bound to other values in every compiled function.
WIDE = ONE = LANES = SIZE = None


def _sum_along(row, n, q, step, target, unused, unused2, unused3):
    """Sum windows of `q` numbers, `step` bytes apart, at `n` places of a row.

    Whole vectors are read and written: both rows have room for them.
    """
    j = 0
    while j + (VECTORS - 1) * LANES < n:
        WIDE(row + j * SIZE, q, step, target + j * SIZE)
        j += VECTORS * LANES
    while j < n:
        ONE(row + j * SIZE, q, step, target + j * SIZE)
        j += LANES


@cache
def sum_along(dtype: str) -> int:
    """Return the address of the jit function that sums windows along a row of this dtype."""
    return compile_function(
        _sum_along,
        f"box_sum_along_{dtype}",
        WIDE=_block(dtype, VECTORS),
        ONE=_block(dtype, 1),
        LANES=lanes(dtype),
        SIZE=np.dtype(dtype).itemsize,
    )
