"""Whether the sums of a tile are as exact as promised, and what makes them so (Numba).

A Fourier transform spreads the rounding errors of every pixel over all sums of its tile. The
promise is relative to the largest sum of absolute values among the outputs that the tile keeps, and
a pixel that only discarded outputs read may be larger by any factor. So the error is estimated, in
units of eps:

    norm(x) * (10 * norm(K) + 2 * max |K^|) / sqrt(N) + 8 * max |Y|

where Y are all N sums of the tile, discarded ones too; the numbers are measured, not proven. The
first term is noise, and leakage from the strongest frequency of the tile into the one that the
kernel amplifies most. The second term is for copies of a large sum at other places, which errors
of the transform's factors make. The largest sum of absolute values is at least the largest kept
sum, and at least that of any output for which it is computed. Where this does not show that the
promise is kept, the largest pixels are taken out of the tile, what is left is transformed again,
and what they contribute is added tap by tap.

All functions are compiled for each dtype, with the names bound in `tiles`.
"""

from __future__ import annotations

import math

import numpy as np
from numba import carray

from . import fields as F
from .functions import peek, pointer, poke, stack

# How many times the largest sum of absolute values an error may be, in units of eps.
PROMISED = 64.0
# What the terms of the estimate are multiplied by: with these, the errors of the transforms of 17
# kinds of images and 8 kinds of kernels, of tiles from 32 to 1024, were at most 0.7 of it.
NORMS, STRONGEST, LARGEST_SUM = 10.0, 2.0, 8.0
# How many times less than the whole error a pixel that is left in a tile may contribute, in the
# first attempt and in the second.
SHARES = (2.0, 32.0)
# What is known of a pair of tiles, in one array of float64: of each tile the sum of its squares,
# the exponent of the power of two that its pixels were divided by, and the largest sum of absolute
# values as far as it is known; then the estimated error, and whether all pixels were
# finite, or all sums. All but the exponents are of scaled pixels.
SQUARES_OF, EXPONENT, REACH, ESTIMATE, GOOD, FACTS = 0, 2, 4, 6, 7, 8
# What is known of a kernel (the array at a job's MEASURES): what the norm of a tile is multiplied
# by in the estimate, the largest weight, the norm, and the exponent of the power of two that the
# weights were divided by.
NOISE, PEAK, NORM, KERNEL_EXPONENT, MEASURES_COUNT = range(5)


def noise(norm: float, strongest: float, size: int) -> float:
    """What the norm of a tile of this size is multiplied by in the estimate (not compiled)."""
    return (NORMS * norm + STRONGEST * strongest) / math.sqrt(size)


# Bound anew for every dtype.
LANES = SIZE = ACC = None
# The squares' sums between which nothing leaves the dtype's range; the exponent of its largest
# numbers.
SMALLEST = GREATEST = EXPONENT_MOST = None
SQUARES = LARGEST = FLOAT_OF = SCALE = SUM_OF = None


def _float_of(bits):
    """The number of these bits."""
    place = stack()
    poke(place, 0, bits)
    return np.float64(carray(pointer(place), (1,), ACC.dtype)[0])


def _unscaled(bits, exponent):
    """The number of these bits divided by 2**exponent, which may be out of the dtype's range."""
    step = exponent // 2
    return FLOAT_OF(bits) * math.ldexp(1.0, -step) * math.ldexp(1.0, step - exponent)


def _scale(plane, pitch, rows, columns, exponent):
    """Multiply by a power of two, in two steps because it may lie outside the dtype's range."""
    one = ACC.dtype.type(math.ldexp(1.0, exponent // 2))
    other = ACC.dtype.type(math.ldexp(1.0, exponent - exponent // 2))
    for i in range(rows):
        line = carray(pointer(plane + i * pitch), (columns,), ACC.dtype)
        for j in range(columns):
            line[j] = line[j] * one * other


def _measured(d, plane, pitch, squares, facts, t):
    """Note a tile's sum of squares, scaled if need be; whether all of it is finite."""
    ny, nx = peek(d, F.SIDE_Y), peek(d, F.SIDE_X)
    known = carray(pointer(facts), (FACTS,), np.float64)
    exponent = 0
    if not SMALLEST < squares < GREATEST:
        largest = FLOAT_OF(LARGEST(plane, pitch, ny, nx // LANES))
        if not largest < np.inf:
            return False
        squares = 0.0
        if largest > 0:
            exponent = math.frexp(largest)[1]
            SCALE(plane, pitch, ny, nx, -exponent)
            squares = SQUARES(plane, pitch, ny, nx // LANES)
    known[SQUARES_OF + t], known[EXPONENT + t], known[REACH + t] = squares, exponent, 0.0
    return True


def _balanced(d, tile, half, pitch, facts):
    """Scale a pair of tiles to about the same norm, so that neither's errors drown the other.

    Returns whether no sum can leave the dtype's range.
    """
    ny, nx = peek(d, F.SIDE_Y), peek(d, F.SIDE_X)
    known = carray(pointer(facts), (FACTS,), np.float64)
    measures = carray(pointer(peek(d, F.MEASURES)), (MEASURES_COUNT,), np.float64)
    one, other = known[SQUARES_OF], known[SQUARES_OF + 1]
    if min(one, other) > 0 and max(one, other) > 16 * min(one, other):
        for t in range(2):
            exponent = math.frexp(math.sqrt(known[SQUARES_OF + t]))[1]
            SCALE(tile + t * half, pitch, ny, nx, -exponent)
            known[SQUARES_OF + t] = math.ldexp(known[SQUARES_OF + t], -2 * exponent)
            known[EXPONENT + t] += exponent
    for t in range(2):
        exponent = known[EXPONENT + t] + measures[KERNEL_EXPONENT]
        if exponent > 0 and known[SQUARES_OF + t] > 0:
            bound = math.sqrt(known[SQUARES_OF + t]) * measures[NORM]
            if math.frexp(bound)[1] + exponent > EXPONENT_MOST - 2:
                return False
    return True


def _sum_of(d, plane, pitch, i, j):
    """Sum of absolute values of one output of a tile that is not transformed yet."""
    p, q = peek(d, F.P), peek(d, F.Q)
    spread = (peek(d, F.SPAN_X) - 1) // (q - 1) if q > 1 else 1
    start = plane + i * peek(d, F.STRIDE_Y) * pitch + j * peek(d, F.SAMPLE_X) * SIZE
    step, taps, total = peek(d, F.DILATION_Y) * pitch, peek(d, F.SCALED_TAPS), 0.0
    for a in range(p):
        line = carray(pointer(start + a * step), (peek(d, F.SPAN_X),), ACC.dtype)
        weights = carray(pointer(taps + a * q * SIZE), (q,), ACC.dtype)
        one = ACC.dtype.type(0)
        if spread == 1:
            for b in range(q):
                one += abs(line[b] * weights[b])
        else:
            for b in range(q):
                one += abs(line[b * spread] * weights[b])
        total += one
    return total


def _take(d, work, plane, pitch, limit, exponent):
    """Take pixels larger than a limit out of a tile; how many, or -1 where they are too many.

    They are noted as they were before they were divided by 2**exponent.
    """
    ny, nx, most = peek(d, F.SIDE_Y), peek(d, F.SIDE_X), peek(d, F.TAKEN_MOST)
    places = carray(pointer(work + peek(d, F.TAKEN)), (most,), np.int64)
    values = work + peek(d, F.TAKEN) + 8 * most
    count = 0
    for y in range(ny):
        start = plane + y * pitch
        if not FLOAT_OF(LARGEST(start, 0, 1, nx // LANES)) > limit:
            continue
        line = carray(pointer(start), (nx,), ACC.dtype)
        for x in range(nx):
            if abs(line[x]) > limit:
                if count == most:
                    return -1
                places[count] = y * nx + x
                carray(pointer(values), (most,), ACC.dtype)[count] = line[x]
                line[x] = 0
                count += 1
    if exponent and count:
        SCALE(values, 0, 1, count, exponent)
    return count


# By the names they are bound to, each after those it calls.
FUNCTIONS = {
    "FLOAT_OF": _float_of,
    "UNSCALED": _unscaled,
    "SCALE": _scale,
    "MEASURED": _measured,
    "BALANCED": _balanced,
    "SUM_OF": _sum_of,
    "TAKE": _take,
}
