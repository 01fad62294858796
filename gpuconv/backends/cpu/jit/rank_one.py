"""Factors of low rank of the weights, found or ruled out in a microsecond (Numba).

The NumPy of `methods.rank` finds the same factors, to the bit, and comes to the same verdict. What
the arithmetic here cannot decide as that does is left to it (`UNDECIDED`).
"""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, register_jitable

from .drivers import Compiled
from .functions import load_int, named, on_disk, store_int
from .verdict import Verdict

# Compiled code returns a count times 8 plus a verdict; these are plain integers for Numba.
ACCURATE, CANCELS, MORE_NEEDED, NOT_FINITE, UNDECIDED = map(int, Verdict)

# All bits but the sign, the bits of infinity, and the smallest 64-bit integer.
_MAGNITUDE, _INFINITY, _LEAST = 0x7FFFFFFFFFFFFFFF, 0x7FF0000000000000, -(1 << 63)
# Outside these, halves of products are inexact or overflow.
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
    """Read an element of an array of float64 numbers (compiled code only)."""

    def codegen(context, builder, signature, args):
        start = builder.inttoptr(args[0], _DOUBLE.as_pointer())
        return builder.load(builder.gep(start, [args[1]]))

    return types.float64(types.int64, types.intp), codegen


@intrinsic
def _put(typingctx, address, place, value):
    """Write an element of an array of float64 numbers (compiled code only)."""

    def codegen(context, builder, signature, args):
        start = builder.inttoptr(args[0], _DOUBLE.as_pointer())
        builder.store(args[2], builder.gep(start, [args[1]]))
        return context.get_dummy_value()

    return types.void(types.int64, types.intp, types.float64), codegen


@intrinsic
def _put_as(typingctx, address, place, size, value):
    """Write an element of an array of float64, or float32 if `size` is 4 (compiled code only)."""

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
    """Reinterpret 64 bits as a float64 (compiled code only)."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], _DOUBLE)

    return types.float64(types.int64), codegen


@intrinsic
def _product_error(typingctx, x, y):
    """Rounding error of the product of two floats, exactly (Dekker; compiled code only)."""

    def codegen(context, builder, signature, args):
        def halves(number):  # Veltkamp
            scaled = builder.fmul(_DOUBLE(_SPLIT), number)
            high = builder.fsub(scaled, builder.fsub(scaled, number))
            return high, builder.fsub(number, high)

        (x1, x2), (y1, y2) = map(halves, args)
        error = builder.fsub(builder.fmul(x1, y1), builder.fmul(*args))
        for a, b in ((x1, y2), (x2, y1), (x2, y2)):
            error = builder.fadd(error, builder.fmul(a, b))
        return error

    return types.float64(types.float64, types.float64), codegen


def _rank_one_factors(values, kernels, p, q, eps, tiny, half, size, found):
    """Factor kernels of rank 1, up to the first that has no accurate factors.

    Returns the number of kernels before that one times 8, plus the verdict on it. `eps` and `tiny`
    are the rounding error and the smallest normal number of the dtype that sums are taken in, whose
    size is `size` bytes. `found` takes columns and then rows of that dtype, and needs room for p
    more float64 numbers.

    The column is the pivot's column divided by the pivot, the largest element; the row is the
    pivot's row. NumPy rounds quotients to a long double first and then to float64: `half` is how
    far from a float64, in units of its last digit, a quotient must lie for the long double to be
    the middle between that float64 and the next, of which the second rounding takes the even one.
    """
    kernel, us = _start(values), _start(found)
    vs, u = us + size * kernels * p, us + 8 * kernels * (p + q)  # u: a column, in float64
    for n in range(kernels):
        largest, place = 0, 0
        for e in range(p * q):
            bits = load_int(kernel, e) & _MAGNITUDE
            if bits > largest:
                largest, place = bits, e
        if largest >= _INFINITY:
            return 8 * n + NOT_FINITE
        pivot, top = _get(kernel, place), _float(largest)
        if largest and not _SMALL <= top <= _LARGE:
            return 8 * n + UNDECIDED
        row, column = kernel + 8 * (place - place % q), kernel + 8 * (place % q)
        for a in range(p if largest else 0):
            x = _get(column, a * q)
            y = x / pivot
            _put(u, a, y)
            bits = load_int(u, a)
            if bits & 1:
                if abs(x) < _SMALL or abs(x) < _SMALL * top:
                    return 8 * n + UNDECIDED
                left = (x - y * pivot) - _product_error(y, pivot)
                last = _float(((bits & _MAGNITUDE) >> 52 << 52) - (52 << 52))
                if (abs(left) - half * last * top) - _product_error(half * last, top) >= 0:
                    _put(u, a, y + last if (left < 0) == (pivot < 0) else y - last)
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
            return 8 * n + MORE_NEEDED
        # What the product misses must also be smaller than any singular value that would count for
        # the rank. That follows, except for small kernels and numbers near the end of the range.
        if largest and (max(p, q) < 5 or top * eps < p * q * tiny):
            missed, whole = 0.0, 0.0
            for a in range(p):
                for b in range(q):
                    y = _get(kernel, a * q + b)
                    z = (_get(u, a) * _get(row, b) - y) / top
                    missed += z * z
                    whole += (y / top) * (y / top)
            if math.sqrt(missed) > max(p, q) / 2 * eps * math.sqrt(whole):
                return 8 * n + MORE_NEEDED
        if largest:
            for a in range(p):
                _put_as(us, n * p + a, size, _get(u, a))
            for b in range(q):
                _put_as(vs, n * q + b, size, _get(row, b))
        kernel += 8 * p * q
    return 8 * kernels + ACCURATE


def _integer_rank_one_factors(values, kernels, p, q, unsigned, found):
    """The same for integers, whose products are taken modulo 2**64.

    The row is the first row that is not zero, divided by the greatest common divisor of its
    elements.
    """
    kernel, u = _start(values), _start(found)
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


@register_jitable
def _get_pair(pairs, place):
    """Element of an array of numbers that are each the sum of two float64."""
    return _get(pairs, 2 * place), _get(pairs, 2 * place + 1)


@register_jitable
def _pivot_is_unsure(k, high, place, p, q, number, us, vs):
    """Whether an element may be larger than the pivot in digits that are not computed here.

    One that came of the same numbers as the pivot, but for signs, is equal to it in all digits.
    """
    i, j, largest = place // q, place % q, abs(_get(high, place))
    for e in range(p * q):
        if e != place and abs(_get(high, e)) >= largest * (1 - 2.0**-48):
            same = abs(_get(k, e)) == abs(_get(k, place))
            for t in range(number):
                x1, x2 = _get_pair(us, t * p + e // q)
                y1, y2 = _get_pair(us, t * p + i)
                same &= abs(x1) == abs(y1) and abs(x2) == abs(y2)
                z1, z2 = _get_pair(vs, t * q + e % q)
                w1, w2 = _get_pair(vs, t * q + j)
                same &= abs(z1) == abs(w1) and abs(z2) == abs(w2)
                flipped = (x1 * z1 < 0) != (y1 * w1 < 0)
                same &= flipped == ((_get(k, e) < 0) != (_get(k, place) < 0))
            if not same:
                return True
    return False


@register_jitable
def _take_cross(high, low, place, p, q, u, v):
    """Write the pivot's column divided by the pivot to `u`, and the pivot's row to `v`."""
    i, j = place // q, place % q
    p1, p2 = _get(high, place), _get(low, place)
    for a in range(p):
        x = _get(high, a * q + j)
        y = x / p1
        z = (x - y * p1) - _product_error(y, p1) + (_get(low, a * q + j) - y * p2)
        z /= p1
        _put(u, 2 * a, y + z)
        _put(u, 2 * a + 1, z - ((y + z) - y))
    for b in range(q):
        _put(v, 2 * b, _get(high, i * q + b))
        _put(v, 2 * b + 1, _get(low, i * q + b))


@register_jitable
def _factors_are_accurate(k, p, q, number, us, vs, eps, tiny):
    """Whether the factors' products, as float64 adds them up, are within the error bound."""
    for a in range(p):
        for b in range(q):
            y, total, far = _get(k, a * q + b), 0.0, 0.0
            for t in range(number):
                z = _get(us, 2 * (t * p + a)) * _get(vs, 2 * (t * q + b))
                total += z
                far += abs(z)
            if not abs(total - y) <= 2.0 * eps * abs(y) + tiny or not far <= 4.0 * abs(y) + tiny:
                return False
    return True


def _cross_approximation(kernel, p, q, limit, eps, tiny, unit, work, found):
    """Factor a kernel by cross approximation with full pivoting, for sums in float32.

    Each step subtracts the cross through the largest element of the remainder: its column divided
    by it, times its row. This is `methods.rank._crosses`, with `unit` the rounding error of the
    long double there; here every number of the remainder is a sum of two float64.

    Returns the number of crosses times 8 plus the verdict, which is UNDECIDED where digits that are
    not computed here could change it. `found` takes columns and then rows, in float32; `work` needs
    room for 4 kernels, a row, and each factor twice.
    """
    k, high, out = _start(kernel), _start(work), _start(found)
    # Of each element: the remainder's second part, the sum of the products' magnitudes, and a bound
    # on the rounding errors so far; the latter also of the pivot's row.
    low, reach, noise = high + 8 * p * q, high + 16 * p * q, high + 24 * p * q
    of_v = high + 32 * p * q
    us, vs = of_v + 8 * q, of_v + 8 * q + 16 * limit * p
    top, place, whole = 0.0, 0, 0.0
    for e in range(p * q):
        x = _get(k, e)
        _put(high, e, x)
        _put(low, e, 0.0)
        _put(reach, e, 0.0)
        _put(noise, e, 0.0)
        if abs(x) > top:
            top, place = abs(x), e
    for e in range(p * q):
        x = _get(k, e) / top
        whole += x * x
    number = 0
    while True:
        if number == limit:
            return 8 * number + MORE_NEEDED
        if number and _pivot_is_unsure(k, high, place, p, q, number, us, vs):
            return 8 * number + UNDECIDED
        i, j, p1 = place // q, place % q, _get(high, place)
        u, v = us + 16 * number * p, vs + 16 * number * q
        _take_cross(high, low, place, p, q, u, v)
        for b in range(q):
            _put(of_v, b, _get(noise, i * q + b))
        at_pivot = _get(noise, place)
        cancels, misses, largest, missed = False, False, -1.0, 0.0
        for a in range(p):
            u1, u2 = _get(u, 2 * a), _get(u, 2 * a + 1)
            of_u = (_get(noise, a * q + j) + abs(u1) * at_pivot) / abs(p1)
            for b in range(q):
                e = a * q + b
                v1, v2, x = _get(v, 2 * b), _get(v, 2 * b + 1), _get(high, e)
                cross = u1 * v1
                y = x - cross
                z = y - x
                z = (x - (y - z)) - (cross + z)
                z += _get(low, e) - (_product_error(u1, v1) + (u1 * v2 + u2 * v1))
                left = y + z
                z -= left - y
                far = _get(reach, e) + abs(cross)
                of = _get(noise, e) + of_u * abs(v1) + abs(u1) * _get(of_v, b)
                of += unit * (4.0 * abs(cross) + abs(left))
                if abs(left) <= of:
                    left, z = 0.0, 0.0
                _put(high, e, left)
                _put(low, e, z)
                _put(reach, e, far)
                _put(noise, e, of)
                cancels |= far > 1.01 * (4.0 * abs(_get(k, e)) + tiny)
                left = abs(left)
                misses |= left > 4.0 * eps * far + tiny
                missed += (left / top) * (left / top)
                if left > largest:
                    largest, place = left, e
        number += 1
        if cancels:
            return 8 * number + CANCELS
        if not misses:
            break
    if math.sqrt(missed) * math.sqrt(number) > max(p, q) / 2 * eps * math.sqrt(whole):
        return 8 * number + UNDECIDED  # singular values would tell
    if not _factors_are_accurate(k, p, q, number, us, vs, eps, tiny):
        return 8 * number + CANCELS
    for e in range(number * p):
        _put_as(out, e, 4, _get(us, 2 * e))
    for e in range(number * q):
        _put_as(out, number * p + e, 4, _get(vs, 2 * e))
    return 8 * number + ACCURATE


_options = dict(nogil=True, error_model="numpy")


def _compiled(function: Any, name: str) -> Compiled:
    return Compiled(on_disk(njit, **_options)(named(function, name)))


rank_one_factors = _compiled(_rank_one_factors, "rank_one_factors")
integer_rank_one_factors = _compiled(_integer_rank_one_factors, "integer_rank_one_factors")
cross_approximation = _compiled(_cross_approximation, "cross_approximation")
