"""Whether kernels are products of a column and a row, told in a microsecond (Numba).

The NumPy of `methods.weights` finds the same factors, to the bit, and says the same of them. What
the arithmetic here cannot do as that does is left to it (`ASK`).
"""

from __future__ import annotations

import math

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from .drivers import Compiled
from .functions import named, on_disk, peek, poke

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


@intrinsic
def _low(typingctx, x, y):
    """What the rounded product of two floats lacks, exactly (Dekker; compiled code only)."""

    def codegen(context, builder, signature, args):
        def parts(number):  # Veltkamp
            much = builder.fmul(_DOUBLE(_SPLIT), number)
            high = builder.fsub(much, builder.fsub(much, number))
            return high, builder.fsub(number, high)

        (x1, x2), (y1, y2) = map(parts, args)
        low = builder.fsub(builder.fmul(x1, y1), builder.fmul(*args))
        for a, b in ((x1, y2), (x2, y1), (x2, y2)):
            low = builder.fadd(low, builder.fmul(a, b))
        return low

    return types.float64(types.float64, types.float64), codegen


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
                left = (x - y * pivot) - _low(y, pivot)
                last = _float(((bits & _SIGN) >> 52 << 52) - (52 << 52))
                if (abs(left) - half * last * top) - _low(half * last, top) >= 0:
                    _put(u, a, 8, y + last if (left < 0) == (pivot < 0) else y - last)
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


def _crosses(kernel, p, q, limit, eps, tiny, unit, work, found):
    """Factors of a kernel of float32 by crosses through the largest remaining element.

    As `methods.weights._crosses` says, and with `unit` of the long double there; here the remainder
    is a sum of two floats. The number of terms times 8, and one of the names above, are returned:
    MORE for a rank above the limit, ASK where other digits might tell otherwise. `found` takes
    columns and then rows of float32; `work` has room for 4 kernels, a row, and each factor twice.
    """
    k, high, out = _start(kernel), _start(work), _start(found)
    low, reach, noise = high + 8 * p * q, high + 16 * p * q, high + 24 * p * q
    of_v = high + 32 * p * q
    us, vs = of_v + 8 * q, of_v + 8 * q + 16 * limit * p
    top, place, whole = 0.0, 0, 0.0
    for e in range(p * q):
        x = _get(k, e)
        _put(high, e, 8, x)
        _put(low, e, 8, 0.0)
        _put(reach, e, 8, 0.0)
        _put(noise, e, 8, 0.0)
        if abs(x) > top:
            top, place = abs(x), e
    for e in range(p * q):
        x = _get(k, e) / top
        whole += x * x
    number = 0
    while True:
        if number == limit:
            return 8 * number + MORE
        i, j = place // q, place % q
        p1, p2, largest = _get(high, place), _get(low, place), abs(_get(high, place))
        for e in range(p * q if number else 0):
            if e != place and abs(_get(high, e)) >= largest * (1 - 2.0**-48):
                # The same of the same numbers is the same in all digits.
                same = abs(_get(k, e)) == abs(_get(k, place))
                for t in range(number):
                    x1, x2 = _get(us, 2 * (t * p + e // q)), _get(us, 2 * (t * p + e // q) + 1)
                    y1, y2 = _get(us, 2 * (t * p + i)), _get(us, 2 * (t * p + i) + 1)
                    same &= abs(x1) == abs(y1) and abs(x2) == abs(y2)
                    z1, z2 = _get(vs, 2 * (t * q + e % q)), _get(vs, 2 * (t * q + e % q) + 1)
                    w1, w2 = _get(vs, 2 * (t * q + j)), _get(vs, 2 * (t * q + j) + 1)
                    same &= abs(z1) == abs(w1) and abs(z2) == abs(w2)
                    flipped = (x1 * z1 < 0) != (y1 * w1 < 0)
                    same &= flipped == ((_get(k, e) < 0) != (_get(k, place) < 0))
                if not same:
                    return 8 * number + ASK
        u, v = us + 16 * number * p, vs + 16 * number * q
        for a in range(p):
            x = _get(high, a * q + j)
            y = x / p1
            z = (x - y * p1) - _low(y, p1) + (_get(low, a * q + j) - y * p2)
            z /= p1
            _put(u, 2 * a, 8, y + z)
            _put(u, 2 * a + 1, 8, z - ((y + z) - y))
        for b in range(q):
            _put(v, 2 * b, 8, _get(high, i * q + b))
            _put(v, 2 * b + 1, 8, _get(low, i * q + b))
            _put(of_v, b, 8, _get(noise, i * q + b))
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
                z += _get(low, e) - (_low(u1, v1) + (u1 * v2 + u2 * v1))
                left = y + z
                z -= left - y
                far = _get(reach, e) + abs(cross)
                of = _get(noise, e) + of_u * abs(v1) + abs(u1) * _get(of_v, b)
                of += unit * (4.0 * abs(cross) + abs(left))
                if abs(left) <= of:
                    left, z = 0.0, 0.0
                _put(high, e, 8, left)
                _put(low, e, 8, z)
                _put(reach, e, 8, far)
                _put(noise, e, 8, of)
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
        return 8 * number + ASK  # for singular values
    for a in range(p):
        for b in range(q):
            y, total, far = _get(k, a * q + b), 0.0, 0.0
            for t in range(number):
                z = _get(us, 2 * (t * p + a)) * _get(vs, 2 * (t * q + b))
                total += z
                far += abs(z)
            if not abs(total - y) <= 2.0 * eps * abs(y) + tiny or not far <= 4.0 * abs(y) + tiny:
                return 8 * number + CANCELS
    for e in range(number * p):
        _put(out, e, 4, _get(us, 2 * e))
    for e in range(number * q):
        _put(out, number * p + e, 4, _get(vs, 2 * e))
    return 8 * number


_options = dict(nogil=True, error_model="numpy")
products = Compiled(on_disk(njit, **_options)(named(_products, "products")))
whole_products = Compiled(on_disk(njit, **_options)(named(_whole_products, "whole_products")))
crosses = Compiled(on_disk(njit, **_options)(named(_crosses, "crosses")))
