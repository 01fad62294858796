"""Filters one group of tiles: reads, transforms, stores, and estimates the error (Numba).

Overlap-save: tiles overlap by the kernel's span less one pixel, and the sums of a tile that no
wrap-around reaches are kept. Two neighbouring tiles of real sums are the real and the imaginary
part of one complex tile: the kernel is real, so each part of the result belongs to one tile. A tile
of complex sums is a complex tile already.

How names in capitals get their values is explained in `fft_functions`.
"""

from __future__ import annotations

import numpy as np

from ..intrinsics import call, elements, larger, smaller
from ..params import TILE_STATE_BYTES
from ..row_buffer import row_source
from .fft_errors import DIRECT, DOUBTFUL, PROMISED, group_state, tile_state
from .fft_tiles import fft_params, kernel_measures

REAL = BITS = LANES = SIZE = BYTES = PARTS = INFINITE = MAGNITUDE = None
MOVE = INTERLEAVE = SQUARES = LARGEST = None
CLEAR = KEPT_PART = SCALE = UNSCALED = MEASURE = BALANCE = ABS_SUM_OF = ESTIMATE_ERROR = None
LOAD_TILE = STORE_LINE = STORE_TILE = ROUND = None

# Rows of a tile that are read at once: a multiple of four, and a divisor of all sides.
ROWS_AT_ONCE = 32


def _load_tile(address, x, number, plane):
    """Read one tile's pixels, zero beyond the padded image; returns their sum of squares."""
    params = fft_params(address)
    ny, nx, pitch, squares = params.side_y, params.side_x, params.pitch, 0.0
    y0 = number // params.tiles_x * params.step_y
    x0 = number % params.tiles_x * params.step_x
    padded_rows = (params.out_rows - 1) * params.stride_y + (params.p - 1) * params.dilation_y + 1
    rows = larger(0, smaller(ny, padded_rows - y0))
    columns = larger(0, smaller(nx, row_source(params.row_source).column_count - x0))
    for first in range(0, ny, ROWS_AT_ONCE):  # squared while they are in the first-level cache
        last = smaller(first + ROWS_AT_ONCE, rows)
        if first < last and columns > 0:
            # The source's row buffer has a slot for every row: row y goes y rows after its start.
            call(
                params.load, params.row_source, x, y0 + first, y0 + last, x0, columns,
                plane - y0 * pitch, pitch // SIZE,
            )  # fmt: skip
        for part in range(PARTS):
            start = plane + part * params.plane_bytes
            for i in range(first, first + ROWS_AT_ONCE):
                n = columns if i < rows else 0
                CLEAR(start + i * pitch + n * SIZE, 0, 1, nx - n)
            if first < last and params.estimate_errors:
                squares += SQUARES(start + first * pitch, pitch, ROWS_AT_ONCE, nx // LANES)
    return squares


def load_group(address, work, x, first, count, state, unused, unused2):
    """Read a group's tiles, and note whether all pixels are finite and no sum can overflow."""
    params, group = fft_params(address), group_state(state)
    finite = True
    for t in range(2):
        tile = tile_state(state + t * TILE_STATE_BYTES)
        tile.squares, tile.exponent, tile.abs_sum, tile.largest_sum = 0.0, 0, 0.0, 0.0
        plane = work + t * params.plane_bytes
        if t < count:
            squares = LOAD_TILE(address, x, first + t, plane)
            if params.estimate_errors:
                finite = MEASURE(address, plane, squares, state + t * TILE_STATE_BYTES) and finite
        elif PARTS == 1:
            CLEAR(plane, params.pitch, params.side_y, params.pitch // SIZE)
    group.finite = finite and (not params.estimate_errors or BALANCE(address, work, state))


def _store_line(line, imaginary, target, n):
    """Copy a row of sums, and return the bits of the largest magnitude."""
    rest = n * SIZE - BYTES
    if PARTS == 2:
        return larger(
            INTERLEAVE(line, line + imaginary, target, n // LANES),
            INTERLEAVE(line + rest, line + imaginary + rest, target + 2 * rest, 1),
        )
    return larger(MOVE(line, target, n // LANES), MOVE(line + rest, target + rest, 1))


def _store_tile(address, plane, out, number):
    """Write one tile's sums, and return the bits of the largest magnitude."""
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


def store_group(address, work, out, first, count, state, outliers, unused):
    """Write a group's sums, note whether all are finite, and estimate their error.

    `outliers` is the number of pixels that were taken out of its only tile.
    """
    params, group = fft_params(address), group_state(state)
    kernel = kernel_measures(params.measures)
    rows, columns, pitch = PARTS * params.side_y, params.side_x, params.pitch
    largest = 0.0
    group.finite = 0
    for t in range(count):
        tile = tile_state(state + t * TILE_STATE_BYTES)
        plane, exponent = work + t * params.plane_bytes, tile.exponent + kernel.exponent
        if params.estimate_errors and tile.squares == 0:  # there are only errors of the other tile
            CLEAR(plane, pitch, rows, columns)
        if exponent:
            SCALE(plane, pitch, rows, columns, exponent)
        if outliers:
            call(params.add_outliers, address, work, first + t, outliers, 0, 0, 0, 0)
        if params.round_sums:
            ROUND(plane, pitch, rows, columns)
        if params.estimate_errors and params.stride_x > 1:
            # Storing moves kept sums over discarded ones.
            largest = larger(
                largest, UNSCALED(LARGEST(plane, pitch, rows, columns // LANES), exponent)
            )
        bits = STORE_TILE(address, plane, out, first + t)
        if not bits < INFINITE:
            return
        tile.largest_sum = UNSCALED(bits, exponent)
        largest = larger(largest, tile.largest_sum)
    group.finite = 1
    if params.estimate_errors:
        ESTIMATE_ERROR(address, work, first, count, state, largest)


def filter_group(address, work, x, out, first, count, state, unused):
    """Filter a group of tiles from tile `first` on, and note what remains to be done for them."""
    params, group = fft_params(address), group_state(state)
    one, other = tile_state(state), tile_state(state + TILE_STATE_BYTES)
    group.outcome = DIRECT
    call(params.load_group, address, work, x, first, count, state, 0, 0)
    if not group.finite:
        return
    if params.estimate_errors and params.cancels:
        for t in range(count):
            tile = state + t * TILE_STATE_BYTES
            call(params.sample_abs_sums, address, work, first + t, t, 1, tile, 0, 0)
    if not params.estimate_errors or one.squares + other.squares > 0:
        call(params.transform_group, address, work, 0, 0, 0, 0, 0, 0)
    call(params.store_group, address, work, out, first, count, state, 0, 0)
    if not group.finite:
        return
    outcome = 0
    for t in range(count if params.estimate_errors else 0):
        tile = tile_state(state + t * TILE_STATE_BYTES)
        if tile.squares > 0 and not group.estimate <= PROMISED * tile.abs_sum:
            outcome |= DOUBTFUL << t
    group.outcome = outcome


def sample_abs_sums(address, work, number, t, across, tile_address, unused, unused2):
    """Note the largest sum of absolute values of `across` by `across` outputs of a tile.

    The tile, the first or second (`t`) of its group, is not transformed yet.
    """
    tile = tile_state(tile_address)
    _i0, _j0, rows, columns = KEPT_PART(address, number)
    plane = work + t * fft_params(address).plane_bytes
    for i in range(across):
        row = (2 * i + 1) * rows // (2 * across)
        for j in range(across):
            column = (2 * j + 1) * columns // (2 * across)
            tile.abs_sum = larger(tile.abs_sum, ABS_SUM_OF(address, plane, row, column))


FUNCTIONS = (_load_tile, _store_line, _store_tile, _round)
