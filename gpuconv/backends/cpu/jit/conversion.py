"""Conversion between stored elements of any dtype and the dtype of sums (Numba).

Arrays are passed as an address and byte strides, so that one compiled function serves every layout
(C, Fortran, reversed, broadcast, read-only, a view into a larger image); Numba would otherwise
compile one for each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload
from numba.np.numpy_support import as_dtype

from .drivers import inner
from .intrinsics import elements


@intrinsic
def _float_of_bits(typingctx, bits):
    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.uint32), codegen


@intrinsic
def _bits_of_float(typingctx, value):
    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.IntType(32))

    return types.uint32(types.float32), codegen


@inner
def half_to_float(half):
    """Convert the bits of a float16 to a float32, exactly."""
    h = np.uint32(half)
    sign = (h & np.uint32(0x8000)) << np.uint32(16)
    magnitude = (h & np.uint32(0x7FFF)) << np.uint32(13)
    # The multiplication moves the exponent and makes normal numbers out of subnormal ones.
    value = _float_of_bits(magnitude) * np.float32(2.0**112)
    bits = _bits_of_float(value)
    special = (h & np.uint32(0x7C00)) == np.uint32(0x7C00)
    bits = np.uint32(magnitude | np.uint32(0x7F800000)) if special else bits
    return _float_of_bits(np.uint32(bits | sign))


@inner
def float_to_half(value):
    """Round a float32 to the nearest float16 (ties to even) and return its bits."""
    bits = _bits_of_float(value)
    sign = np.uint32((bits >> np.uint32(16)) & np.uint32(0x8000))
    a = np.uint32(bits & np.uint32(0x7FFFFFFF))
    if a > np.uint32(0x7F800000):
        half = np.uint32(0x7E00)
    elif a >= np.uint32(0x47800000):
        half = np.uint32(0x7C00)
    elif a < np.uint32(0x38800000):  # subnormal: units of 2**-24
        half = np.uint32(np.rint(_float_of_bits(a) * np.float32(2.0**24)))
    else:
        odd = np.uint32((a >> np.uint32(13)) & np.uint32(1))
        half = np.uint32((a + np.uint32(0xFFF) + odd - np.uint32(0x38000000)) >> np.uint32(13))
    return np.uint16(half | sign)


@inner
def float_to_bfloat(value):
    """Round a float32 to the nearest bfloat16 (ties to even) and return its bits."""
    bits = _bits_of_float(value)
    if np.uint32(bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000):
        return np.uint16((bits >> np.uint32(16)) | np.uint32(0x40))
    odd = np.uint32((bits >> np.uint32(16)) & np.uint32(1))
    return np.uint16(np.uint32(bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))


# A *tag* is an empty array that stands for a storage dtype at compile time: one-dimensional of
# that dtype. The 16-bit floats, which Numba lacks, are uint16 arrays of two and three dimensions.


def make_tag(name: str) -> Any:
    """Make the tag of the dtype with this canonical name."""
    dimensions = {"float16": 2, "bfloat16": 3}.get(name, 1)
    return np.empty((0,) * dimensions, np.uint16 if dimensions > 1 else name)


def _is_half(tag):
    return tag.ndim == 2


def _is_bfloat(tag):
    return tag.ndim == 3


def widened(tag, raw):
    """Convert a stored element to a number (compiled code only)."""
    raise NotImplementedError


@overload(widened, inline="always")
def _widened(tag, raw):
    if _is_half(tag):
        return lambda tag, raw: half_to_float(raw)
    if _is_bfloat(tag):
        return lambda tag, raw: _float_of_bits(np.uint32(raw) << np.uint32(16))
    return lambda tag, raw: raw


def narrowed(tag, value):
    """Convert a sum to a stored element: nearest even, saturating, NaN to 0 (compiled code)."""
    raise NotImplementedError


@overload(narrowed, inline="always")
def _narrowed(tag, value):
    if _is_half(tag):
        return lambda tag, value: float_to_half(value)
    if _is_bfloat(tag):
        return lambda tag, value: float_to_bfloat(value)
    if not isinstance(tag.dtype, types.Integer) or value == tag.dtype:
        return lambda tag, value: value
    out = as_dtype(tag.dtype).type
    low, high = out(np.iinfo(out).min), out(np.iinfo(out).max)
    if isinstance(value, types.Integer):
        source = np.iinfo(as_dtype(value))
        least = as_dtype(value).type(max(source.min, int(low)))
        most = as_dtype(value).type(min(source.max, int(high)))
        return lambda tag, value: out(min(max(value, least), most))
    # As floats the limits are exact or round up to a power of two, so the comparisons are exact.
    flow, fhigh = as_dtype(value).type(low), as_dtype(value).type(high)
    zero = out(0)

    def saturated(tag, value):
        v = np.rint(value)
        if v >= fhigh:
            return high
        if v <= flow:
            return low
        if v != v:
            return zero
        return out(v)

    return saturated


@inner
def pixel(tag, address):
    """Read the element stored at an address and convert it to a number."""
    return widened(tag, elements(tag, address, 1)[0])


@inner
def load_run(tag, address, step, line):
    """Fill `line`, in its dtype, with the elements at `address`, `address + step`, …"""
    n = line.shape[0]
    if step == tag.itemsize:
        row = elements(tag, address, n)
        for j in range(n):
            line[j] = widened(tag, row[j])
    else:
        for j in range(n):
            line[j] = widened(tag, elements(tag, address + j * step, 1)[0])


@inner
def store_run(tag, address, step, line):
    """Write the sums of `line` to `address`, `address + step`, …, in the tag's dtype."""
    n = line.shape[0]
    if step == tag.itemsize:
        row = elements(tag, address, n)
        for j in range(n):
            row[j] = narrowed(tag, line[j])
    else:
        for j in range(n):
            elements(tag, address + j * step, 1)[0] = narrowed(tag, line[j])
