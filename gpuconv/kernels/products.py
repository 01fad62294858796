"""Whether kernels are products of a column and a row, told in a microsecond (Numba).

The NumPy of `methods.weights` finds the same factors, to the bit, and says the same of them. What
the arithmetic here cannot do as that does is left to it (`ASK`).
"""

from __future__ import annotations

import math

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from .pieces import named, on_disk, peek, poke
from .variants import Compiled

# What is said of the first kernel that is not a product, and of others nothing.
PRODUCTS, CANCELS, MORE, INFINITE, ASK = range(5)

_SIGN, _INFINITY, _LEAST = 0x7FFFFFFFFFFFFFFF, 0x7FF0000000000000, -(1 << 63)
# Beyond these, parts of products are not exact, or no floats at all.
_SMALL, _LARGE = 2.0**-900, 2.0**900
_SPLIT = 2.0**27 + 1

_DOUBLE, _LONG = ir.DoubleType(), ir.IntType(64)


@intrinsic
def _start(typingctx, array):
    """Address of an array's first element (compiled code only)."""

    def codegen(context, builder, signature, args):
        data = context.make_array(array)(context, builder, args[0]).data
        return builder.ptrtoint(data, _LONG)

    return types.int64(array), codegen


@intrinsic
def _get(typingctx, address, place):
    """The float64 at a place of an array of them (compiled code only)."""

    def codegen(context, builder, signature, args):
        start = builder.inttoptr(args[0], _DOUBLE.as_pointer())
        return builder.load(builder.gep(start, [args[1]]))

    return types.float64(types.int64, types.intp), codegen


@intrinsic
def _put(typingctx, address, place, size, value):
    """Set the float64 (float32, if `size` is 4) at a place of an array (compiled code only)."""

    def codegen(context, builder, signature, args):
        address, place, size, value = args
        at = builder.add(address, builder.mul(place, size))
        with builder.if_else(builder.icmp_signed("==", size, _LONG(4))) as (single, double):
            with single:
                rounded = builder.fptrunc(value, ir.FloatType())
                builder.store(rounded, builder.inttoptr(at, ir.FloatType().as_pointer()))
            with double:
                builder.store(value, builder.inttoptr(at, _DOUBLE.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.float64), codegen


@intrinsic
def _float(typingctx, bits):
    """The float64 of these bits (compiled code only)."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], _DOUBLE)

    return types.float64(types.int64), codegen


def _products(values, kernels, p, q, eps, tiny, half, size, found):
    """Factors of kernels, as far as they are products, and what the first other one is.

    The number of kernels before it times 8, and one of the names above, are returned. `eps` and
    `tiny` are the rounding error and the smallest number of the dtype that sums are taken in, which
    has `size` bytes: `found` takes columns and then rows of it, and has to be of p float64 more.

    Quotients are rounded to a longer float first and then to float64, as NumPy's are. `half` is how
    far from a float64, in its last digit, what is rounded first becomes the middle between that and
    the next; of these two the second rounding takes the even one.
    """
    kernel, us = _start(values), _start(found)
    vs, u = us + size * kernels * p, us + 8 * kernels * (p + q)
    for n in range(kernels):
        largest, place = 0, 0
        for e in range(p * q):
            bits = peek(kernel, e) & _SIGN
            if bits > largest:
                largest, place = bits, e
        if largest >= _INFINITY:
            return 8 * n + INFINITE
        pivot, top = _get(kernel, place), _float(largest)
        if largest and not _SMALL <= top <= _LARGE:
            return 8 * n + ASK
        row, column = kernel + 8 * (place - place % q), kernel + 8 * (place % q)
        for a in range(p if largest else 0):
            x = _get(column, a * q)
            y = x / pivot
            _put(u, a, 8, y)
            bits = peek(u, a)
            if bits & 1:
                if abs(x) < _SMALL or abs(x) < _SMALL * top:
                    return 8 * n + ASK
                # Dekker's products with the pivot, of parts by Veltkamp.
                t = _SPLIT * pivot
                p1 = t - (t - pivot)
                p2 = pivot - p1
                t = _SPLIT * y
                y1 = t - (t - y)
                y2 = y - y1
                t = y * pivot
                left = (x - t) - (((y1 * p1 - t) + y1 * p2 + y2 * p1) + y2 * p2)
                last = _float(((bits & _SIGN) >> 52 << 52) - (52 << 52))
                far = half * last
                t = _SPLIT * far
                y1 = t - (t - far)
                y2 = far - y1
                t = far * pivot
                more = ((y1 * p1 - t) + y1 * p2 + y2 * p1) + y2 * p2
                if pivot < 0:
                    t, more, left = -t, -more, -left
                if left < 0:
                    left, last = -left, -last
                if (left - t) - more >= 0:
                    _put(u, a, 8, y + last)
        missing = False
        for a in range(p if largest else 0):
            x, cancels, misses = _get(u, a), False, False
            for b in range(q):
                y = _get(kernel, a * q + b)
                z = x * _get(row, b)
                cancels |= abs(z) > 4.0 * abs(y) + tiny
                misses |= abs(z - y) > 2.0 * eps * abs(y) + tiny
            if cancels:
                return 8 * n + CANCELS
            missing |= misses
        if missing:
            return 8 * n + MORE
        # What is missed has to be less than a singular value that counts, too. Of all but small
        # kernels, and of numbers at the end of the range, that follows.
        if largest and (max(p, q) < 5 or top * eps < p * q * tiny):
            missed, whole = 0.0, 0.0
            for a in range(p):
                for b in range(q):
                    y = _get(kernel, a * q + b)
                    z = (_get(u, a) * _get(row, b) - y) / top
                    missed += z * z
                    whole += (y / top) * (y / top)
            if math.sqrt(missed) > max(p, q) / 2 * eps * math.sqrt(whole):
                return 8 * n + MORE
        if largest:
            for a in range(p):
                _put(us, n * p + a, size, _get(u, a))
            for b in range(q):
                _put(vs, n * q + b, size, _get(row, b))
        kernel += 8 * p * q
    return 8 * kernels


def _whole_products(values, kernels, p, q, unsigned, found):
    """The same of integers, which are multiplied modulo 2**64."""
    kernel, u = _start(values), _start(found)
    v = u + 8 * kernels * p
    for n in range(kernels):
        place = 0
        while place < p * q and peek(kernel, place) == 0:
            place += 1
        some = place < p * q
        row, column = kernel + 8 * (place - place % q), kernel + 8 * (place % q)
        divisor = 0
        for b in range(q if some else 0):
            x = peek(row, b)
            if x == _LEAST or (unsigned and x < 0):
                return 8 * n + ASK
            x = abs(x)
            while x != 0:
                divisor, x = x, divisor % x
        for b in range(q if some else 0):
            poke(v, b, peek(row, b) // divisor)
        for a in range(p if some else 0):
            x = peek(column, a * q)
            if x == _LEAST or (unsigned and x < 0):
                return 8 * n + ASK
            x //= peek(v, place % q)
            poke(u, a, x)
            differ = 0
            for b in range(q):
                differ |= x * peek(v, b) - peek(kernel, a * q + b)
            if differ != 0:
                return 8 * n + MORE
        kernel, u, v = kernel + 8 * p * q, u + 8 * p, v + 8 * q
    return 8 * kernels


_options = dict(nogil=True, error_model="numpy")
products = Compiled(on_disk(njit, **_options)(named(_products, "products")))
whole_products = Compiled(on_disk(njit, **_options)(named(_whole_products, "whole_products")))
