"""Means of bytes: sums in 16 bits are divided, rounded and stored in vectors (llvmlite, Numba).

A division by a whole number n is a multiplication by about ``2**(16 + shift) / n`` that keeps the
upper bits of the product (Granlund and Montgomery, "Division by invariant integers using
multiplication", 1994). `core.box.find_reciprocal` finds out for which n that is exact.
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
from ..vectors import Vectors, lanes
from .box_results import box_finish, box_scale, weigh

BYTES = make_tag("uint8")


class _MeanDivision(Vectors):
    """Emits the division of a vector of unsigned 16-bit sums."""

    def upper_product(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Return the upper 16 bits of the products."""
        wide = ir.VectorType(ir.IntType(32), self.lanes)
        product = self.builder.mul(self.builder.zext(a, wide), self.builder.zext(b, wide))
        shift = ir.Constant(wide, [16] * self.lanes)
        return self.builder.trunc(self.builder.lshr(product, shift), self.kind)

    def short(self, value: ir.Value) -> ir.Value:
        """Return a vector with a 64-bit integer in every lane."""
        return self.spread(self.builder.trunc(value, self.element))

    def divided(
        self, sums: ir.Value, n: ir.Value, reciprocal: ir.Value, shift: ir.Value, even: bool
    ) -> ir.Value:
        """Return ``sums / n``, rounded to nearest even, at most 255."""
        b, zero, one = self.builder, self.constant(0), self.constant(1)
        raised = b.add(sums, b.lshr(n, one))
        quotient = b.lshr(self.upper_product(raised, reciprocal), shift)
        if even:  # halves were rounded up; where that gave an odd number, subtract one
            half = b.icmp_unsigned("==", b.mul(quotient, n), raised)
            quotient = b.sub(quotient, b.select(half, b.and_(quotient, one), zero))
        most = self.constant(255)
        return b.select(b.icmp_unsigned(">", quotient, most), most, quotient)


def _division(even: bool) -> Any:
    @intrinsic
    def divide(typingctx, sums, target, n, reciprocal, shift):
        def codegen(context, builder, signature, args):
            sums, target, *numbers = args
            v = _MeanDivision(builder, "uint16")
            means = v.divided(v.load(sums), *map(v.short, numbers), even)
            small = builder.trunc(means, ir.VectorType(ir.IntType(8), v.lanes))
            builder.store(small, builder.inttoptr(target, small.type.as_pointer())).align = 1
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5), codegen

    return divide


_divide_by_odd, _divide_by_even = _division(False), _division(True)


# Bound to another value in the compiled function.
LANES = None


def _finish_bytes(sums, n, out, step, count, pitch, out_pitch, finish_address):
    """Weight `count` rows of `n` sums, `pitch` bytes apart, and write them `out_pitch` apart."""
    scale = box_scale(box_finish(finish_address).scale)
    reciprocal, shift, divisor = scale.reciprocal, scale.shift, np.int64(scale.divisor)
    for row in range(count):
        line = elements(np.uint16, sums + row * pitch, n)
        start = out + row * out_pitch
        if reciprocal == 0 or step != 1 or n < LANES:
            for j in range(n):
                value = weigh(np.float32(line[j]), scale, np.float32)
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
def finish_bytes() -> int:
    """Return the address of the jit function that weights 16-bit sums and writes them as bytes."""
    return compile_function(_finish_bytes, "box_finish_bytes", LANES=lanes("uint16"))
