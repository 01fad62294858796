"""Whether the sums of a tile are as exact as promised (Numba).

A Fourier transform spreads the rounding errors of every pixel over all sums of its tile. The
promise is relative to the largest sum of absolute values among the outputs that the tile keeps, and
a pixel that only discarded outputs read may be larger by any factor. So the error is estimated, in
units of eps:

    norm(x) * (10 * norm(K) + 2 * max |K^|) / sqrt(N) + 8 * max |Y|

where Y are all N sums of the tile, discarded ones too (N and norm(x) are those of a line where only
lines are transformed); the numbers are measured, not proven. The first term is noise, and leakage
from the strongest frequency of the tile into the one that the kernel amplifies most. The last term
is for copies of a large sum at other places, which come from errors of the twiddle factors. The
largest sum of absolute values is at least the largest kept sum, and at least that of any output for
which it is computed. Where this does not show that the promise is kept, the largest pixels are
taken out of the tile, the rest is transformed again, and the products of those pixels are added tap
by tap (`fft_outliers`).

How names in capitals get their values is explained in `fft_functions`.
"""

from __future__ import annotations

import math

import numpy as np

from ..intrinsics import call, elements, larger, number_on_stack, reader, smaller, store_int
from ..params import TILE_STATE
from .fft_kernels import kernel_measures
from .fft_tiles import fft_params

tile_state = reader(TILE_STATE)

# What is known of a tile: it is exact enough, must be summed directly, or must be retried.
EXACT, DIRECT, DOUBTFUL = range(3)
# The error promised, in units of eps times the largest sum of absolute values.
PROMISED = 64.0
# The factors of the estimate's terms: with these, the errors of the transforms of 13 kinds of real
# images and 8 kinds of kernels, with tiles from 32 to 2048 and of 3 * 2**n, were at most 0.51 of
# the estimate, and those of complex ones 0.7.
NORMS, STRONGEST, LARGEST_SUM = 10.0, 2.0, 8.0
# A pixel that is left in a tile may contribute at most one part in this many of the error promised,
# in the first attempt and in the second.
SHARES = (2.0, 32.0)
# Weights, and norms of tiles, between 2**-n and 2**n are transformed as they are: they are exact
# enough, and no sum leaves the dtype's range. All others are divided by a power of two first.
SAFE_EXPONENT = {"float32": 40, "float64": 300}


def noise(norm: float, strongest: float, size: int) -> float:
    """Return what the estimate multiplies a tile's norm by, for transforms of `size` elements.

    It is not compiled.
    """
    return (NORMS * norm + STRONGEST * strongest) / math.sqrt(size)


REAL = LANES = SIZE = BYTES = PARTS = EPS = None
SMALLEST = GREATEST = EXPONENT_MOST = MODULUS = None
SQUARES = LARGEST = FLOAT_OF = UNSCALED = SCALE = KEPT_PART = None


def _float_of(bits):
    """Return the number with these bits."""
    place = number_on_stack()
    store_int(place, 0, bits)
    return np.float64(elements(REAL, place, 1)[0])


def _unscaled(bits, exponent):
    """Return the number with these bits over 2**exponent, which may be beyond the dtype's range."""
    step = exponent // 2
    return FLOAT_OF(bits) * math.ldexp(1.0, -step) * math.ldexp(1.0, step - exponent)


def _scale(plane, pitch, rows, columns, exponent):
    """Multiply by a power of two, in two steps because it may lie outside the dtype's range."""
    one = REAL.dtype.type(math.ldexp(1.0, exponent // 2))
    other = REAL.dtype.type(math.ldexp(1.0, exponent - exponent // 2))
    for i in range(rows):
        line = elements(REAL, plane + i * pitch, columns)
        for j in range(columns):
            line[j] = line[j] * one * other


def _measure(address, work, squares, state):
    """Note the sum of squares of a tile, or of its largest lines, and scale the tile if need be.

    Returns whether all of it is finite.
    """
    params, tile = fft_params(address), tile_state(state)
    rows, columns = PARTS * params.side_y, params.side_x
    exponent = 0
    if not SMALLEST < squares < GREATEST:
        largest = FLOAT_OF(LARGEST(work, params.pitch, rows, columns // LANES))
        if not largest < np.inf:
            return False
        squares = 0.0
        if largest > 0:
            exponent = math.frexp(largest)[1]
            SCALE(work, params.pitch, rows, columns, -exponent)
            squares = SQUARES(work, params.pitch, rows, columns // LANES)
    tile.squares, tile.exponent, tile.abs_sum = squares, exponent, 0.0
    if params.note_line_squares:
        call(params.note_line_squares, address, work, state, 0, 0, 0, 0, 0)
    return True


def _stays_in_range(address, state):
    """Return whether no sum of a tile can leave the dtype's range."""
    kernel, tile = kernel_measures(fft_params(address).measures), tile_state(state)
    exponent = tile.exponent + kernel.exponent
    if exponent > 0 and tile.squares > 0:
        bound = math.sqrt(tile.squares) * kernel.norm
        return math.frexp(bound)[1] + exponent <= EXPONENT_MOST - 2
    return True


def _abs_sum_of(address, plane, i, j):
    """Return the sum of absolute values of one output of a tile that is not transformed yet.

    Taps beyond the tile meet zeros of the border (see `fft_plan`).
    """
    params = fft_params(address)
    pitch, dilation = params.pitch, params.dilation_x
    below, beside = params.side_y - i * params.stride_y, params.side_x - j * params.stride_x
    p = smaller(params.p, (below - 1) // params.dilation_y + 1)
    q = smaller(params.q, (beside - 1) // dilation + 1)
    span = (q - 1) * dilation + 1
    start = plane + i * params.stride_y * pitch + j * params.stride_x * SIZE
    step, total = params.dilation_y * pitch, 0.0
    for a in range(p):
        real = elements(REAL, start + a * step, span)
        magnitudes = elements(REAL, params.magnitudes + a * params.q * SIZE, q)
        one = REAL.dtype.type(0)
        if PARTS == 2:
            imaginary = elements(REAL, start + params.plane_bytes + a * step, span)
            for b in range(q):
                re, im = real[b * dilation], imaginary[b * dilation]
                one += math.sqrt(re * re + im * im) * magnitudes[b]
        elif dilation == 1:
            for b in range(q):
                one += abs(real[b]) * magnitudes[b]
        else:
            for b in range(q):
                one += abs(real[b * dilation]) * magnitudes[b]
        total += one
    return total


def _estimate_error(address, work, number, state, largest):
    """Estimate the error of a tile whose sums, the `largest` so far, are in the workspace.

    The estimate also gives a lower bound of the largest sum of absolute values, from the kept sums.
    """
    params, tile = fft_params(address), tile_state(state)
    kernel = kernel_measures(params.measures)
    pitch, ny, nx = params.pitch, params.side_y, params.side_x
    norm = math.sqrt(tile.squares)
    noise = kernel.noise * norm
    # No sum is larger than the product of the norms. That often suffices, unless much is discarded.
    tile.estimate = noise + LARGEST_SUM * norm * kernel.norm
    least = larger(tile.abs_sum, tile.largest_sum - tile.estimate * EPS)
    if not tile.estimate <= PROMISED * least:
        _i0, _j0, rows, columns = KEPT_PART(address, number)
        # All rows, if there are discarded ones between those that are kept.
        with_gaps = params.stride_y > 1 or params.stride_x > 1
        inside = 0 if with_gaps else rows
        first_vector = columns // LANES  # the first that holds discarded sums
        beside = nx // LANES - first_vector
        for part in range(PARTS):
            plane = work + part * params.plane_bytes
            bits = larger(
                LARGEST(plane + inside * pitch, pitch, ny - inside, nx // LANES),
                LARGEST(plane + first_vector * BYTES, pitch, inside, beside),
            )
            largest = larger(largest, UNSCALED(bits, tile.exponent + kernel.exponent))
        tile.estimate = noise + LARGEST_SUM * (MODULUS * largest)
    tile.abs_sum = larger(tile.abs_sum, tile.largest_sum - tile.estimate * EPS)


def note_line_squares(address, work, state, unused, unused2, unused3, unused4, unused5):
    """Bound a tile's sum of squares by that of what is transformed together, if only lines are.

    Those are two columns, or two rows, of real pixels and one of complex ones.
    """
    params, tile = fft_params(address), tile_state(state)
    ny, nx, pitch, largest = params.side_y, params.side_x, params.pitch, 0.0
    if params.q == 1:
        sums = elements(REAL, work + params.columns, nx)
        sums[:] = 0
        for i in range(PARTS * ny):
            line = elements(REAL, work + i * pitch, nx)
            for j in range(nx):
                sums[j] += line[j] * line[j]
        for j in range(nx):
            largest = larger(largest, sums[j])
    else:  # the rows are squared by four
        for i in range(0, ny, 4):
            squares = 0.0
            for part in range(PARTS):
                plane = work + part * params.plane_bytes
                squares += SQUARES(plane + i * pitch, pitch, 4, nx // LANES)
            largest = larger(largest, squares)
    tile.squares = smaller(tile.squares, largest * (2 if PARTS == 1 else 1))


FUNCTIONS = (
    _float_of, _unscaled, _scale, _measure, _stays_in_range, _abs_sum_of, _estimate_error,
)  # fmt: skip
