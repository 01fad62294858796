"""Results of sums in 16 bits: divided by a power of two, rounded, saturated (llvmlite, Numba).

Numba's integer arithmetic is in 64 bits, so that one vector of sums would become four. Hence the
conversion to bytes is emitted vector by vector.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from .conversion import make_tag, narrowed
from .functions import compile_function
from .intrinsics import elements
from .saturated_results import emit_saturated
from .vectors import Vectors, lanes


def _to_bytes(acc: str, out: str, shift: int) -> Any:
    @intrinsic
    def to_bytes(typingctx, sums, target):
        def codegen(context, builder, signature, args):
            sums, target = args
            v = Vectors(builder, acc)
            emit_saturated(v, [v.load(sums)], acc, out, shift, target)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), codegen

    return to_bytes


# Bound to other values in every compiled function: tags (see `conversion`) of what is stored and of
# sums, the divisor's inverse, and the conversion of a vector with its length.
TAG = ACC = INVERSE = TO_BYTES = LANES = None


def _store(sums, n, out, step, count, pitch, out_pitch, unused):
    """Write `count` rows of `n` sums, `pitch` bytes apart, to rows `out_pitch` bytes apart."""
    for row in range(count):
        start, first = out + row * out_pitch, 0
        if step == 1:
            while first + LANES <= n:
                TO_BYTES(sums + row * pitch + 2 * first, start + first)
                first += LANES
        line = elements(ACC, sums + row * pitch, n)
        for j in range(first, n):
            value = np.float32(line[j]) * INVERSE[0]  # exact
            elements(TAG, start + j * step, 1)[0] = narrowed(TAG, value)


@cache
def store(acc: str, out: str, shift: int) -> int:
    """Return the address of the jit function that writes sums times ``2**shift`` as bytes."""
    return compile_function(
        _store,
        f"store_narrow_{acc}_{out}_shift{shift}",
        TAG=make_tag(out),
        ACC=make_tag(acc),
        INVERSE=np.array([2.0**-shift], np.float32),
        TO_BYTES=_to_bytes(acc, out, shift),
        LANES=lanes(acc),
    )
