"""Correlation by Fourier transforms, tile by tile (Numba): overlap-save on pairs of tiles.

Two neighbouring tiles are the real and the imaginary part of one complex tile: the kernel is real,
so that both come out apart again. Columns are transformed a vector's width of them at a time, then
the tile is transposed and the same is done to its rows, times the kernel's spectrum and back at
once, while they are in the first-level cache.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numba import carray, njit, prange

from . import fft_errors, fft_transforms
from . import fields as F
from .drivers import Compiled, variants
from .fft_errors import (
    ESTIMATE,
    EXPONENT,
    FACTS,
    GOOD,
    KERNEL_EXPONENT,
    LARGEST_SUM,
    MEASURES_COUNT,
    NOISE,
    NORM,
    PEAK,
    PROMISED,
    REACH,
    SHARES,
    SQUARES_OF,
)
from .functions import (
    allocate,
    call,
    compile_function,
    count_up,
    named,
    peek,
    pointer,
    poke,
    release,
    stack,
)
from .vectors import lanes, vector_bytes

# Bound anew in every piece.
FORWARD4 = FORWARD8 = FORWARD4_LAST = FORWARD8_LAST = None
INVERSE4 = INVERSE8 = INVERSE4_LAST = INVERSE8_LAST = None
TRANSPOSE = PRODUCT = LANES = SIZE = BYTES = BITS = MAGNITUDE = INFINITE = ACC = EPS = None
PLANES = COLUMNS = MULTIPLY = BACK = LOAD_TILE = STORE_TILE = STORE_LINE = MOVE = None
SMALLEST = SQUARES = LARGEST = UNSCALED = SCALE = MEASURED = BALANCED = SUM_OF = TAKE = PART = None

# Rows of a tile that are read at once, a multiple of four that all sides are multiples of.
AT_ONCE = 32
# What may have come of a pair of tiles: it must be summed directly, or tile t of it is doubtful
# (DOUBTFUL << t).
DIRECT, DOUBTFUL = 1, 2

# All functions below but the last are compiled for each dtype, with `_bound`.


def _forward(re, im, gap, to_re, to_im, n, radices, factors):
    """Transform one vector of columns, `gap` bytes apart, into contiguous vectors."""
    m, s = n, 0
    while m > 1:
        r = peek(radices, s)
        step = m // r
        for g in range(0, n, m):
            for k in range(step):
                at = g + k
                target = at * BYTES
                if r == 8:
                    if step > 1:
                        FORWARD8(
                            re + at * gap, im + at * gap, step * gap, to_re + target,
                            to_im + target, step * BYTES, factors + k * 14 * SIZE,
                        )  # fmt: skip
                    else:
                        FORWARD8_LAST(
                            re + at * gap, im + at * gap, gap, to_re + target, to_im + target,
                            BYTES, 0,
                        )  # fmt: skip
                elif step > 1:
                    FORWARD4(
                        re + at * gap, im + at * gap, step * gap, to_re + target, to_im + target,
                        step * BYTES, factors + k * 6 * SIZE,
                    )  # fmt: skip
                else:
                    FORWARD4_LAST(
                        re + at * gap, im + at * gap, gap, to_re + target, to_im + target, BYTES,
                        0,
                    )  # fmt: skip
        factors += step * (r - 1) * 2 * SIZE
        re, im, gap = to_re, to_im, BYTES
        m, s = step, s + 1


def _inverse(re, im, to_re, to_im, to_gap, n, radices, factors):
    """Transform contiguous vectors, in place, back to columns `to_gap` bytes apart."""
    s, total = 0, 0
    m = n
    while m > 1:
        r = peek(radices, s)
        total += m // r * (r - 1) * 2 * SIZE
        m //= r
        s += 1
    factors += total
    while m < n:
        s -= 1
        r = peek(radices, s)
        step = m
        m *= r
        factors -= step * (r - 1) * 2 * SIZE
        a, b, gap = re, im, BYTES
        if m == n:
            a, b, gap = to_re, to_im, to_gap
        for g in range(0, n, m):
            for k in range(step):
                at = g + k
                source = at * BYTES
                if r == 8:
                    if step > 1:
                        INVERSE8(
                            re + source, im + source, step * BYTES, a + at * gap, b + at * gap,
                            step * gap, factors + k * 14 * SIZE,
                        )  # fmt: skip
                    else:
                        INVERSE8_LAST(
                            re + source, im + source, BYTES, a + at * gap, b + at * gap, gap, 0,
                        )  # fmt: skip
                elif step > 1:
                    INVERSE4(
                        re + source, im + source, step * BYTES, a + at * gap, b + at * gap,
                        step * gap, factors + k * 6 * SIZE,
                    )  # fmt: skip
                else:
                    INVERSE4_LAST(
                        re + source, im + source, BYTES, a + at * gap, b + at * gap, gap, 0,
                    )  # fmt: skip


def _turn(source, gap, target, to_gap, count, step, to_step, unused):
    """Transpose `count` squares of vectors, `step` bytes apart, to places `to_step` apart."""
    for square in range(count):
        TRANSPOSE(source + square * step, gap, target + square * to_step, to_gap)


def _planes(d, work):
    """Addresses in the workspace: tile, its transpose, columns at work; bytes between rows.

    Rows are a vector longer than the tile: a power of two apart they would all compete for the
    same places in the cache.
    """
    ny, nx = peek(d, F.SIDE_Y), peek(d, F.SIDE_X)
    gap, turned = nx * SIZE + BYTES, ny * SIZE + BYTES
    tile = work + BYTES
    transposed = tile + 2 * ny * gap
    columns = transposed + 2 * nx * turned
    return tile, gap, transposed, turned, columns


def _columns(d, work):
    """Transform the columns of the tile and transpose it."""
    ny, nx = peek(d, F.SIDE_Y), peek(d, F.SIDE_X)
    tile, gap, transposed, turned, local = PLANES(d, work)
    re, im, radices = local, local + ny * BYTES, peek(d, F.RADICES_Y)
    factors = peek(d, F.FACTORS_Y)
    for c in range(nx // LANES):
        call(
            peek(d, F.FORWARD),
            tile + c * BYTES,
            tile + ny * gap + c * BYTES,
            gap,
            re,
            im,
            ny,
            radices,
            factors,
        )
        to, square = transposed + c * LANES * turned, LANES * BYTES
        call(peek(d, F.TURN), re, BYTES, to, turned, ny // LANES, square, BYTES, 0)
        call(peek(d, F.TURN), im, BYTES, to + nx * turned, turned, ny // LANES, square, BYTES, 0)


def _multiply(d, work, spectrum):
    """Transform the rows, multiply by the spectrum, transform back."""
    ny, nx = peek(d, F.SIDE_Y), peek(d, F.SIDE_X)
    _tile, _gap, transposed, turned, local = PLANES(d, work)
    re, im, radices = local, local + nx * BYTES, peek(d, F.RADICES_X)
    factors = peek(d, F.FACTORS_X)
    for r in range(ny // LANES):
        at = transposed + r * BYTES
        call(peek(d, F.FORWARD), at, at + nx * turned, turned, re, im, nx, radices, factors)
        for c in range(nx):
            factor = spectrum + (r * nx + c) * 2 * BYTES
            PRODUCT(re + c * BYTES, im + c * BYTES, factor, factor + BYTES)
        call(peek(d, F.INVERSE), re, im, at, at + nx * turned, turned, nx, radices, factors)


def _back(d, work):
    """Transpose the tile again and transform its columns back."""
    ny, nx = peek(d, F.SIDE_Y), peek(d, F.SIDE_X)
    tile, gap, transposed, turned, local = PLANES(d, work)
    re, im, radices = local, local + ny * BYTES, peek(d, F.RADICES_Y)
    factors = peek(d, F.FACTORS_Y)
    for c in range(nx // LANES):
        at, square = transposed + c * LANES * turned, LANES * BYTES
        call(peek(d, F.TURN), at, turned, re, BYTES, ny // LANES, BYTES, square, 0)
        call(peek(d, F.TURN), at + nx * turned, turned, im, BYTES, ny // LANES, BYTES, square, 0)
        call(
            peek(d, F.INVERSE),
            re,
            im,
            tile + c * BYTES,
            tile + ny * gap + c * BYTES,
            gap,
            ny,
            radices,
            factors,
        )


def _load_tile(d, x, y0, x0, target, gap):
    """Read one tile's pixels, zero beyond the padded image; returns their sum of squares."""
    ny, nx, squares = peek(d, F.SIDE_Y), peek(d, F.SIDE_X), 0.0
    rows = (peek(d, F.R) - 1) * peek(d, F.STRIDE_Y) + (peek(d, F.P) - 1) * peek(d, F.DILATION_Y) + 1
    rows = max(0, min(ny, rows - y0))
    columns = max(0, min(nx, peek(d, F.COLUMNS_COUNT) - x0))
    for first in range(0, ny, AT_ONCE):  # while they are in the first-level cache
        last = min(first + AT_ONCE, rows)
        if first < last and columns > 0:
            # The job's ring has no end: row y belongs y rows behind its beginning.
            call(
                peek(d, F.LOAD), peek(d, F.SOURCE), x, y0 + first, y0 + last, x0, columns,
                target - y0 * gap, gap // SIZE,
            )  # fmt: skip
        for i in range(first, first + AT_ONCE):
            n = columns if i < rows else 0
            carray(pointer(target + i * gap + n * SIZE), (nx - n,), ACC.dtype)[:] = 0
        if first < last and peek(d, F.CHECKED):
            squares += SQUARES(target + first * gap, gap, AT_ONCE, nx // LANES)
    return squares


def _store_line(line, target, n):
    """Copy a row of sums; the largest of the magnitudes' bits."""
    rest = n * SIZE - BYTES
    return max(MOVE(line, target, n // LANES), MOVE(line + rest, target + rest, 1))


def _part(d, number):
    """First output row and column of a tile, and how many of each it gives."""
    ty, tx = number // peek(d, F.TILES_X), number % peek(d, F.TILES_X)
    down = peek(d, F.STEP_Y) // peek(d, F.STRIDE_Y)
    across = peek(d, F.STEP_X) // peek(d, F.SAMPLE_X)
    i0, j0 = ty * down, tx * across
    return i0, j0, min(down, peek(d, F.R) - i0), min(across, peek(d, F.S) - j0)


def _store_tile(d, source, gap, out, number):
    """Write one tile's sums; returns the largest of the magnitudes' bits."""
    i0, j0, rows, columns = PART(d, number)
    sy, sx = peek(d, F.STRIDE_Y), peek(d, F.SAMPLE_X)
    largest, step, row = 0, peek(d, F.OUT_COLUMN), peek(d, F.OUT_ROW)
    target = out + i0 * row + j0 * step
    if peek(d, F.PLACE_OUT) and sx == 1 and columns >= LANES:
        for i in range(rows):
            largest = max(largest, STORE_LINE(source + i * sy * gap, target + i * row, columns))
        return largest
    for i in range(rows):
        line = source + i * sy * gap
        values = carray(pointer(line), (columns * sx,), ACC.dtype)
        for j in range(columns if sx > 1 else 0):
            values[j] = values[j * sx]
        bits = carray(pointer(line), (columns,), BITS)
        for j in range(columns):
            largest = max(largest, bits[j] & MAGNITUDE)
    call(peek(d, F.STORE), source, columns, target, step, rows, sy * gap, row, 0)
    return largest


def _read(d, work, x, first, count, facts, unused, unused2):
    """Read one or two tiles; whether all pixels are finite and no sum can leave the range."""
    tile, gap, _transposed, _turned, _local = PLANES(d, work)
    half, checked = peek(d, F.SIDE_Y) * gap, peek(d, F.CHECKED)
    known = carray(pointer(facts), (FACTS,), np.float64)
    good = True
    for t in range(2):
        plane = tile + t * half
        known[SQUARES_OF + t] = known[EXPONENT + t] = known[REACH + t] = 0.0
        if t < count:
            ty, tx = (first + t) // peek(d, F.TILES_X), (first + t) % peek(d, F.TILES_X)
            squares = LOAD_TILE(d, x, ty * peek(d, F.STEP_Y), tx * peek(d, F.STEP_X), plane, gap)
            if checked:
                good = MEASURED(d, plane, gap, squares, facts, t) and good
        else:
            carray(pointer(plane), (half // SIZE,), ACC.dtype)[:] = 0
    known[GOOD] = good and (not checked or BALANCED(d, tile, half, gap, facts))


def _transform(d, work, spectrum, unused, unused2, unused3, unused4, unused5):
    """Multiply the spectrum of a pair of tiles by a kernel's."""
    COLUMNS(d, work)
    MULTIPLY(d, work, spectrum)
    BACK(d, work)


def _write(d, work, out, first, count, facts, taken, unused):
    """Write the sums of one or two tiles and estimate their error; whether all are finite."""
    tile, gap, _transposed, _turned, _local = PLANES(d, work)
    ny, nx, checked = peek(d, F.SIDE_Y), peek(d, F.SIDE_X), peek(d, F.CHECKED)
    known = carray(pointer(facts), (FACTS,), np.float64)
    measures = carray(pointer(peek(d, F.MEASURES)), (MEASURES_COUNT,), np.float64)
    largest, kept = 0.0, (0.0, 0.0)
    known[GOOD] = 0.0
    for t in range(count):
        plane = tile + t * ny * gap
        exponent = np.int64(known[EXPONENT + t] + measures[KERNEL_EXPONENT])
        if checked and known[SQUARES_OF + t] == 0:  # the errors of the other tile
            for i in range(ny):
                carray(pointer(plane + i * gap), (nx,), ACC.dtype)[:] = 0
        if exponent:
            SCALE(plane, gap, ny, nx, exponent)
        if taken:
            call(peek(d, F.ADD_TAKEN), d, work, first + t, taken, 0, 0, 0, 0)
        if peek(d, F.WHOLE):
            for i in range(ny):
                line = carray(pointer(plane + i * gap), (nx,), ACC.dtype)
                for j in range(nx):
                    line[j] = np.rint(line[j])
        if checked and peek(d, F.SAMPLE_X) > 1:  # storing moves kept sums over discarded ones
            largest = max(largest, UNSCALED(LARGEST(plane, gap, ny, nx // LANES), exponent))
        bits = STORE_TILE(d, plane, gap, out, first + t)
        if not bits < INFINITE:
            return
        found = UNSCALED(bits, exponent)
        largest = max(largest, found)
        kept = (found, kept[1]) if t == 0 else (kept[0], found)
    known[GOOD] = 1.0
    if not checked:
        return
    norm = math.sqrt(known[SQUARES_OF] + known[SQUARES_OF + 1])
    noise, least = measures[NOISE] * norm, math.inf
    # No sum is larger than the product of the norms. That often suffices, unless much is discarded.
    known[ESTIMATE] = noise + LARGEST_SUM * norm * measures[NORM]
    for t in range(count):
        if known[SQUARES_OF + t] > 0:
            least = min(least, max(known[REACH + t], kept[t] - known[ESTIMATE] * EPS))
    if not known[ESTIMATE] <= PROMISED * least:
        for t in range(count):
            plane = tile + t * ny * gap
            _i0, _j0, rows, columns = PART(d, first + t)
            # All rows, where discarded ones lie between those that are kept.
            apart = peek(d, F.STRIDE_Y) > 1 or peek(d, F.SAMPLE_X) > 1
            inside = 0 if apart else rows
            first_vector = columns // LANES  # with some sums that are kept
            beside = nx // LANES - first_vector
            bits = max(
                LARGEST(plane + inside * gap, gap, ny - inside, nx // LANES),
                LARGEST(plane + first_vector * BYTES, gap, inside, beside),
            )
            exponent = np.int64(known[EXPONENT + t] + measures[KERNEL_EXPONENT])
            largest = max(largest, UNSCALED(bits, exponent))
        known[ESTIMATE] = noise + LARGEST_SUM * largest
    for t in range(count):
        known[REACH + t] = max(known[REACH + t], kept[t] - known[ESTIMATE] * EPS)


def _pair(d, work, x, out, first, count, spectrum, facts):
    """Outputs of one or two tiles from tile `first` on; what came of them is left at `work`.

    That is 0, `DIRECT`, or `DOUBTFUL` bits of tiles that `_again` must look at.
    """
    known = carray(pointer(facts), (FACTS,), np.float64)
    checked = peek(d, F.CHECKED)
    call(peek(d, F.READ), d, work, x, first, count, facts, 0, 0)
    if known[GOOD]:
        if checked and peek(d, F.SAMPLE):  # weights that cancel
            for t in range(count):
                call(peek(d, F.SAMPLE), d, work, first + t, t, 1, facts, 0, 0)
        if not checked or known[SQUARES_OF] + known[SQUARES_OF + 1] > 0:
            call(peek(d, F.TRANSFORM), d, work, spectrum, 0, 0, 0, 0, 0)
        call(peek(d, F.WRITE), d, work, out, first, count, facts, 0, 0)
    outcome = 0
    if not known[GOOD]:
        outcome = DIRECT
    elif checked:
        for t in range(count):
            if known[SQUARES_OF + t] > 0 and not known[ESTIMATE] <= PROMISED * known[REACH + t]:
                outcome |= DOUBTFUL << t
    poke(work, 0, outcome)


def _sample(d, work, number, t, across, facts, unused, unused2):
    """Note what sums of absolute values some outputs of a tile have, `across` x `across` of them.

    The tile, the first or second of its pair, is not transformed yet.
    """
    tile, gap, _transposed, _turned, _local = PLANES(d, work)
    known = carray(pointer(facts), (FACTS,), np.float64)
    _i0, _j0, rows, columns = PART(d, number)
    plane = tile + t * peek(d, F.SIDE_Y) * gap
    for i in range(across):
        row = (2 * i + 1) * rows // (2 * across)
        for j in range(across):
            column = (2 * j + 1) * columns // (2 * across)
            known[REACH + t] = max(known[REACH + t], SUM_OF(d, plane, gap, row, column))


def _add_taken(d, work, number, count, unused, unused2, unused3, unused4):
    """Add what pixels taken out of a tile contribute to its outputs, summed in float64."""
    plane, gap, _transposed, _turned, _local = PLANES(d, work)
    _i0, _j0, rows, columns = PART(d, number)
    nx, most, p, q = peek(d, F.SIDE_X), peek(d, F.TAKEN_MOST), peek(d, F.P), peek(d, F.Q)
    start = work + peek(d, F.TAKEN)
    places = carray(pointer(start), (most,), np.int64)
    values = carray(pointer(start + 8 * most), (most,), ACC.dtype)
    sums = carray(pointer(start + 16 * most), (nx,), np.float64)
    sy, sx, dy = peek(d, F.STRIDE_Y), peek(d, F.SAMPLE_X), peek(d, F.DILATION_Y)
    dx = (peek(d, F.SPAN_X) - 1) // (q - 1) if q > 1 else 1
    last, begin = (columns - 1) * sx, 0
    for i in range(0, (rows - 1) * sy + 1, sy):
        met = False
        while begin < count and places[begin] // nx < i:  # they are in the order of rows
            begin += 1
        for n in range(begin, count):
            y, x, value = places[n] // nx, places[n] % nx, np.float64(values[n])
            if y > i + (p - 1) * dy:
                break
            if (y - i) % dy:
                continue
            if not met:
                sums[:] = 0
                met = True
            row = peek(d, F.TAPS) + (y - i) // dy * q * SIZE
            weights = carray(pointer(row), (q,), ACC.dtype)
            # The taps whose outputs are kept: 0 <= x - b * dx <= last.
            for b in range(max(0, -((last - x) // dx)), min(q - 1, x // dx) + 1):
                sums[x - b * dx] += value * weights[b]
        if met:
            line = carray(pointer(plane + i * gap), (nx,), ACC.dtype)
            for j in range(0, last + 1, sx):
                line[j] += sums[j]


def _again(d, work, x, out, number, t, spectrum, before):
    """Show that a tile's sums are exact as they are, or make them so; 1 at `work` if that fails.

    The tile was the first or second (`t`) of a pair of which `before` is known.
    """
    facts = stack()
    known = carray(pointer(facts), (FACTS,), np.float64)
    pair = carray(pointer(before), (FACTS,), np.float64)
    measures = carray(pointer(peek(d, F.MEASURES)), (MEASURES_COUNT,), np.float64)
    plane, gap, _transposed, _turned, _local = PLANES(d, work)
    reach = 0.0
    for attempt in range(len(SHARES)):
        poke(work, 0, DIRECT)
        call(peek(d, F.READ), d, work, x, number, 1, facts, 0, 0)
        if not known[GOOD]:
            return
        if attempt == 0:
            unit = math.ldexp(1.0, np.int64(pair[EXPONENT + t] - known[EXPONENT]))
            known[REACH] = pair[REACH + t] * unit
            call(peek(d, F.SAMPLE), d, work, number, 0, 3, facts, 0, 0)
            reach = known[REACH]
            if pair[ESTIMATE] * unit <= PROMISED * reach:
                poke(work, 0, 0)
                return
        limit = (
            PROMISED * reach / SHARES[attempt] / (measures[NOISE] + LARGEST_SUM * measures[PEAK])
        )
        exponent = np.int64(known[EXPONENT])
        if exponent > 0 and limit < SMALLEST:
            return  # scaling by the largest pixel has cost the others their digits
        taken = TAKE(d, work, plane, gap, limit, exponent)
        if taken < 0:
            return
        squares = SQUARES(plane, gap, peek(d, F.SIDE_Y), peek(d, F.SIDE_X) // LANES)
        MEASURED(d, plane, gap, squares, facts, 0)
        more = np.int64(known[EXPONENT])  # what is left may be so small that it is scaled again
        known[EXPONENT] += exponent
        known[REACH] = math.ldexp(reach, -more)
        call(peek(d, F.TRANSFORM), d, work, spectrum, 0, 0, 0, 0, 0)
        call(peek(d, F.WRITE), d, work, out, number, 1, facts, taken, 0)
        if not known[GOOD]:
            return
        poke(work, 0, 0)
        if known[SQUARES_OF] == 0 or known[ESTIMATE] <= PROMISED * known[REACH]:
            return
        reach = math.ldexp(known[REACH], more)
    poke(work, 0, DIRECT)


def _spectrum(d, work, weights, spectrum, unused, unused2, unused3, unused4):
    """Conjugate spectrum of a kernel (of sums' dtype), divided by the tile's elements.

    The largest of its magnitudes, not divided, is left at `work`.
    """
    ny, nx, p, q = peek(d, F.SIDE_Y), peek(d, F.SIDE_X), peek(d, F.P), peek(d, F.Q)
    tile, gap, transposed, turned, local = PLANES(d, work)
    carray(pointer(tile), (2 * ny * gap // SIZE,), ACC.dtype)[:] = 0
    taps = carray(pointer(weights), (p, q), ACC.dtype)
    spread = (peek(d, F.SPAN_X) - 1) // (q - 1) if q > 1 else 1
    for a in range(p):
        row = carray(pointer(tile + a * peek(d, F.DILATION_Y) * gap), (nx,), ACC.dtype)
        for b in range(q):
            row[b * spread] = taps[a, b]
    COLUMNS(d, work)
    re, im, radices = local, local + nx * BYTES, peek(d, F.RADICES_X)
    factors, largest = peek(d, F.FACTORS_X), 0.0
    for r in range(ny // LANES):
        at = transposed + r * BYTES
        call(peek(d, F.FORWARD), at, at + nx * turned, turned, re, im, nx, radices, factors)
        reals = carray(pointer(re), (nx, LANES), ACC.dtype)
        imaginaries = carray(pointer(im), (nx, LANES), ACC.dtype)
        target = carray(pointer(spectrum + r * nx * 2 * BYTES), (nx, 2, LANES), ACC.dtype)
        scale = ACC.dtype.type(1.0 / (ny * nx))
        for c in range(nx):
            for lane in range(LANES):
                target[c, 0, lane] = reals[c, lane] * scale
                target[c, 1, lane] = -imaginaries[c, lane] * scale
                square = np.float64(reals[c, lane]) ** 2 + np.float64(imaginaries[c, lane]) ** 2
                largest = max(largest, square)
    carray(pointer(work), (1,), np.float64)[0] = math.sqrt(largest)


def work_bytes(acc: str, ny: int, nx: int) -> int:
    """Bytes of workspace of one thread, beside what is noted of pixels taken out of a tile."""
    size, vector = np.dtype(acc).itemsize, vector_bytes()
    tile = 2 * ny * (nx * size + vector) + 2 * nx * (ny * size + vector)
    return tile + 2 * max(ny, nx) * vector + 2 * vector


@cache
def _bound(acc: str) -> dict[str, object]:
    """Global names of the pieces for a dtype."""
    wide = np.dtype(acc).itemsize == 8
    names = fft_transforms.names(acc) | {
        "LANES": lanes(acc),
        "SIZE": np.dtype(acc).itemsize,
        "BYTES": vector_bytes(),
        "ACC": np.empty(0, acc),
        "BITS": np.int64 if wide else np.int32,
        "INFINITE": 0x7FF << 52 if wide else 0xFF << 23,
        "MAGNITUDE": 2**63 - 1 if wide else 2**31 - 1,
        "EPS": float(np.finfo(acc).eps),
        "SMALLEST": 2.0**-600 if wide else 2.0**-80,
        "GREATEST": 2.0**600 if wide else 2.0**80,
        "EXPONENT_MOST": 1024 if wide else 128,
    }
    for name, function in (
        ("PLANES", _planes), ("COLUMNS", _columns),
        ("MULTIPLY", _multiply), ("BACK", _back), ("LOAD_TILE", _load_tile),
        ("STORE_LINE", _store_line), ("PART", _part),
        ("STORE_TILE", _store_tile), *fft_errors.FUNCTIONS.items(),
    ):  # fmt: skip
        # Only sums of absolute values, which are compared with bounds, may be taken in any order.
        fast = {"reassoc"} if name == "SUM_OF" else False
        copy = named(function, f"{function.__name__}_{acc}", **names)
        names[name] = njit(nogil=True, fastmath=fast)(copy)
    return names


_PIECES = {
    "pair": _pair,  # two tiles, by the next three
    "read": _read,
    "transform": _transform,
    "write": _write,
    "sample": _sample,
    "again": _again,  # a tile that was not exact enough
    "add_taken": _add_taken,
    "forward": _forward,  # a vector of columns
    "inverse": _inverse,
    "turn": _turn,  # squares transposed
    "spectrum": _spectrum,  # a kernel's
}


@cache
def piece(name: str, acc: str) -> int:
    """Address of a piece by name, for sums in a dtype."""
    return compile_function(_PIECES[name], f"{name}_{acc}", **_bound(acc))


@njit(nogil=True)
def _worker(d, worker):
    tiles = peek(d, F.TILES_Y) * peek(d, F.TILES_X)
    pairs = (tiles + 1) // 2
    memory = allocate(peek(d, F.WORK_BYTES) + 64)
    if memory == 0:
        count_up(d, F.FAILED)
        return
    work = (memory + 63) // 64 * 64
    for number in range(peek(d, F.FIRST) + worker, peek(d, F.LAST), peek(d, F.WORKERS)):
        doubtful = peek(d, F.DOUBTS)
        unit = peek(doubtful, number) if doubtful else number
        image, first = unit // pairs, unit % pairs * 2
        x = peek(d, F.X) + peek(peek(d, F.X_OFFSETS), image)
        out = peek(d, F.OUT) + peek(peek(d, F.OUT_OFFSETS), image)
        facts = peek(d, F.FACTS) + unit * FACTS * 8
        if not doubtful:
            count = min(2, tiles - first)
            call(peek(d, F.PAIR), d, work, x, out, first, count, peek(d, F.SPECTRUM), facts)
            poke(peek(d, F.FLAGS), unit, peek(work, 0))
            continue
        before = peek(peek(d, F.FLAGS), unit)
        outcome = before & DIRECT  # done before, if another thread had no memory then
        for t in range(2):
            if before >> t & DOUBTFUL:
                call(peek(d, F.AGAIN), d, work, x, out, first + t, t, peek(d, F.SPECTRUM), facts)
                outcome |= peek(work, 0)
        poke(peek(d, F.FLAGS), unit, outcome)
    release(memory)


def _tiles(d):
    for worker in prange(peek(d, F.WORKERS)):
        _worker(d, worker)


def _directly(d):
    """Sum pairs whose transforms are not exact enough, or not finite: some rows each."""
    first, bands = peek(d, F.FIRST), peek(d, F.BANDS)
    for number in prange(peek(d, F.LAST) - first):
        part = first + number
        _pair_directly(d, peek(peek(d, F.FLAGS), part // bands), part % bands)


@njit(nogil=True)
def _pair_directly(d, unit, band):
    tiles = peek(d, F.TILES_Y) * peek(d, F.TILES_X)
    pairs = (tiles + 1) // 2
    image, first = unit // pairs, unit % pairs * 2
    part = stack()
    poke(part, 0, peek(d, F.X) + peek(peek(d, F.X_OFFSETS), image))
    poke(part, 1, peek(d, F.OUT) + peek(peek(d, F.OUT_OFFSETS), image))
    poke(part, 2, peek(d, F.WEIGHTS))
    poke(part, 3, 0)
    for tile in range(first, min(first + 2, tiles)):
        top = tile // peek(d, F.TILES_X) * peek(d, F.STEP_Y) // peek(d, F.STRIDE_Y)
        end = min(peek(d, F.R), top + peek(d, F.STEP_Y) // peek(d, F.STRIDE_Y))
        i0 = top + band * peek(d, F.BAND)
        j0 = tile % peek(d, F.TILES_X) * peek(d, F.STEP_X) // peek(d, F.SAMPLE_X)
        poke(part, 4, i0)
        poke(part, 5, min(end, i0 + peek(d, F.BAND)))
        n = min(peek(d, F.S) - j0, peek(d, F.STEP_X) // peek(d, F.SAMPLE_X))
        if i0 < end:
            call(peek(d, F.PART), peek(d, F.DIRECT), part, j0, n, 0, 0, 0, 0)


tiles_serial, tiles_parallel = variants(_tiles)
directly_serial, directly_parallel = variants(_directly)


@Compiled
@njit(nogil=True)
def make_spectrum(piece, job, work, weights, spectrum):
    """Call the piece that makes a spectrum."""
    call(piece, job, work, weights, spectrum, 0, 0, 0, 0)
