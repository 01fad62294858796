"""Results of sums in 16 bits: divided by a power of two, rounded, saturated (llvmlite, Numba).

Numba computes with integers of 64 bits, which would take four vectors for one. So what is written
as bytes is converted vector by vector.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .conversion import make_tag, narrowed
from .functions import compile_function, elements
from .vectors import Vectors, lanes


class _Results(Vectors):
    """Emits the conversion of a vector of sums."""

    def rounded(self, sums: Any, shift: int, signed: bool) -> Any:
        """Divide by ``2**shift``, to nearest even."""
        b = self.builder
        if shift == 0:
            return sums
        places = self.constant(shift)
        quotient = b.ashr(sums, places) if signed else b.lshr(sums, places)
        rest = b.and_(sums, self.constant((1 << shift) - 1))
        # Half of the divisor is rounded up where the quotient is odd.
        rest = b.add(rest, b.and_(quotient, self.constant(1)))
        up = b.icmp_unsigned(">", rest, self.constant(1 << (shift - 1)))
        return b.add(quotient, b.zext(up, self.kind))

    def saturated(self, values: Any, signed: bool, low: int, high: int) -> Any:
        """Bring whole numbers into a range."""
        b = self.builder
        compare = b.icmp_signed if signed else b.icmp_unsigned
        most = self.constant(high)
        values = b.select(compare(">", values, most), most, values)
        if signed:
            least = self.constant(low)
            values = b.select(compare("<", values, least), least, values)
        return values


def _to_bytes(acc: str, out: str, shift: int) -> Any:
    signed, info = acc == "int16", np.iinfo(out)

    @intrinsic
    def to_bytes(typingctx, sums, target):
        def codegen(context, builder, signature, args):
            sums, target = args
            v = _Results(builder, acc)
            values = v.rounded(v.load(sums), shift, signed)
            values = v.saturated(values, signed, int(info.min), int(info.max))
            small = builder.trunc(values, ir.VectorType(ir.IntType(8), v.lanes))
            place = builder.inttoptr(target, small.type.as_pointer())
            builder.store(small, place).align = 1
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
    """Address of the jit function that writes sums of weights times ``2**shift`` as bytes."""
    return compile_function(
        _store,
        f"store_narrow_{acc}_{out}_shift{shift}",
        TAG=make_tag(out),
        ACC=make_tag(acc),
        INVERSE=np.array([2.0**-shift], np.float32),
        TO_BYTES=_to_bytes(acc, out, shift),
        LANES=lanes(acc),
    )
