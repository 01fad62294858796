"""Factors of kernels of rank 1, found or ruled out in a microsecond (Numba).

`methods.float_factors` and `methods.integer_factors` find the same factors with NumPy, bit for bit,
and come to the same verdict. Where the arithmetic here might decide differently, they have to
decide (`UNDECIDED`).
"""

from __future__ import annotations

import math

from ..drivers import compiled
from ..intrinsics import load_int, store_int
from .doubles import float_of, get, product_error, put, put_as, start
from .verdict import ACCURATE, CANCELS, LARGE, MORE_NEEDED, NOT_FINITE, SMALL, UNDECIDED

# All bits but the sign, the bits of infinity, and the smallest 64-bit integer.
_MAGNITUDE, _INFINITY, _LEAST = 0x7FFFFFFFFFFFFFFF, 0x7FF0000000000000, -(1 << 63)


def _rank_one_factors(values, kernels, p, q, eps, tiny, half, size, found):
    """Factor kernels of rank 1, up to the first that has no accurate factors.

    Returns the number of kernels before that one times 8, plus the verdict on it. `eps` and `tiny`
    are the rounding error and the smallest normal number of the dtype that sums are taken in, whose
    size is `size` bytes. `found` takes columns and then rows of that dtype, and needs room for p
    more float64 numbers.

    The column is the pivot's column divided by the pivot, the largest element; the row is the
    pivot's row. NumPy rounds quotients to a long double first and then to float64. A quotient at
    least `half` units in the last place from a float64 becomes a long double halfway to the next
    float64, which the second rounding takes to the even one of the two.
    """
    kernel, us = start(values), start(found)
    vs, u = us + size * kernels * p, us + 8 * kernels * (p + q)  # u: a column, in float64
    for n in range(kernels):
        largest, place = 0, 0
        for e in range(p * q):
            bits = load_int(kernel, e) & _MAGNITUDE
            if bits > largest:
                largest, place = bits, e
        if largest >= _INFINITY:
            return 8 * n + NOT_FINITE
        pivot, top = get(kernel, place), float_of(largest)
        if largest and not SMALL <= top <= LARGE:
            return 8 * n + UNDECIDED
        row, column = kernel + 8 * (place - place % q), kernel + 8 * (place % q)
        for a in range(p if largest else 0):
            x = get(column, a * q)
            y = x / pivot
            put(u, a, y)
            bits = load_int(u, a)
            if bits & 1:
                if abs(x) < SMALL or abs(x) < SMALL * top:
                    return 8 * n + UNDECIDED
                left = (x - y * pivot) - product_error(y, pivot)
                last = float_of(((bits & _MAGNITUDE) >> 52 << 52) - (52 << 52))
                if (abs(left) - half * last * top) - product_error(half * last, top) >= 0:
                    put(u, a, y + last if (left < 0) == (pivot < 0) else y - last)
        missing = False
        for a in range(p if largest else 0):
            x, cancels, misses = get(u, a), False, False
            for b in range(q):
                y = get(kernel, a * q + b)
                z = x * get(row, b)
                cancels |= abs(z) > 4.0 * abs(y) + tiny
                misses |= abs(z - y) > 2.0 * eps * abs(y) + tiny
            if cancels:
                return 8 * n + CANCELS
            missing |= misses
        if missing:
            return 8 * n + MORE_NEEDED
        # What the product misses must also be smaller than any singular value that would count for
        # the rank. That follows, except for small kernels and numbers near the end of the range.
        if largest and (max(p, q) < 5 or top * eps < p * q * tiny):
            missed, whole = 0.0, 0.0
            for a in range(p):
                for b in range(q):
                    y = get(kernel, a * q + b)
                    z = (get(u, a) * get(row, b) - y) / top
                    missed += z * z
                    whole += (y / top) * (y / top)
            if math.sqrt(missed) > max(p, q) / 2 * eps * math.sqrt(whole):
                return 8 * n + MORE_NEEDED
        if largest:
            for a in range(p):
                put_as(us, n * p + a, size, get(u, a))
            for b in range(q):
                put_as(vs, n * q + b, size, get(row, b))
        kernel += 8 * p * q
    return 8 * kernels + ACCURATE


def _integer_rank_one_factors(values, kernels, p, q, unsigned, found):
    """Factor kernels of integers of rank 1, with products modulo 2**64.

    The row is the first row that is not zero, divided by the greatest common divisor of its
    elements.
    """
    kernel, u = start(values), start(found)
    v = u + 8 * kernels * p
    for n in range(kernels):
        place = 0
        while place < p * q and load_int(kernel, place) == 0:
            place += 1
        nonzero = place < p * q
        row, column = kernel + 8 * (place - place % q), kernel + 8 * (place % q)
        divisor = 0
        for b in range(q if nonzero else 0):
            x = load_int(row, b)
            if x == _LEAST or (unsigned and x < 0):
                return 8 * n + UNDECIDED
            x = abs(x)
            while x != 0:
                divisor, x = x, divisor % x
        for b in range(q if nonzero else 0):
            store_int(v, b, load_int(row, b) // divisor)
        for a in range(p if nonzero else 0):
            x = load_int(column, a * q)
            if x == _LEAST or (unsigned and x < 0):
                return 8 * n + UNDECIDED
            x //= load_int(v, place % q)
            store_int(u, a, x)
            differ = 0
            for b in range(q):
                differ |= x * load_int(v, b) - load_int(kernel, a * q + b)
            if differ != 0:
                return 8 * n + MORE_NEEDED
        kernel, u, v = kernel + 8 * p * q, u + 8 * p, v + 8 * q
    return 8 * kernels + ACCURATE


rank_one_factors = compiled(_rank_one_factors)
integer_rank_one_factors = compiled(_integer_rank_one_factors)
