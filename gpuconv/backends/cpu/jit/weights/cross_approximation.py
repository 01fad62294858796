"""Factors of kernels of low rank by cross approximation, for sums in float32 (Numba).

`methods.float_factors` finds the same factors with NumPy, bit for bit, and comes to the same
verdict. Where the arithmetic here might decide differently, NumPy has to decide (`UNDECIDED`).
"""

from __future__ import annotations

import math

from ..drivers import compiled, inner
from .doubles import get, product_error, put, put_as, start
from .verdict import ACCURATE, CANCELS, MORE_NEEDED, UNDECIDED


@inner
def _get_pair(pairs, place):
    """Return an element of an array of numbers that are each the sum of two float64."""
    return get(pairs, 2 * place), get(pairs, 2 * place + 1)


@inner
def _pivot_is_unsure(k, high, place, p, q, number, us, vs):
    """Whether an element may be larger than the pivot in digits that are not computed here.

    One that was computed from the same numbers as the pivot, except for signs, is equal to it in
    all digits.
    """
    i, j, largest = place // q, place % q, abs(get(high, place))
    for e in range(p * q):
        if e != place and abs(get(high, e)) >= largest * (1 - 2.0**-48):
            same = abs(get(k, e)) == abs(get(k, place))
            for t in range(number):
                x1, x2 = _get_pair(us, t * p + e // q)
                y1, y2 = _get_pair(us, t * p + i)
                same &= abs(x1) == abs(y1) and abs(x2) == abs(y2)
                z1, z2 = _get_pair(vs, t * q + e % q)
                w1, w2 = _get_pair(vs, t * q + j)
                same &= abs(z1) == abs(w1) and abs(z2) == abs(w2)
                flipped = (x1 * z1 < 0) != (y1 * w1 < 0)
                same &= flipped == ((get(k, e) < 0) != (get(k, place) < 0))
            if not same:
                return True
    return False


@inner
def _take_cross(high, low, place, p, q, u, v):
    """Write the pivot's column divided by the pivot to `u`, and the pivot's row to `v`."""
    i, j = place // q, place % q
    p1, p2 = get(high, place), get(low, place)
    for a in range(p):
        x = get(high, a * q + j)
        y = x / p1
        z = (x - y * p1) - product_error(y, p1) + (get(low, a * q + j) - y * p2)
        z /= p1
        put(u, 2 * a, y + z)
        put(u, 2 * a + 1, z - ((y + z) - y))
    for b in range(q):
        put(v, 2 * b, get(high, i * q + b))
        put(v, 2 * b + 1, get(low, i * q + b))


@inner
def _factors_are_accurate(k, p, q, number, us, vs, eps, tiny):
    """Whether the factors' products, as float64 adds them up, are within the error bound."""
    for a in range(p):
        for b in range(q):
            y, total, far = get(k, a * q + b), 0.0, 0.0
            for t in range(number):
                z = get(us, 2 * (t * p + a)) * get(vs, 2 * (t * q + b))
                total += z
                far += abs(z)
            if not abs(total - y) <= 2.0 * eps * abs(y) + tiny or not far <= 4.0 * abs(y) + tiny:
                return False
    return True


def _cross_approximation(kernel, p, q, limit, eps, tiny, unit, work, found):
    """Factor a kernel by cross approximation with full pivoting, for sums in float32.

    Each step subtracts the cross through the largest element of the remainder: its column divided
    by it, times its row. This is `methods.float_factors.cross_approximation`, with `unit` the
    rounding error of the long double there; here every number of the remainder is a sum of two
    float64.

    Returns the number of crosses times 8 plus the verdict, which is UNDECIDED where digits that are
    not computed here could change it. `found` takes columns and then rows, in float32; `work` needs
    room for 4 kernels, a row, and each factor twice.
    """
    k, high, out = start(kernel), start(work), start(found)
    # For each element: the remainder's second part, the sum of the products' magnitudes, and a
    # bound on the rounding errors so far; a copy of that bound for the pivot's row.
    low, reach, noise = high + 8 * p * q, high + 16 * p * q, high + 24 * p * q
    of_v = high + 32 * p * q
    us, vs = of_v + 8 * q, of_v + 8 * q + 16 * limit * p
    top, place, whole = 0.0, 0, 0.0
    for e in range(p * q):
        x = get(k, e)
        put(high, e, x)
        put(low, e, 0.0)
        put(reach, e, 0.0)
        put(noise, e, 0.0)
        if abs(x) > top:
            top, place = abs(x), e
    for e in range(p * q):
        x = get(k, e) / top
        whole += x * x
    number = 0
    while True:
        if number == limit:
            return 8 * number + MORE_NEEDED
        if number and _pivot_is_unsure(k, high, place, p, q, number, us, vs):
            return 8 * number + UNDECIDED
        i, j, p1 = place // q, place % q, get(high, place)
        u, v = us + 16 * number * p, vs + 16 * number * q
        _take_cross(high, low, place, p, q, u, v)
        for b in range(q):
            put(of_v, b, get(noise, i * q + b))
        at_pivot = get(noise, place)
        cancels, misses, largest, missed = False, False, -1.0, 0.0
        for a in range(p):
            u1, u2 = get(u, 2 * a), get(u, 2 * a + 1)
            of_u = (get(noise, a * q + j) + abs(u1) * at_pivot) / abs(p1)
            for b in range(q):
                e = a * q + b
                v1, v2, x = get(v, 2 * b), get(v, 2 * b + 1), get(high, e)
                cross = u1 * v1
                y = x - cross
                z = y - x
                z = (x - (y - z)) - (cross + z)
                z += get(low, e) - (product_error(u1, v1) + (u1 * v2 + u2 * v1))
                left = y + z
                z -= left - y
                far = get(reach, e) + abs(cross)
                of = get(noise, e) + of_u * abs(v1) + abs(u1) * get(of_v, b)
                of += unit * (4.0 * abs(cross) + abs(left))
                if abs(left) <= of:
                    left, z = 0.0, 0.0
                put(high, e, left)
                put(low, e, z)
                put(reach, e, far)
                put(noise, e, of)
                cancels |= far > 1.01 * (4.0 * abs(get(k, e)) + tiny)
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
        return 8 * number + UNDECIDED  # singular values are needed
    if not _factors_are_accurate(k, p, q, number, us, vs, eps, tiny):
        return 8 * number + CANCELS
    for e in range(number * p):
        put_as(out, e, 4, get(us, 2 * e))
    for e in range(number * q):
        put_as(out, number * p + e, 4, get(vs, 2 * e))
    return 8 * number + ACCURATE


cross_approximation = compiled(_cross_approximation)
