"""Means of bytes: sums in 16 bits are divided, rounded and stored in vectors (llvmlite, Numba).

`core.box.find_mean_reciprocal` finds out which numbers a product divides by exactly.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..conversion import make_tag, narrowed
from ..functions import compile_function
from ..intrinsics import elements
from ..mean_division import divide_rounded
from ..vectors import Vectors, lanes
from .box_results import box_finish, box_scale, weigh

BYTES = make_tag("uint8")


def _division(even: bool) -> Any:
    @intrinsic
    def divide(typingctx, sums, target, n, reciprocal, shift):
        def codegen(context, builder, signature, args):
            sums, target, *numbers = args
            v = Vectors(builder, "uint16")
            vectors = [v.spread(builder.trunc(n, v.element)) for n in numbers]
            means = divide_rounded(v, v.load(sums), *vectors, even)
            most = v.constant(255)
            means = builder.select(builder.icmp_unsigned(">", means, most), most, means)
            small = builder.trunc(means, ir.VectorType(ir.IntType(8), v.lanes))
            builder.store(small, builder.inttoptr(target, small.type.as_pointer())).align = 1
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5), codegen

    return divide


_divide_by_odd, _divide_by_even = _division(False), _division(True)


# Bound to other values in every compiled function: the lanes of a vector, and a tag (see
# `conversion`) of the dtype that single sums are weighed in.
LANES = ACC = None


def _finish_bytes(sums, n, out, step, count, pitch, out_pitch, finish_address):
    """Weight `count` rows of `n` sums, `pitch` bytes apart, and write them `out_pitch` apart."""
    scale, kind = box_scale(box_finish(finish_address).scale), ACC.dtype.type
    reciprocal, shift, divisor = scale.reciprocal, scale.shift, np.int64(scale.divisor)
    for row in range(count):
        line = elements(np.uint16, sums + row * pitch, n)
        start = out + row * out_pitch
        if reciprocal == 0 or step != 1 or n < LANES:
            for j in range(n):
                value = weigh(kind(line[j]), scale, kind)
                elements(BYTES, start + j * step, 1)[0] = narrowed(BYTES, value)
            continue
        source, j = sums + row * pitch, 0
        while j < n:
            j = min(j, n - LANES)  # the last vector may overlap, and compute the same means again
            if divisor % 2:
                _divide_by_odd(source + 2 * j, start + j, divisor, reciprocal, shift)
            else:
                _divide_by_even(source + 2 * j, start + j, divisor, reciprocal, shift)
            j += LANES


@cache
def finish_bytes(acc: str) -> int:
    """Return the address of the jit function that weighs 16-bit sums in `acc` and writes bytes."""
    return compile_function(
        _finish_bytes, f"box_finish_bytes_{acc}", LANES=lanes("uint16"), ACC=make_tag(acc)
    )
