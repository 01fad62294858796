"""Floating-point sums written as integers of 8 or 16 bits, converted in registers (llvmlite).

As `conversion.narrowed` converts one number: to nearest even, into the dtype's range, NaN to 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from .vectors import Vectors

__all__ = ["DTYPES", "emit_saturated"]

# What sums are converted to. All their numbers are exact in float32.
DTYPES = ("uint8", "int8", "uint16", "int16")


def emit_saturated(vectors: Vectors, sums: list[Any], dtype: str, address: Any) -> None:
    """Emit the conversion of some vectors of sums, which are written one after the other."""
    b, info = vectors.builder, np.iinfo(dtype)
    while sums:
        # Two vectors at a time fill one of their integers.
        some, sums = sums[: 2 - len(sums) % 2], sums[2 - len(sums) % 2 :]
        whole = [_to_integers(vectors, x, info) for x in some]
        count = vectors.lanes * len(whole)
        joined = whole[0] if len(whole) == 1 else vectors.shuffle(*whole, list(range(count)))
        # LLVM knows the range no more; told again, it takes instructions that saturate.
        low, high = (ir.Constant(joined.type, [limit] * count) for limit in (info.min, info.max))
        joined = b.select(b.icmp_signed(">", joined, low), joined, low)
        joined = b.select(b.icmp_signed("<", joined, high), joined, high)
        small = b.trunc(joined, ir.VectorType(ir.IntType(info.bits), count))
        place = b.inttoptr(address, small.type.as_pointer())
        b.store(small, place).align = info.bits // 8
        address = vectors.at(address, count * info.bits // 8)


def _to_integers(vectors: Vectors, x: Any, info: Any) -> Any:
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
