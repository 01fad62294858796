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
from .bands import _part
from .pieces import call, compile_piece, hold, longs, named, pointer
from .variants import variants
from .vectors import lanes, vector_bytes

# Bound anew in every piece.
FORWARD4 = FORWARD8 = FORWARD4_LAST = FORWARD8_LAST = None
INVERSE4 = INVERSE8 = INVERSE4_LAST = INVERSE8_LAST = None
TRANSPOSE = PRODUCT = LANES = SIZE = BYTES = BITS = INFINITE = ACC = None
PLANES = FORWARD = INVERSE = COLUMNS = MULTIPLY = BACK = LOAD_TILE = STORE_TILE = None

# All functions below but the last are compiled for each dtype, with `_bound`.


def _forward(re, im, gap, to_re, to_im, n, radices, factors):
    """Transform one vector of columns, `gap` bytes apart, into contiguous vectors."""
    m, s = n, 0
    while m > 1:
        r = radices[s]
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
        total += m // radices[s] * (radices[s] - 1) * 2 * SIZE
        m //= radices[s]
        s += 1
    factors += total
    while m < n:
        s -= 1
        r = radices[s]
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


def _planes(d, work):
    """Addresses in the workspace: tile, its transpose, columns at work; bytes between rows.

    Rows are a vector longer than the tile: a power of two apart they would all compete for the
    same places in the cache.
    """
    ny, nx = d[F.SIDE_Y], d[F.SIDE_X]
    gap, turned = nx * SIZE + BYTES, ny * SIZE + BYTES
    tile = work + BYTES
    transposed = tile + 2 * ny * gap
    columns = transposed + 2 * nx * turned
    return tile, gap, transposed, turned, columns


def _columns(d, work):
    """Transform the columns of the tile and transpose it."""
    ny, nx = d[F.SIDE_Y], d[F.SIDE_X]
    tile, gap, transposed, turned, local = PLANES(d, work)
    re, im, radices = local, local + ny * BYTES, longs(d[F.RADICES_Y], 8)
    for c in range(nx // LANES):
        FORWARD(
            tile + c * BYTES, tile + ny * gap + c * BYTES, gap, re, im, ny, radices, d[F.FACTORS_Y]
        )
        for r in range(ny // LANES):
            to = transposed + c * LANES * turned + r * BYTES
            TRANSPOSE(re + r * LANES * BYTES, BYTES, to, turned)
            TRANSPOSE(im + r * LANES * BYTES, BYTES, to + nx * turned, turned)


def _multiply(d, work, spectrum):
    """Transform the rows, multiply by the spectrum, transform back."""
    ny, nx = d[F.SIDE_Y], d[F.SIDE_X]
    _tile, _gap, transposed, turned, local = PLANES(d, work)
    re, im, radices = local, local + nx * BYTES, longs(d[F.RADICES_X], 8)
    for r in range(ny // LANES):
        at = transposed + r * BYTES
        FORWARD(at, at + nx * turned, turned, re, im, nx, radices, d[F.FACTORS_X])
        for c in range(nx):
            factor = spectrum + (r * nx + c) * 2 * BYTES
            PRODUCT(re + c * BYTES, im + c * BYTES, factor, factor + BYTES)
        INVERSE(re, im, at, at + nx * turned, turned, nx, radices, d[F.FACTORS_X])


def _back(d, work):
    """Transpose the tile again and transform its columns back."""
    ny, nx = d[F.SIDE_Y], d[F.SIDE_X]
    tile, gap, transposed, turned, local = PLANES(d, work)
    re, im, radices = local, local + ny * BYTES, longs(d[F.RADICES_Y], 8)
    for c in range(nx // LANES):
        for r in range(ny // LANES):
            source = transposed + c * LANES * turned + r * BYTES
            TRANSPOSE(source, turned, re + r * LANES * BYTES, BYTES)
            TRANSPOSE(source + nx * turned, turned, im + r * LANES * BYTES, BYTES)
        INVERSE(
            re, im, tile + c * BYTES, tile + ny * gap + c * BYTES, gap, ny, radices, d[F.FACTORS_Y]
        )


def _load_tile(job, x, y0, x0, target, gap):
    """Read one tile's pixels; beyond the padded image it is zero."""
    d = longs(job, F.COUNT)
    ny, nx = d[F.SIDE_Y], d[F.SIDE_X]
    rows = (d[F.R] - 1) * d[F.STRIDE_Y] + (d[F.P] - 1) * d[F.DILATION_Y] + 1
    rows = max(0, min(ny, rows - y0))
    columns = max(0, min(nx, d[F.COLUMNS_COUNT] - x0))
    for i in range(ny):
        line = target + i * gap
        n = columns if i < rows else 0
        if n:
            call(d[F.LOAD], job, x, y0 + i, x0, n, line, n, 0)
        carray(pointer(line + n * SIZE), (nx - n,), ACC.dtype)[:] = 0


def _store_tile(d, source, gap, out, i0, j0):
    """Write one tile's sums; returns whether all of them are finite."""
    sy, sx = d[F.STRIDE_Y], d[F.SAMPLE_X]
    rows = min(d[F.STEP_Y] // sy, d[F.R] - i0)
    columns = min(d[F.STEP_X] // sx, d[F.S] - j0)
    largest = BITS(0)
    for i in range(rows):
        line = source + i * sy * gap
        if sx > 1:
            values = carray(pointer(line), (columns * sx,), ACC.dtype)
            for j in range(columns):
                values[j] = values[j * sx]
        bits = carray(pointer(line), (columns,), BITS)
        for j in range(columns):
            largest = max(largest, bits[j] & INFINITE)
        call(
            d[F.STORE], line, columns, out + (i0 + i) * d[F.OUT_ROW] + j0 * d[F.OUT_COLUMN],
            d[F.OUT_COLUMN], 0, 0, 0, 0,
        )  # fmt: skip
    return largest < INFINITE


def _pair(job, work, x, out, first, count, spectrum, unused):
    """Outputs of `count` tiles, one or two, from tile `first` on; 1 at `work` if not all finite."""
    d = longs(job, F.COUNT)
    tile, gap, _transposed, _turned, _local = PLANES(d, work)
    half = d[F.SIDE_Y] * gap
    for t in range(2):
        if t < count:
            ty, tx = (first + t) // d[F.TILES_X], (first + t) % d[F.TILES_X]
            LOAD_TILE(job, x, ty * d[F.STEP_Y], tx * d[F.STEP_X], tile + t * half, gap)
        else:
            carray(pointer(tile + t * half), (half // SIZE,), ACC.dtype)[:] = 0
    COLUMNS(d, work)
    MULTIPLY(d, work, spectrum)
    BACK(d, work)
    finite = True
    for t in range(count):
        ty, tx = (first + t) // d[F.TILES_X], (first + t) % d[F.TILES_X]
        i0, j0 = ty * d[F.STEP_Y] // d[F.STRIDE_Y], tx * d[F.STEP_X] // d[F.SAMPLE_X]
        if not STORE_TILE(d, tile + t * half, gap, out, i0, j0):
            finite = False
    longs(work, 1)[0] = 0 if finite else 1


def _spectrum(job, work, weights, spectrum, unused, unused2, unused3, unused4):
    """Conjugate spectrum of a kernel (of sums' dtype), divided by the tile's elements."""
    d = longs(job, F.COUNT)
    ny, nx, p, q = d[F.SIDE_Y], d[F.SIDE_X], d[F.P], d[F.Q]
    tile, gap, transposed, turned, local = PLANES(d, work)
    carray(pointer(tile), (2 * ny * gap // SIZE,), ACC.dtype)[:] = 0
    taps = carray(pointer(weights), (p, q), ACC.dtype)
    spread = (d[F.SPAN_X] - 1) // (q - 1) if q > 1 else 1
    for a in range(p):
        row = carray(pointer(tile + a * d[F.DILATION_Y] * gap), (nx,), ACC.dtype)
        for b in range(q):
            row[b * spread] = taps[a, b]
    COLUMNS(d, work)
    re, im, radices = local, local + nx * BYTES, longs(d[F.RADICES_X], 8)
    for r in range(ny // LANES):
        at = transposed + r * BYTES
        FORWARD(at, at + nx * turned, turned, re, im, nx, radices, d[F.FACTORS_X])
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
        "BITS": np.uint64 if wide else np.uint32,
        "INFINITE": np.uint64(0x7FF << 52) if wide else np.uint32(0xFF << 23),
    }
    for name, function in (
        ("PLANES", _planes), ("FORWARD", _forward), ("INVERSE", _inverse), ("COLUMNS", _columns),
        ("MULTIPLY", _multiply), ("BACK", _back), ("LOAD_TILE", _load_tile),
        ("STORE_TILE", _store_tile),
    ):  # fmt: skip
        names[name] = njit(nogil=True)(named(function, f"{function.__name__}_{acc}", **names))
    return names


@cache
def pair(acc: str) -> int:
    """Address of the piece that computes two tiles."""
    return compile_piece(_pair, f"pair_{acc}", **_bound(acc))


@cache
def spectrum(acc: str) -> int:
    """Address of the piece that makes a kernel's spectrum."""
    return compile_piece(_spectrum, f"spectrum_{acc}", **_bound(acc))


@njit(nogil=True)
def _directly(d, x, out, first, count):
    """Sum tiles that hold something not finite, so that it stays in its windows."""
    for tile in range(first, first + count):
        i0 = tile // d[F.TILES_X] * d[F.STEP_Y] // d[F.STRIDE_Y]
        j0 = tile % d[F.TILES_X] * d[F.STEP_X] // d[F.SAMPLE_X]
        i1 = min(d[F.R], i0 + d[F.STEP_Y] // d[F.STRIDE_Y])
        n = min(d[F.S] - j0, d[F.STEP_X] // d[F.SAMPLE_X])
        _part(d[F.DIRECT], x, out, d[F.WEIGHTS], 0, i0, i1, j0, n, False)


@njit(nogil=True)
def _worker(job, worker):
    d = longs(job, F.COUNT)
    tiles = d[F.TILES_Y] * d[F.TILES_X]
    pairs = (tiles + 1) // 2
    memory = np.empty(d[F.WORK_BYTES] + 64, np.int8)
    work = (memory.ctypes.data + 63) // 64 * 64
    for unit in range(worker, d[F.IMAGES] * pairs, d[F.WORKERS]):
        image, first = unit // pairs, unit % pairs * 2
        x = d[F.X] + longs(d[F.X_OFFSETS], d[F.IMAGES])[image]
        out = d[F.OUT] + longs(d[F.OUT_OFFSETS], d[F.IMAGES])[image]
        count = min(2, tiles - first)
        call(d[F.PAIR], job, work, x, out, first, count, d[F.SPECTRUM], 0)
        if longs(work, 1)[0]:
            _directly(d, x, out, first, count)
    hold(memory)


def _tiles(job):
    d = longs(job, F.COUNT)
    for worker in prange(d[F.WORKERS]):
        _worker(job, worker)


tiles_serial, tiles_parallel = variants(_tiles)


@njit(nogil=True)
def make_spectrum(piece, job, work, weights, spectrum):
    """Call the piece of `spectrum`."""
    call(piece, job, work, weights, spectrum, 0, 0, 0, 0)
