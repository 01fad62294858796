"""Transforms of one complex tile and of a kernel (Numba).

Columns are transformed a vector's width at a time. Then the tile is transposed, and a vector's
width of its rows at a time is transformed, multiplied by the kernel's spectrum and transformed back
while in the first-level cache. The transform leaves digit-reversed order, which the inverse
begins with.

With a single column of taps only columns are transformed, and nothing is transposed. With a single
row of taps only rows are transformed.

How names in capitals get their values is explained in `fft_functions`.
"""

from __future__ import annotations

import math

import numpy as np

from ..intrinsics import call, elements, larger, load_int, reader, smaller
from ..params import FFT_PARAMS, KERNEL_MEASURES

fft_params = reader(FFT_PARAMS)
kernel_measures = reader(KERNEL_MEASURES)

FORWARD4 = FORWARD8 = FORWARD4_LAST = FORWARD8_LAST = None
INVERSE4 = INVERSE8 = INVERSE4_LAST = INVERSE8_LAST = None
TRANSPOSE = PRODUCT = LANES = SIZE = BYTES = PARTS = REAL = None
TRANSFORM_COLUMNS = FILTER_ROWS = RESTORE_COLUMNS = FILTER_COLUMNS = CLEAR = None


def _clear(plane, pitch, rows, columns):
    """Fill the first columns of some rows with zeros."""
    for i in range(rows):
        elements(REAL, plane + i * pitch, columns)[:] = 0


def _kept_part(address, number):
    """Return the first output row and column of a tile, and how many of each it has."""
    params = fft_params(address)
    rows, columns = params.step_y // params.stride_y, params.step_x // params.stride_x
    i0 = number // params.tiles_x * rows
    j0 = number % params.tiles_x * columns
    return i0, j0, smaller(rows, params.out_rows - i0), smaller(columns, params.out_columns - j0)


def forward(re, im, pitch, to_re, to_im, n, radices, twiddles):
    """Transform one vector of columns, rows `pitch` bytes apart, into contiguous vectors."""
    m, stage = n, 0
    while m > 1:
        r = load_int(radices, stage)
        step = m // r
        for g in range(0, n, m):
            for k in range(step):
                source, target = (g + k) * pitch, (g + k) * BYTES
                if r == 8 and step > 1:
                    FORWARD8(
                        re + source, im + source, step * pitch, to_re + target, to_im + target,
                        step * BYTES, twiddles + k * 14 * SIZE,
                    )  # fmt: skip
                elif r == 8:
                    FORWARD8_LAST(
                        re + source, im + source, pitch, to_re + target, to_im + target, BYTES, 0
                    )
                elif step > 1:
                    FORWARD4(
                        re + source, im + source, step * pitch, to_re + target, to_im + target,
                        step * BYTES, twiddles + k * 6 * SIZE,
                    )  # fmt: skip
                else:
                    FORWARD4_LAST(
                        re + source, im + source, pitch, to_re + target, to_im + target, BYTES, 0
                    )
        twiddles += step * (r - 1) * 2 * SIZE
        re, im, pitch = to_re, to_im, BYTES
        m, stage = step, stage + 1


def inverse(re, im, to_re, to_im, to_pitch, n, radices, twiddles):
    """Transform contiguous vectors, in place, back to columns with rows `to_pitch` bytes apart."""
    stage, twiddles_bytes = 0, 0
    m = n
    while m > 1:
        r = load_int(radices, stage)
        twiddles_bytes += m // r * (r - 1) * 2 * SIZE
        m //= r
        stage += 1
    twiddles += twiddles_bytes
    while m < n:
        stage -= 1
        r = load_int(radices, stage)
        step = m
        m *= r
        twiddles -= step * (r - 1) * 2 * SIZE
        a, b, pitch = re, im, BYTES
        if m == n:
            a, b, pitch = to_re, to_im, to_pitch
        for g in range(0, n, m):
            for k in range(step):
                source, target = (g + k) * BYTES, (g + k) * pitch
                if r == 8 and step > 1:
                    INVERSE8(
                        re + source, im + source, step * BYTES, a + target, b + target,
                        step * pitch, twiddles + k * 14 * SIZE,
                    )  # fmt: skip
                elif r == 8:
                    INVERSE8_LAST(re + source, im + source, BYTES, a + target, b + target, pitch, 0)
                elif step > 1:
                    INVERSE4(
                        re + source, im + source, step * BYTES, a + target, b + target,
                        step * pitch, twiddles + k * 6 * SIZE,
                    )  # fmt: skip
                else:
                    INVERSE4_LAST(re + source, im + source, BYTES, a + target, b + target, pitch, 0)


def transpose(source, pitch, target, to_pitch, count, step, to_step, unused):
    """Transpose `count` squares of vectors, `step` bytes apart, to places `to_step` apart."""
    for square in range(count):
        TRANSPOSE(source + square * step, pitch, target + square * to_step, to_pitch)


def _transform_columns(address, work):
    """Transform the columns of a tile, if there are several rows of taps, and transpose it."""
    params = fft_params(address)
    ny, nx, to_pitch = params.side_y, params.side_x, params.transposed_pitch
    to_imaginary, pitch, plane = params.transposed_plane_bytes, params.pitch, params.plane_bytes
    re = work + params.columns
    im, square = re + ny * BYTES, LANES * BYTES
    for c in range(nx // LANES):
        at, to = work + c * BYTES, work + params.transposed + c * LANES * to_pitch
        if params.p == 1:
            step = LANES * pitch
            call(params.transpose, at, pitch, to, to_pitch, ny // LANES, step, BYTES, 0)
            at, to = at + plane, to + to_imaginary
            call(params.transpose, at, pitch, to, to_pitch, ny // LANES, step, BYTES, 0)
            continue
        call(params.forward, at, at + plane, pitch, re, im, ny, params.radices_y, params.twiddles_y)
        call(params.transpose, re, BYTES, to, to_pitch, ny // LANES, square, BYTES, 0)
        call(
            params.transpose, im, BYTES, to + to_imaginary, to_pitch, ny // LANES, square, BYTES, 0
        )


def _filter_rows(address, work):
    """Transform the rows of a transposed tile, multiply by the spectrum, transform back."""
    params = fft_params(address)
    ny, nx, pitch = params.side_y, params.side_x, params.transposed_pitch
    radices, twiddles = params.radices_x, params.twiddles_x
    re = work + params.columns
    im = re + nx * BYTES
    for r in range(ny // LANES):
        at = work + params.transposed + r * BYTES
        imaginary = at + params.transposed_plane_bytes
        call(params.forward, at, imaginary, pitch, re, im, nx, radices, twiddles)
        for c in range(nx):
            factor = params.spectrum + (r * nx + c) * 2 * BYTES
            PRODUCT(re + c * BYTES, im + c * BYTES, factor, factor + BYTES)
        call(params.inverse, re, im, at, imaginary, pitch, nx, radices, twiddles)


def _restore_columns(address, work):
    """Transpose the tile again and transform its columns back, if they were transformed."""
    params = fft_params(address)
    ny, nx, pitch = params.side_y, params.side_x, params.transposed_pitch
    re = work + params.columns
    im, square = re + ny * BYTES, LANES * BYTES
    for c in range(nx // LANES):
        at, to = work + params.transposed + c * LANES * pitch, work + c * BYTES
        imaginary = at + params.transposed_plane_bytes
        if params.p == 1:
            step, plane = LANES * params.pitch, params.plane_bytes
            call(params.transpose, at, pitch, to, params.pitch, ny // LANES, BYTES, step, 0)
            to += plane
            call(params.transpose, imaginary, pitch, to, params.pitch, ny // LANES, BYTES, step, 0)
            continue
        call(params.transpose, at, pitch, re, BYTES, ny // LANES, BYTES, square, 0)
        call(params.transpose, imaginary, pitch, im, BYTES, ny // LANES, BYTES, square, 0)
        call(
            params.inverse, re, im, to, to + params.plane_bytes, params.pitch, ny,
            params.radices_y, params.twiddles_y,
        )  # fmt: skip


def _filter_columns(address, work):
    """Transform the columns of a tile, multiply by a column's spectrum, transform back."""
    params = fft_params(address)
    ny, pitch, radices, twiddles = (
        params.side_y, params.pitch, params.radices_y, params.twiddles_y
    )  # fmt: skip
    re = work + params.columns
    im = re + ny * BYTES
    for c in range(params.side_x // LANES):
        at = work + c * BYTES
        imaginary = at + params.plane_bytes
        call(params.forward, at, imaginary, pitch, re, im, ny, radices, twiddles)
        for i in range(ny):
            factor = params.spectrum + i * 2 * BYTES
            PRODUCT(re + i * BYTES, im + i * BYTES, factor, factor + BYTES)
        call(params.inverse, re, im, at, imaginary, pitch, ny, radices, twiddles)


def transform_group(address, work, unused, unused2, unused3, unused4, unused5, unused6):
    """Filter the complex tile in a workspace: transform, multiply by the spectrum, and invert."""
    if fft_params(address).q == 1:
        FILTER_COLUMNS(address, work)
        return
    TRANSFORM_COLUMNS(address, work)
    FILTER_ROWS(address, work)
    RESTORE_COLUMNS(address, work)


def kernel_spectrum(address, work, weights, spectrum, measures, unused, unused2, unused3):
    """Compute the conjugate spectrum of a kernel's conjugate weights, over the transform's length.

    For a single column of taps each number is in all lanes of a vector. The largest magnitude of
    the spectrum, before the division, is noted in the kernel's measures.
    """
    params = fft_params(address)
    ny, nx, pitch, p, q = params.side_y, params.side_x, params.pitch, params.p, params.q
    CLEAR(work, pitch, 2 * ny, pitch // SIZE)
    taps = elements(REAL, weights, (p, q, PARTS))
    # A single row of taps has the same spectrum in every row.
    for a in range(ny if p == 1 and q > 1 else p):
        row = work + a * (1 if p == 1 else params.dilation_y) * pitch
        real = elements(REAL, row, nx)
        for b in range(q):
            real[b * params.dilation_x] = taps[smaller(a, p - 1), b, 0]
        if PARTS == 2:
            imaginary = elements(REAL, row + params.plane_bytes, nx)
            for b in range(q):
                imaginary[b * params.dilation_x] = -taps[smaller(a, p - 1), b, 1]
    largest = 0.0
    if q == 1:
        re = work + params.columns
        im = re + ny * BYTES
        call(
            params.forward, work, work + params.plane_bytes, pitch, re, im, ny, params.radices_y,
            params.twiddles_y,
        )  # fmt: skip
        reals = elements(REAL, re, (ny, LANES))
        imaginaries = elements(REAL, im, (ny, LANES))
        target = elements(REAL, spectrum, (ny, 2, LANES))
        scale = REAL.dtype.type(1.0 / ny)
        for i in range(ny):
            target[i, 0, :] = reals[i, 0] * scale
            target[i, 1, :] = -imaginaries[i, 0] * scale
            square = np.float64(reals[i, 0]) ** 2 + np.float64(imaginaries[i, 0]) ** 2
            largest = larger(largest, square)
        kernel_measures(measures).strongest = math.sqrt(largest)
        return
    TRANSFORM_COLUMNS(address, work)
    re = work + params.columns
    im = re + nx * BYTES
    for r in range(ny // LANES):
        at = work + params.transposed + r * BYTES
        call(
            params.forward, at, at + params.transposed_plane_bytes, params.transposed_pitch, re, im,
            nx, params.radices_x, params.twiddles_x,
        )  # fmt: skip
        reals = elements(REAL, re, (nx, LANES))
        imaginaries = elements(REAL, im, (nx, LANES))
        target = elements(REAL, spectrum + r * nx * 2 * BYTES, (nx, 2, LANES))
        scale = REAL.dtype.type(1.0 / (nx if p == 1 else ny * nx))
        for c in range(nx):
            for lane in range(LANES):
                target[c, 0, lane] = reals[c, lane] * scale
                target[c, 1, lane] = -imaginaries[c, lane] * scale
                square = np.float64(reals[c, lane]) ** 2 + np.float64(imaginaries[c, lane]) ** 2
                largest = larger(largest, square)
    kernel_measures(measures).strongest = math.sqrt(largest)


FUNCTIONS = (
    _clear, _kept_part, _transform_columns, _filter_rows, _restore_columns, _filter_columns,
)  # fmt: skip
