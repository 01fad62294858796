"""Correlation by Fourier transforms, tile by tile (Numba): overlap-save on pairs of tiles.

Two neighbouring tiles are the real and the imaginary part of one complex tile: the kernel is real,
so that both come out apart again. Columns are transformed a vector's width of them at a time, then
the tile is transposed and the same is done to its rows, times the kernel's spectrum and back at
once, while they are in the first-level cache.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import carray, njit, prange

from . import fields as F
from . import fourier
from .pieces import (
    allocate,
    call,
    compile_piece,
    count_up,
    named,
    peek,
    pointer,
    poke,
    release,
    stack,
)
from .variants import Compiled, variants
from .vectors import lanes, vector_bytes

# Bound anew in every piece.
FORWARD4 = FORWARD8 = FORWARD4_LAST = FORWARD8_LAST = None
INVERSE4 = INVERSE8 = INVERSE4_LAST = INVERSE8_LAST = None
TRANSPOSE = PRODUCT = LANES = SIZE = BYTES = BITS = INFINITE = ACC = None
PLANES = COLUMNS = MULTIPLY = BACK = LOAD_TILE = STORE_TILE = STORE_LINE = MOVE = None

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
    """Read one tile's pixels; beyond the padded image it is zero."""
    ny, nx = peek(d, F.SIDE_Y), peek(d, F.SIDE_X)
    rows = (peek(d, F.R) - 1) * peek(d, F.STRIDE_Y) + (peek(d, F.P) - 1) * peek(d, F.DILATION_Y) + 1
    rows = max(0, min(ny, rows - y0))
    columns = max(0, min(nx, peek(d, F.COLUMNS_COUNT) - x0))
    if rows > 0 and columns > 0:
        # The job's ring has no end: row y belongs y rows behind its beginning.
        call(peek(d, F.LOAD), d, x, y0, y0 + rows, x0, columns, target - y0 * gap, gap // SIZE)
    for i in range(ny):
        n = columns if i < rows else 0
        carray(pointer(target + i * gap + n * SIZE), (nx - n,), ACC.dtype)[:] = 0


def _store_line(line, target, n):
    """Copy a row of sums; the largest of the magnitudes' bits."""
    rest = n * SIZE - BYTES
    return max(MOVE(line, target, n // LANES), MOVE(line + rest, target + rest, 1))


def _store_tile(d, source, gap, out, i0, j0):
    """Write one tile's sums; returns whether all of them are finite."""
    sy, sx = peek(d, F.STRIDE_Y), peek(d, F.SAMPLE_X)
    rows = min(peek(d, F.STEP_Y) // sy, peek(d, F.R) - i0)
    columns = min(peek(d, F.STEP_X) // sx, peek(d, F.S) - j0)
    largest, step, row = 0, peek(d, F.OUT_COLUMN), peek(d, F.OUT_ROW)
    target = out + i0 * row + j0 * step
    if peek(d, F.PLACE_OUT) and sx == 1 and columns >= LANES:
        for i in range(rows):
            largest = max(largest, STORE_LINE(source + i * sy * gap, target + i * row, columns))
        return largest < INFINITE
    for i in range(rows):
        line = source + i * sy * gap
        values = carray(pointer(line), (columns * sx,), ACC.dtype)
        for j in range(columns if sx > 1 else 0):
            values[j] = values[j * sx]
        bits = carray(pointer(line), (columns,), BITS)
        for j in range(columns):
            largest = max(largest, bits[j] & INFINITE)
    call(peek(d, F.STORE), source, columns, target, step, rows, sy * gap, row, 0)
    return largest < INFINITE


def _pair(d, work, x, out, first, count, spectrum, unused):
    """Outputs of `count` tiles, one or two, from tile `first` on; 1 at `work` if not all finite."""
    tile, gap, _transposed, _turned, _local = PLANES(d, work)
    half = peek(d, F.SIDE_Y) * gap
    for t in range(2):
        if t < count:
            ty, tx = (first + t) // peek(d, F.TILES_X), (first + t) % peek(d, F.TILES_X)
            LOAD_TILE(d, x, ty * peek(d, F.STEP_Y), tx * peek(d, F.STEP_X), tile + t * half, gap)
        else:
            carray(pointer(tile + t * half), (half // SIZE,), ACC.dtype)[:] = 0
    COLUMNS(d, work)
    MULTIPLY(d, work, spectrum)
    BACK(d, work)
    finite = True
    for t in range(count):
        ty, tx = (first + t) // peek(d, F.TILES_X), (first + t) % peek(d, F.TILES_X)
        i0, j0 = (
            ty * peek(d, F.STEP_Y) // peek(d, F.STRIDE_Y),
            tx * peek(d, F.STEP_X) // peek(d, F.SAMPLE_X),
        )
        if not STORE_TILE(d, tile + t * half, gap, out, i0, j0):
            finite = False
    poke(work, 0, 0 if finite else 1)


def _spectrum(d, work, weights, spectrum, unused, unused2, unused3, unused4):
    """Conjugate spectrum of a kernel (of sums' dtype), divided by the tile's elements."""
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
    factors = peek(d, F.FACTORS_X)
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


def work_bytes(acc: str, ny: int, nx: int) -> int:
    """Bytes of workspace of one thread."""
    size, vector = np.dtype(acc).itemsize, vector_bytes()
    tile = 2 * ny * (nx * size + vector) + 2 * nx * (ny * size + vector)
    return tile + 2 * max(ny, nx) * vector + 2 * vector


@cache
def _bound(acc: str) -> dict[str, object]:
    """Global names of the pieces for a dtype."""
    wide = np.dtype(acc).itemsize == 8
    names = fourier.names(acc) | {
        "LANES": lanes(acc),
        "SIZE": np.dtype(acc).itemsize,
        "BYTES": vector_bytes(),
        "ACC": np.empty(0, acc),
        "BITS": np.int64 if wide else np.int32,
        "INFINITE": 0x7FF << 52 if wide else 0xFF << 23,
    }
    for name, function in (
        ("PLANES", _planes), ("COLUMNS", _columns),
        ("MULTIPLY", _multiply), ("BACK", _back), ("LOAD_TILE", _load_tile),
        ("STORE_LINE", _store_line),
        ("STORE_TILE", _store_tile),
    ):  # fmt: skip
        names[name] = njit(nogil=True)(named(function, f"{function.__name__}_{acc}", **names))
    return names


_PIECES = {
    "pair": _pair,  # two tiles
    "forward": _forward,  # a vector of columns
    "inverse": _inverse,
    "turn": _turn,  # squares transposed
    "spectrum": _spectrum,  # a kernel's
}


@cache
def piece(name: str, acc: str) -> int:
    """Address of a piece by name, for sums in a dtype."""
    return compile_piece(_PIECES[name], f"{name}_{acc}", **_bound(acc))


@njit(nogil=True)
def _worker(d, worker):
    tiles = peek(d, F.TILES_Y) * peek(d, F.TILES_X)
    pairs = (tiles + 1) // 2
    memory = allocate(peek(d, F.WORK_BYTES) + 64)
    if memory == 0:
        count_up(d, F.FAILED)
        return
    work = (memory + 63) // 64 * 64
    for unit in range(peek(d, F.FIRST) + worker, peek(d, F.LAST), peek(d, F.WORKERS)):
        image, first = unit // pairs, unit % pairs * 2
        x = peek(d, F.X) + peek(peek(d, F.X_OFFSETS), image)
        out = peek(d, F.OUT) + peek(peek(d, F.OUT_OFFSETS), image)
        count = min(2, tiles - first)
        call(peek(d, F.PAIR), d, work, x, out, first, count, peek(d, F.SPECTRUM), 0)
        poke(peek(d, F.FLAGS), unit, peek(work, 0))
    release(memory)


def _tiles(d):
    for worker in prange(peek(d, F.WORKERS)):
        _worker(d, worker)


def _directly(d):
    """Sum pairs that hold something not finite, so that it stays in its windows: some rows each."""
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
