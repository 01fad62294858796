"""Sums written as integers of 8 or 16 bits, converted while they are in registers (llvmlite).

Floats are converted as `conversion.narrowed` does it: to nearest even, into the dtype's range, NaN
to 0. Sums in 16 bits, which are whole numbers, are divided first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from ....core.division import reciprocal_of
from .mean_division import divide_by_constant
from .vectors import Vectors

__all__ = ["DTYPES", "emit_saturated"]

_BYTES = ("uint8", "int8")
_SHORT = (*_BYTES, "uint16", "int16")  # all numbers are exact in float32
# The dtypes that sums are converted to in registers, by the dtype of sums.
DTYPES = {"uint16": _BYTES, "int16": _BYTES, "float32": _SHORT, "float64": _SHORT}


def emit_saturated(
    vectors: Vectors, sums: list[ir.Value], acc: str, dtype: str, divisor: int,
    address: ir.Value,
) -> None:  # fmt: skip
    """Emit the conversion of vectors of sums, and their stores one after the other.

    The sums, in dtype `acc`, are `divisor` times the results: a power of two or an odd number
    (see `core.accumulator.choose_narrow_sums`).
    """
    b, info = vectors.builder, np.iinfo(dtype)
    signed = acc != "uint16"
    while sums:
        # Two vectors at a time, which fill one of integers half as long.
        some, sums = sums[: 2 - len(sums) % 2], sums[2 - len(sums) % 2 :]
        if vectors.whole:
            whole = [_divide(vectors, x, divisor, signed) for x in some]
        else:
            whole = [_to_integers(vectors, x, info) for x in some]
        count = vectors.lanes * len(whole)
        joined = whole[0] if len(whole) == 1 else vectors.shuffle(*whole, list(range(count)))
        # Needed only for whole numbers, but with it LLVM chooses instructions that saturate.
        joined = _saturate(b, joined, signed, info)
        small = b.trunc(joined, ir.VectorType(ir.IntType(info.bits), count))
        place = b.inttoptr(address, small.type.as_pointer())
        b.store(small, place).align = info.bits // 8
        address = vectors.at(address, count * info.bits // 8)


def _to_integers(vectors: Vectors, x: ir.Value, info: np.iinfo) -> ir.Value:
    """Round a vector of floats to integers of 32 bits that are in range."""
    b = vectors.builder
    low, high = vectors.constant(float(info.min)), vectors.constant(float(info.max))
    if info.min < 0:
        x = b.select(b.fcmp_ordered("ord", x, x), x, vectors.constant(0.0))
    x = b.select(b.fcmp_ordered(">", x, low), x, low)  # NaN, too, is not greater
    x = b.select(b.fcmp_ordered("<", x, high), x, high)
    n = vectors.lanes
    kind = ir.FunctionType(ir.VectorType(ir.IntType(32), n), [vectors.kind])
    name = f"llvm.lrint.v{n}i32.v{n}f{8 * vectors.size}"
    return b.call(cgutils.get_or_insert_function(b.module, kind, name), [x])


def _divide(vectors: Vectors, sums: ir.Value, divisor: int, signed: bool) -> ir.Value:
    """Divide whole numbers, to nearest even; negative ones by an odd number give 0."""
    b = vectors.builder
    if divisor == 1:
        return sums
    if divisor % 2:
        if signed:
            zero = vectors.constant(0)
            sums = b.select(b.icmp_signed(">", sums, zero), sums, zero)
        return divide_by_constant(vectors, sums, divisor, *reciprocal_of(divisor))
    shift = divisor.bit_length() - 1
    places = vectors.constant(shift)
    quotient = b.ashr(sums, places) if signed else b.lshr(sums, places)
    rest = b.and_(sums, vectors.constant((1 << shift) - 1))
    # A remainder of half the divisor is rounded up where the quotient is odd.
    rest = b.add(rest, b.and_(quotient, vectors.constant(1)))
    up = b.icmp_unsigned(">", rest, vectors.constant(1 << (shift - 1)))
    return b.add(quotient, b.zext(up, vectors.kind))


def _saturate(b: ir.IRBuilder, values: ir.Value, signed: bool, info: np.iinfo) -> ir.Value:
    """Clip whole numbers to the range of an integer dtype."""
    compare: Callable[..., Any] = b.icmp_signed if signed else b.icmp_unsigned
    low, high = (ir.Constant(values.type, [n] * values.type.count) for n in (info.min, info.max))
    values = b.select(compare(">", values, high), high, values)
    return b.select(compare("<", values, low), low, values) if signed else values
