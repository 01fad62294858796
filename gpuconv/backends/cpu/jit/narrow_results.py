"""Results of sums in 16 bits: divided, rounded, saturated (Numba).

Here are those that are written one by one: a row of fewer than a vector holds, or results that are
not neighbours in memory. All others are converted in registers (`saturated_results`).
"""

from __future__ import annotations

from functools import cache

import numpy as np

from .conversion import make_tag, narrowed
from .functions import compile_function
from .intrinsics import elements

# Bound to other values in every compiled function: tags (see `conversion`) of what is stored and of
# sums, and the divisor.
TAG = ACC = DIVISOR = None


def _store(sums, n, out, step, count, pitch, out_pitch, unused):
    """Write `count` rows of `n` sums, `pitch` bytes apart, to rows `out_pitch` bytes apart."""
    for row in range(count):
        start, line = out + row * out_pitch, elements(ACC, sums + row * pitch, n)
        for j in range(n):
            value = np.float32(line[j]) / DIVISOR[0]
            elements(TAG, start + j * step, 1)[0] = narrowed(TAG, value)


@cache
def store(acc: str, out: str, divisor: int) -> int:
    """Return the address of the jit function that writes sums divided by a number as bytes."""
    return compile_function(
        _store,
        f"store_narrow_{acc}_{out}_divisor{divisor}",
        TAG=make_tag(out),
        ACC=make_tag(acc),
        DIVISOR=np.array([divisor], np.float32),
    )
