"""Direct and separable sweeps over images: which rows and columns are summed when (Numba).

The output is cut into tasks: one image, a band of rows, a strip of columns. Where pixels have the
sums' dtype and stand side by side they are read where they are; elsewhere, and beside the image, a
ring of padded, converted rows is kept. The loops know addresses only, so one compiled form serves
every dtype and layout.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from . import fields as F
from .pieces import call, hold, longs
from .variants import variants

# Not cached by themselves: see `pieces.source_stamp`.
_jit = njit(nogil=True)


@_jit
def _fill_line(d, n):
    """Line of the border's fill value."""
    line = np.empty(n * d[F.SIZE], np.int8)
    if d[F.SIZE] == 4:
        line.view(np.int32)[:] = np.int32(d[F.FILL])
    else:
        line.view(np.int64)[:] = d[F.FILL]
    return line


@_jit
def _block(d, table, read, line, number, sums, apart, weights, vertical, lines, pairs):
    """Sums of `number` output rows, `apart` bytes from each other."""
    size, p, rank = d[F.SIZE], d[F.P], d[F.RANK]
    piece = d[F.SUMS] if number > 1 else d[F.SUMS_ONE]
    if rank == 0:
        call(piece, table, read, weights, p, d[F.Q], d[F.OFFSETS], sums, apart)
        return
    for k in range(rank):
        call(
            piece, table, line, vertical + k * p * size, p, 1, d[F.OFFSETS],
            lines + k * line * size, rank * line * size,
        )  # fmt: skip
    for row in range(number):
        for k in range(rank):
            pairs[k] = lines + (row * rank + k) * line * size
        call(
            d[F.ACROSS], pairs.ctypes.data, read, weights, rank, d[F.Q], d[F.OFFSETS],
            sums + row * apart, 0,
        )  # fmt: skip


@_jit
def _part(job, x, out, weights, vertical, i0, i1, c0, m, inside):
    """Output rows i0 to i1 of columns c0 to c0 + m, whose pixels are read in place if `inside`."""
    d = longs(job, F.COUNT)
    size, p, rank, block = d[F.SIZE], d[F.P], d[F.RANK], d[F.BLOCK]
    stride, dilation = d[F.STRIDE_Y], d[F.DILATION_Y]
    rows = longs(d[F.ROWS], (d[F.R] - 1) * stride + (p - 1) * dilation + 1)
    read = m if inside else max(m, d[F.LANES])
    line = read + d[F.SPAN_X] - 1 if d[F.STRIDE_X] == 1 else d[F.PITCH]
    direct = d[F.PLACE_OUT] != 0 and m >= d[F.LANES]
    # Rows of a block are `dilation` apart, so that they share their input rows; with a stride they
    # share too few.
    grouped = stride == 1
    gap = dilation if grouped else 1
    step = block * dilation if grouped else 1
    slots = (block + p) * dilation if grouped else (p - 1) * dilation + 1
    ring = np.empty(0 if inside else slots * line * size, np.int8)
    fill = np.empty(0, np.int8)
    if inside and (rows[i0 * stride] < 0 or rows[(i1 - 1) * stride + (p - 1) * dilation] < 0):
        fill = _fill_line(d, line)
    scratch = np.empty(0 if direct else block * read * size, np.int8)
    lines = np.empty(block * rank * line * size, np.int8)
    table, pairs = np.empty(p + block - 1, np.int64), np.empty(max(rank, 1), np.int64)
    ring0, fill0, scratch0 = ring.ctypes.data, fill.ctypes.data, scratch.ctypes.data
    loaded = i0 * stride
    for i in range(i0, i1, step):
        end = min(i + step, i1)
        if not inside:
            loaded = max(loaded, i * stride)
            while loaded <= (end - 1) * stride + (p - 1) * dilation:
                call(
                    d[F.LOAD], job, x, loaded, c0 * d[F.STRIDE_X],
                    (m - 1) * d[F.STRIDE_X] + d[F.SPAN_X], ring0 + loaded % slots * line * size,
                    line, 0,
                )  # fmt: skip
                loaded += 1
        for phase in range(min(gap, end - i)):
            first, number = i + phase, 1
            if grouped:
                have = (i1 - i0 - phase + dilation - 1) // dilation
                if have >= block:  # the last block overlaps: the same sums once more
                    number = block
                    first = min(first, i0 + phase + (have - block) * dilation)
            while first < end:
                for t in range(p + number - 1):
                    y = first * stride + t * dilation
                    if not inside:
                        table[t] = ring0 + y % slots * line * size
                    elif rows[y] < 0:
                        table[t] = fill0
                    else:
                        table[t] = x + rows[y] * d[F.X_ROW] + (c0 - d[F.LEFT]) * size
                target = out + first * d[F.OUT_ROW] + c0 * d[F.OUT_COLUMN]
                sums = target if direct else scratch0
                apart = gap * d[F.OUT_ROW] if direct else read * size
                _block(
                    d, table.ctypes.data, read, line, number, sums, apart, weights, vertical,
                    lines.ctypes.data, pairs,
                )  # fmt: skip
                if not direct:
                    for row in range(number):
                        call(
                            d[F.STORE], scratch0 + row * read * size, m,
                            target + row * gap * d[F.OUT_ROW], d[F.OUT_COLUMN], 0, 0, 0, 0,
                        )  # fmt: skip
                first += number * gap
    for memory in (ring, fill, scratch, lines):
        hold(memory)
    hold(table.view(np.int8))
    hold(pairs.view(np.int8))


@_jit
def _task(job, task):
    d = longs(job, F.COUNT)
    image = task // (d[F.BANDS] * d[F.STRIPS])
    i0 = task // d[F.STRIPS] % d[F.BANDS] * d[F.BAND]
    j0 = task % d[F.STRIPS] * d[F.STRIP]
    i1, j1 = min(d[F.R], i0 + d[F.BAND]), min(d[F.S], j0 + d[F.STRIP])
    x = d[F.X] + longs(d[F.X_OFFSETS], d[F.IMAGES])[image]
    out = d[F.OUT] + longs(d[F.OUT_OFFSETS], d[F.IMAGES])[image]
    which = longs(d[F.WHICH], d[F.IMAGES])[image]
    weights = d[F.WEIGHTS] + which * d[F.WEIGHTS_SIZE]
    vertical = d[F.VERTICAL] + which * d[F.VERTICAL_SIZE]
    low, high = j1, j1
    if d[F.PLACE_IN]:
        low = max(j0, d[F.LEFT])
        high = min(j1, d[F.LEFT] + d[F.WIDTH] - d[F.SPAN_X] + 1)
        if high - low < d[F.LANES]:
            low = high = j1
    if j0 < low:
        _part(job, x, out, weights, vertical, i0, i1, j0, low - j0, False)
    if low < high:
        _part(job, x, out, weights, vertical, i0, i1, low, high - low, True)
    if high < j1:
        _part(job, x, out, weights, vertical, i0, i1, high, j1 - high, False)


def _sweep(job):
    d = longs(job, F.COUNT)
    for task in prange(d[F.IMAGES] * d[F.BANDS] * d[F.STRIPS]):
        _task(job, task)


sweep_serial, sweep_parallel = variants(_sweep)
