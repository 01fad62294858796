"""Filters one tile: reads, transforms, stores, and estimates the error (Numba).

Overlap-save: tiles overlap by the kernel's span less one pixel, and the sums of a tile that no
wrap-around reaches are kept.

How names in capitals get their values is explained in `fft_functions`.
"""

from __future__ import annotations

import numpy as np

from ..intrinsics import call, elements, larger, on_stack, reader, smaller
from ..params import MEANS, MEANS_BLOCK
from ..row_buffer import row_source
from .fft_errors import DIRECT, DOUBTFUL, EXACT, PROMISED, tile_state
from .fft_kernels import kernel_measures
from .fft_tiles import fft_params

REAL = BITS = LANES = SIZE = BYTES = PARTS = INFINITE = MAGNITUDE = None
MOVE = INTERLEAVE = SQUARES = LARGEST = None
CLEAR = KEPT_PART = SCALE = UNSCALED = MEASURE = STAYS_IN_RANGE = None
ABS_SUM_OF = ESTIMATE_ERROR = STORE_LINE = STORE_SUMS = ROUND = None
MARK_MISSING = STORE_MEANS = None

means_of = reader(MEANS)
means_block = reader(MEANS_BLOCK)
new_means_block = on_stack(MEANS_BLOCK)

# Rows of a tile that are read at once: a multiple of four, and a divisor of all sides.
ROWS_AT_ONCE = 32
# Steps of a tile that several threads transform (see `filter_tile`).
BEFORE, AFTER = 1, 2


def read_part(address, work, x, number, unused, part, parts, unused2):
    """Read one of so many parts of a tile's rows: pixels, and zeros beyond the padded image.

    The sum of squares of every few rows is noted in the memory of a column.
    """
    params = fft_params(address)
    ny, nx, pitch = params.side_y, params.side_x, params.pitch
    y0 = number // params.tiles_x * params.step_y
    x0 = number % params.tiles_x * params.step_x
    padded_rows = (params.out_rows - 1) * params.stride_y + (params.p - 1) * params.dilation_y + 1
    rows = larger(0, smaller(ny, padded_rows - y0))
    columns = larger(0, smaller(nx, row_source(params.row_source).column_count - x0))
    chunks = ny // ROWS_AT_ONCE
    squares = elements(np.float64, work + params.columns, chunks)
    for chunk in range(part * chunks // parts, (part + 1) * chunks // parts):
        first, squares[chunk] = chunk * ROWS_AT_ONCE, 0.0
        last = smaller(first + ROWS_AT_ONCE, rows)
        if first < last and columns > 0:
            # The source's row buffer has a slot for every row: row y goes y rows after its start.
            call(
                params.load, params.row_source, x, y0 + first, y0 + last, x0, columns,
                work - y0 * pitch, pitch // SIZE,
            )  # fmt: skip
            if params.mark_missing:
                MARK_MISSING(address, work, x0, y0, first, last - first, columns)
        for plane in range(PARTS):
            start = work + plane * params.plane_bytes
            for i in range(first, first + ROWS_AT_ONCE):
                n = columns if i < rows else 0
                CLEAR(start + i * pitch + n * SIZE, 0, 1, nx - n)
            if first < last and params.estimate_errors:  # while they are in the first-level cache
                squares[chunk] += SQUARES(start + first * pitch, pitch, ROWS_AT_ONCE, nx // LANES)


def load_tile(address, work, x, number, state, unused, unused2, unused3):
    """Read a tile, and note whether all pixels are finite and no sum can overflow.

    If `x` is 0 the pixels have been read already.
    """
    params, tile = fft_params(address), tile_state(state)
    tile.squares, tile.exponent, tile.abs_sum, tile.largest_sum = 0.0, 0, 0.0, 0.0
    if x:
        call(params.read_part, address, work, x, number, 0, 0, 1, 0)
    chunks, squares = params.side_y // ROWS_AT_ONCE, 0.0
    noted = elements(np.float64, work + params.columns, chunks)
    for chunk in range(chunks):
        squares += noted[chunk]
    tile.finite = not params.estimate_errors or (
        MEASURE(address, work, squares, state) and STAYS_IN_RANGE(address, state)
    )


def _store_line(line, imaginary, target, n):
    """Copy a row of sums, and return the bits of the largest magnitude."""
    rest = n * SIZE - BYTES
    if PARTS == 2:
        return larger(
            INTERLEAVE(line, line + imaginary, target, n // LANES),
            INTERLEAVE(line + rest, line + imaginary + rest, target + 2 * rest, 1),
        )
    return larger(MOVE(line, target, n // LANES), MOVE(line + rest, target + rest, 1))


def _mark_missing(address, work, x0, y0, first, rows, columns):
    """Mark the missing pixels of some rows of a tile that begins at pixel (y0, x0)."""
    params, pitch = fft_params(address), fft_params(address).pitch
    counts, nx = work + params.transposed, params.side_x
    if params.load_counts:
        means = means_of(params.means)
        call(
            params.load_counts, means.counts_source, means.counts, y0 + first, y0 + first + rows,
            x0, columns, counts - (y0 + first) * pitch, pitch // SIZE,
        )  # fmt: skip
    call(
        params.mark_missing, work + first * pitch, rows, pitch, columns,
        work + params.present + first * nx, nx, counts, params.means,
    )  # fmt: skip


def _store_means(address, plane, out, number):
    """Write a tile's sums, divided by sums of weights."""
    params = fft_params(address)
    i0, j0, rows, columns = KEPT_PART(address, number)
    pitch, step = params.pitch, params.out_column_stride
    target = out + i0 * params.out_row_stride + j0 * step
    block_address = new_means_block()
    block = means_block(block_address)
    block.means, block.row, block.column, block.row_step = params.means, i0, j0, 1
    if params.weight_sums == 0:
        call(
            params.store, plane, columns, target, step, rows, pitch, params.out_row_stride,
            block_address,
        )  # fmt: skip
        return
    for i in range(rows):
        line = plane + i * pitch
        distance = plane + params.weight_sums + i * params.weight_sums_pitch - line
        call(
            params.store, line, columns, target + i * params.out_row_stride, step, 1, distance, 0,
            block_address,
        )  # fmt: skip


def _store_sums(address, plane, out, number):
    """Write a tile's sums, and return the bits of the largest magnitude."""
    params = fft_params(address)
    i0, j0, rows, columns = KEPT_PART(address, number)
    stride, pitch = params.stride_x, params.pitch
    target = out + i0 * params.out_row_stride + j0 * params.out_column_stride
    largest, step = 0, params.stride_y * pitch
    if params.store_in_place and stride == 1 and columns >= LANES:
        for i in range(rows):
            line = plane + i * step
            found = STORE_LINE(
                line, params.plane_bytes, target + i * params.out_row_stride, columns
            )
            largest = larger(largest, found)
        return largest
    for part in range(PARTS):
        for i in range(rows):
            line = plane + part * params.plane_bytes + i * step
            values = elements(REAL, line, columns * stride)
            for j in range(columns if stride > 1 else 0):
                values[j] = values[j * stride]
            bits = elements(BITS, line, columns)
            for j in range(columns):
                largest = larger(largest, bits[j] & MAGNITUDE)
    if params.means:
        STORE_MEANS(address, plane, out, number)
        return largest
    call(
        params.store, plane, columns, target, params.out_column_stride, rows, step,
        params.out_row_stride, params.plane_bytes,
    )  # fmt: skip
    return largest


def _round(plane, pitch, rows, columns):
    """Round sums to whole numbers."""
    for i in range(rows):
        line = elements(REAL, plane + i * pitch, columns)
        for j in range(columns):
            line[j] = np.rint(line[j])


def store_tile(address, work, out, number, state, outliers, unused, unused2):
    """Write a tile's sums, note whether all are finite, and estimate their error.

    `outliers` is the number of pixels that were taken out of the tile.
    """
    params, tile = fft_params(address), tile_state(state)
    rows, columns, pitch = PARTS * params.side_y, params.side_x, params.pitch
    exponent = tile.exponent + kernel_measures(params.measures).exponent
    largest = 0.0
    tile.finite = 0
    if exponent:
        SCALE(work, pitch, rows, columns, exponent)
    if outliers:
        call(params.add_outliers, address, work, number, outliers, 0, 0, 0, 0)
    if params.round_sums:
        ROUND(work, pitch, rows, columns)
    if params.estimate_errors and params.stride_x > 1:
        # Storing moves kept sums over discarded ones.
        largest = UNSCALED(LARGEST(work, pitch, rows, columns // LANES), exponent)
    bits = STORE_SUMS(address, work, out, number)
    if not bits < INFINITE:
        return
    tile.largest_sum = UNSCALED(bits, exponent)
    tile.finite = 1
    if params.estimate_errors:
        ESTIMATE_ERROR(address, work, number, state, larger(largest, tile.largest_sum))


def filter_tile(address, work, x, out, number, state, step, unused):
    """Filter a tile, and note its outcome.

    With a `step` of 0 it does everything. With BEFORE it does what precedes the transforms of a
    tile whose pixels have been read, with AFTER what follows them.
    """
    params, tile = fft_params(address), tile_state(state)
    if step != AFTER:
        tile.outcome = DIRECT
        call(params.load_tile, address, work, 0 if step == BEFORE else x, number, state, 0, 0, 0)
        if not tile.finite:
            return
        if params.estimate_errors and params.cancels:
            call(params.sample_abs_sums, address, work, number, 1, state, 0, 0, 0)
        if step == BEFORE:
            return
        if not params.estimate_errors or tile.squares > 0:
            call(params.transform_tile, address, work, 0, 0, 0, 0, 0, 0)
    if params.sum_weights:
        call(params.sum_weights, address, work, number, state, 0, 0, 0, 0)
        if not tile.finite:
            return
    call(params.store_tile, address, work, out, number, state, 0, 0, 0)
    if not tile.finite:
        return
    exact = tile.squares == 0 or tile.estimate <= PROMISED * tile.abs_sum
    tile.outcome = EXACT if exact or not params.estimate_errors else DOUBTFUL


def sample_abs_sums(address, work, number, across, state, unused, unused2, unused3):
    """Note the largest sum of absolute values of `across` by `across` outputs of a tile.

    The tile is not transformed yet.
    """
    tile = tile_state(state)
    _i0, _j0, rows, columns = KEPT_PART(address, number)
    for i in range(across):
        row = (2 * i + 1) * rows // (2 * across)
        for j in range(across):
            column = (2 * j + 1) * columns // (2 * across)
            tile.abs_sum = larger(tile.abs_sum, ABS_SUM_OF(address, work, row, column))


FUNCTIONS = (_mark_missing, _store_line, _store_means, _store_sums, _round)
