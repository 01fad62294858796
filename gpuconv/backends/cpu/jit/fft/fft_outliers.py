"""Retries tiles whose sums may not be exact enough, without their largest pixels (Numba).

How names in capitals get their values is explained in `fft_functions`.
"""

from __future__ import annotations

import math

import numpy as np

from ..intrinsics import call, elements, larger, smaller
from .fft_errors import DIRECT, EXACT, LARGEST_SUM, PROMISED, SHARES, tile_state
from .fft_kernels import kernel_measures
from .fft_tiles import fft_params

REAL = LANES = SIZE = PARTS = SMALLEST = None
SQUARES = LARGEST = FLOAT_OF = SCALE = MEASURE = KEPT_PART = None
TAKE_OUT = None


def _take_out(address, work, limit, exponent):
    """Take pixels larger than a limit out of a tile.

    Their values are noted as they were before they were divided by 2**exponent. Returns how many
    were taken out, or -1 if there are too many.
    """
    params = fft_params(address)
    ny, nx, most = params.side_y, params.side_x, params.outliers_most
    places = elements(np.int64, work + params.outliers, most)
    values = work + params.outliers + 8 * most
    noted = elements(REAL, values, (PARTS, most))
    count = 0
    for y in range(ny):
        start, largest = work + y * params.pitch, 0.0
        for part in range(PARTS):
            plane = start + part * params.plane_bytes
            largest = larger(largest, FLOAT_OF(LARGEST(plane, 0, 1, nx // LANES)))
        if not largest * PARTS > limit:  # twice the larger part is more than the modulus
            continue
        real = elements(REAL, start, nx)
        imaginary = elements(REAL, start + params.plane_bytes, nx)
        for x in range(nx):
            if PARTS == 2:
                size = math.hypot(np.float64(real[x]), np.float64(imaginary[x]))
            else:
                size = np.float64(abs(real[x]))
            if size > limit:
                if count == most:
                    return -1
                places[count] = y * nx + x
                noted[0, count], real[x] = real[x], 0
                if PARTS == 2:
                    noted[1, count], imaginary[x] = imaginary[x], 0
                count += 1
    if exponent and count:
        SCALE(values, most * SIZE, PARTS, count, exponent)
    return count


def add_outliers(address, work, number, count, unused, unused2, unused3, unused4):
    """Add the products of the pixels taken out of a tile to its outputs, summed in float64."""
    params = fft_params(address)
    _i0, _j0, rows, columns = KEPT_PART(address, number)
    nx, most, p, q = params.side_x, params.outliers_most, params.p, params.q
    start = work + params.outliers
    places = elements(np.int64, start, most)
    values = elements(REAL, start + 8 * most, (PARTS, most))
    sums = elements(np.float64, start + (8 + 8 * PARTS) * most, (PARTS, nx))
    sy, sx, dy, dx = params.stride_y, params.stride_x, params.dilation_y, params.dilation_x
    last, begin = (columns - 1) * sx, 0
    for i in range(0, (rows - 1) * sy + 1, sy):
        met = False
        while begin < count and places[begin] // nx < i:  # they are sorted by row
            begin += 1
        for n in range(begin, count):
            y, x = places[n] // nx, places[n] % nx
            if y > i + (p - 1) * dy:
                break
            if (y - i) % dy:
                continue
            if not met:
                sums[:] = 0
                met = True
            row = params.weights + (y - i) // dy * q * PARTS * SIZE
            weights = elements(REAL, row, (q, PARTS))
            re = np.float64(values[0, n])
            # The taps whose outputs are kept: 0 <= x - b * dx <= last.
            for b in range(larger(0, -((last - x) // dx)), smaller(q - 1, x // dx) + 1):
                sums[0, x - b * dx] += re * weights[b, 0]
                if PARTS == 2:
                    im = np.float64(values[1, n])
                    sums[0, x - b * dx] -= im * weights[b, 1]
                    sums[1, x - b * dx] += re * weights[b, 1] + im * weights[b, 0]
        for part in range(PARTS if met else 0):
            plane = work + part * params.plane_bytes
            line = elements(REAL, plane + i * params.pitch, nx)
            for j in range(0, last + 1, sx):
                line[j] += sums[part, j]


def retry_tile(address, work, x, out, number, before, retry, unused):
    """Show that a tile's sums are exact enough as they are, or compute them anew.

    The tile's state is at `before`. The outcome, in the state at `retry`, is EXACT or DIRECT.
    """
    params = fft_params(address)
    kernel = kernel_measures(params.measures)
    tile, tile_before = tile_state(retry), tile_state(before)
    tile.outcome = DIRECT
    abs_sum = 0.0
    for attempt in range(len(SHARES)):
        call(params.load_tile, address, work, x, number, retry, 0, 0, 0)
        if not tile.finite:
            return
        if attempt == 0:
            tile.abs_sum = tile_before.abs_sum
            call(params.sample_abs_sums, address, work, number, 3, retry, 0, 0, 0)
            abs_sum = tile.abs_sum
            if tile_before.estimate <= PROMISED * abs_sum:
                tile.outcome = EXACT
                return
        limit = PROMISED * abs_sum / SHARES[attempt] / (kernel.noise + LARGEST_SUM * kernel.peak)
        exponent = tile.exponent
        if exponent > 0 and limit < SMALLEST:
            return  # scaling by the largest pixel has rounded the others away
        outliers = TAKE_OUT(address, work, limit, exponent)
        if outliers < 0:
            return
        rows, vectors = PARTS * params.side_y, params.side_x // LANES
        MEASURE(address, work, SQUARES(work, params.pitch, rows, vectors), retry)
        more = tile.exponent  # the rest may be so small that it was scaled again
        tile.exponent += exponent
        tile.abs_sum = math.ldexp(abs_sum, -more)
        call(params.transform_tile, address, work, 0, 0, 0, 0, 0, 0)
        call(params.store_tile, address, work, out, number, retry, outliers, 0, 0)
        if not tile.finite:
            return
        if tile.squares == 0 or tile.estimate <= PROMISED * tile.abs_sum:
            tile.outcome = EXACT
            return
        abs_sum = math.ldexp(tile.abs_sum, more)


FUNCTIONS = (_take_out,)
