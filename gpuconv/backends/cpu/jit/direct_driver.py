"""Direct and separable sweeps over images: which rows and columns are summed when (Numba).

The output is cut into tasks: one image, a band of rows, a strip of columns. Where pixels have the
sums' dtype and stand side by side they are read where they are; elsewhere, and beside the image, a
ring of padded, converted rows is kept. The loops know addresses only, so one compiled form serves
every dtype and layout.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import carray, njit, prange

from . import fields as F
from .drivers import variants
from .functions import (
    allocate,
    call,
    compile_function,
    count_up,
    peek,
    pointer,
    poke,
    release,
    stack,
)

# Not cached by themselves: see `pieces.source_stamp`.
_jit = njit(nogil=True)


@_jit
def _block(d, table, read, line, number, sums, apart, weights, vertical, lines, pairs, direct):
    """Sums of `number` output rows, `apart` bytes from each other; `direct` where they stay."""
    size, p, rank = peek(d, F.SIZE), peek(d, F.P), peek(d, F.RANK)
    q, offsets = peek(d, F.Q), peek(d, F.OFFSETS)
    piece = peek(d, F.SUMS) if number > 1 else peek(d, F.SUMS_ONE)
    if rank == 0:
        call(piece, table, read, weights, p, q, offsets, sums, apart)
        return
    for k in range(rank):
        call(
            piece, table, line, vertical + k * p * size, p, 1, offsets, lines + k * line * size,
            rank * line * size,
        )  # fmt: skip
    across = peek(d, F.ACROSS_OUT) if direct else peek(d, F.ACROSS)
    for row in range(number):
        for k in range(rank):
            poke(pairs, k, lines + (row * rank + k) * line * size)
        call(across, pairs, read, weights, rank, q, offsets, sums + row * apart, 0)


@_jit
def _fill_line(address, n, size, fill):
    """Write the border's fill value `n` times."""
    if size == 4:
        carray(pointer(address), (n,), np.int32)[:] = np.int32(fill)
    else:
        for j in range(n):
            poke(address, j, fill)


def _part(d, task, c0, m, inside, unused, unused2, unused3):
    """Sum columns c0 to c0 + m of a task, whose pixels are read in place if `inside`.

    `task` points to the address of the image, of its output, of its weights and column weights,
    and the first and last output row.
    """
    x, out, weights, vertical = peek(task, 0), peek(task, 1), peek(task, 2), peek(task, 3)
    i0, i1 = peek(task, 4), peek(task, 5)
    size, p, rank, block = peek(d, F.SIZE), peek(d, F.P), peek(d, F.RANK), peek(d, F.BLOCK)
    stride, dilation = peek(d, F.STRIDE_Y), peek(d, F.DILATION_Y)
    out_row, out_column = peek(d, F.OUT_ROW), peek(d, F.OUT_COLUMN)
    lanes, rows, span = peek(d, F.LANES), peek(d, F.ROWS), peek(d, F.SPAN_X)
    stride_x = peek(d, F.STRIDE_X)
    read = m if inside else max(m, lanes)
    line = read + span - 1 if stride_x == 1 else peek(d, F.PITCH)
    direct = peek(d, F.PLACE_OUT) != 0 and m >= lanes
    # Rows of a block are `dilation` apart, so that they share their input rows; with a stride they
    # share too few.
    grouped = stride == 1
    gap = dilation if grouped else 1
    step = block * dilation if grouped else 1
    slots = peek(d, F.SLOTS)
    # One piece of memory for a ring of rows (or a row of fill values), sums to be converted, lines
    # between the passes of separable sums, and the addresses of rows.
    filled = inside and (
        peek(rows, i0 * stride) < 0 or peek(rows, (i1 - 1) * stride + (p - 1) * dilation) < 0
    )
    ring_bytes = 0 if inside else slots * line * size
    fill_bytes = line * size if filled else 0
    scratch_bytes = 0 if direct else block * read * size
    lines_bytes = block * rank * line * size
    table_bytes = 8 * (p + block + rank)
    memory = allocate(ring_bytes + fill_bytes + scratch_bytes + lines_bytes + table_bytes + 5 * 64)
    if memory == 0:
        count_up(d, F.FAILED)
        return
    ring = (memory + 63) // 64 * 64
    fill = (ring + ring_bytes + 63) // 64 * 64
    scratch = (fill + fill_bytes + 63) // 64 * 64
    lines = (scratch + scratch_bytes + 63) // 64 * 64
    table = (lines + lines_bytes + 7) // 8 * 8
    pairs = table + 8 * (p + block)
    if filled:
        _fill_line(fill, line, size, peek(d, F.FILL))
    x_row, x_first = peek(d, F.X_ROW), x + (c0 - peek(d, F.LEFT)) * size
    loaded = i0 * stride
    for i in range(i0, i1, step):
        end = min(i + step, i1)
        if not inside:
            # A block ahead: reading what has only just been written would wait for the writes.
            ahead = min(end + step, i1) - 1
            loaded, needed = max(loaded, i * stride), ahead * stride + (p - 1) * dilation + 1
            if loaded < needed:
                call(
                    peek(d, F.LOAD), peek(d, F.SOURCE), x, loaded, needed, c0 * stride_x,
                    (m - 1) * stride_x + span, ring, line,
                )  # fmt: skip
                loaded = needed
        for phase in range(min(gap, end - i)):
            first, number = i + phase, 1
            if grouped:
                have = i1 - i0 - phase
                if dilation > 1:
                    have = (have + dilation - 1) // dilation
                if have >= block:  # the last block overlaps: the same sums once more
                    number = block
                    first = min(first, i0 + phase + (have - block) * dilation)
            while first < end:
                y = first * stride
                slot = 0 if inside else y % slots
                for t in range(p + number - 1):
                    if not inside:
                        poke(table, t, ring + slot * line * size)
                        slot += dilation
                        slot = slot - slots if slot >= slots else slot
                    else:
                        row = peek(rows, y + t * dilation)
                        poke(table, t, fill if row < 0 else x_first + row * x_row)
                target = out + first * out_row + c0 * out_column
                sums = target if direct else scratch
                apart = gap * out_row if direct else read * size
                _block(
                    d,
                    table,
                    read,
                    line,
                    number,
                    sums,
                    apart,
                    weights,
                    vertical,
                    lines,
                    pairs,
                    direct,
                )
                if not direct:
                    call(
                        peek(d, F.STORE), scratch, m, target, out_column, number, read * size,
                        gap * out_row, 0,
                    )  # fmt: skip
                first += number * gap
    release(memory)


# Rows of an edge at a time, so that their columns stay in the first-level cache.
_EDGE_ROWS = 256


def _edge(d, task, c0, m, unused, unused2, unused3, unused4):
    """Sum a few columns beside the image's border, all rows of a column at once.

    Pixels are laid out as columns, so that a vector holds as many rows; each output column is a
    sum of shifted columns, tap after tap in the order of all others.
    """
    x, out, weights = peek(task, 0), peek(task, 1), peek(task, 2)
    i0, i1 = peek(task, 4), peek(task, 5)
    size, p, q, lanes = peek(d, F.SIZE), peek(d, F.P), peek(d, F.Q), peek(d, F.LANES)
    down, across = peek(d, F.DILATION_Y), peek(d, F.DILATION_X)
    out_row, out_column = peek(d, F.OUT_ROW), peek(d, F.OUT_COLUMN)
    height = max(min(i1 - i0, _EDGE_ROWS), lanes)
    width, gap = m + peek(d, F.SPAN_X) - 1, (height + (p - 1) * down) * size
    memory = allocate(width * gap + height * size + 8 * p * q + 3 * 64)
    if memory == 0:
        count_up(d, F.FAILED)
        return
    columns = (memory + 63) // 64 * 64
    sums = (columns + width * gap + 63) // 64 * 64
    table = (sums + height * size + 7) // 8 * 8
    for i in range(i0, i1, height):
        n = min(height, i1 - i)
        call(
            peek(d, F.LOAD_TURNED),
            peek(d, F.SOURCE),
            x,
            i,
            i + n + (p - 1) * down,
            c0,
            width,
            columns,
            gap,
        )
        for j in range(m):
            for a in range(p):
                for b in range(q):
                    poke(table, a * q + b, columns + (j + b * across) * gap + a * down * size)
            call(peek(d, F.EDGE), table, max(n, lanes), weights, p * q, 1, 0, sums, 0)
            target = out + i * out_row + (c0 + j) * out_column
            call(peek(d, F.STORE), sums, n, target, out_row, 1, 0, 0, 0)
    release(memory)


def _task(d, task, x, out, weights, vertical, unused, unused2):
    """Sum one band of rows of one strip of columns of one image."""
    bands, strips = peek(d, F.BANDS), peek(d, F.STRIPS)
    image = task // (bands * strips)
    i0 = task // strips % bands * peek(d, F.BAND)
    j0 = task % strips * peek(d, F.STRIP)
    i1, j1 = min(peek(d, F.R), i0 + peek(d, F.BAND)), min(peek(d, F.S), j0 + peek(d, F.STRIP))
    which = peek(peek(d, F.WHICH), image)
    part, piece = stack(), peek(d, F.PART)
    poke(part, 0, x + peek(peek(d, F.X_OFFSETS), image))
    poke(part, 1, out + peek(peek(d, F.OUT_OFFSETS), image))
    poke(part, 2, weights + which * peek(d, F.WEIGHTS_SIZE))
    poke(part, 3, vertical + which * peek(d, F.VERTICAL_SIZE))
    poke(part, 4, i0)
    poke(part, 5, i1)
    low, high = j1, j1
    if peek(d, F.PLACE_IN):
        low = max(j0, peek(d, F.LEFT))
        high = min(j1, peek(d, F.LEFT) + peek(d, F.WIDTH) - peek(d, F.SPAN_X) + 1)
        if high - low < peek(d, F.LANES):
            low = high = j1
    if low < high:
        call(piece, d, part, low, high - low, 1, 0, 0, 0)
    left, right = low - j0, j1 - high
    most = peek(d, F.EDGE_MOST)
    if left:
        call(peek(d, F.EDGE_PART) if left <= most else piece, d, part, j0, left, 0, 0, 0, 0)
    if right and low < high:
        call(peek(d, F.EDGE_PART) if right <= most else piece, d, part, high, right, 0, 0, 0, 0)


@cache
def part() -> int:
    """Address of the piece that sums some columns of a task."""
    return compile_function(_part, "part")


@cache
def edge() -> int:
    """Address of the piece that sums columns beside the border."""
    return compile_function(_edge, "edge")


@cache
def task() -> int:
    """Address of the piece that sums one task."""
    return compile_function(_task, "task")


def _sweep(d, x, out, weights, vertical):
    first = peek(d, F.FIRST)
    for number in prange(peek(d, F.LAST) - first):
        call(peek(d, F.TASK), d, first + number, x, out, weights, vertical, 0, 0)


sweep_serial, sweep_parallel = variants(_sweep)
