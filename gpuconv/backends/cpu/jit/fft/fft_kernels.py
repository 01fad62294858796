"""Transforms of a kernel (Numba).

How names in capitals get their values is explained in `fft_functions`.
"""

from __future__ import annotations

import math

import numpy as np

from ..intrinsics import call, elements, larger, load_int, reader, smaller
from ..params import KERNEL_MEASURES
from .fft_tiles import fft_params

kernel_measures = reader(KERNEL_MEASURES)

REAL = LANES = SIZE = BYTES = PARTS = None
CLEAR = LOAD_KERNEL = SHARED_ROW = None


def _load_kernel(address, work, weights):
    """Write a kernel's conjugate weights to the start of a tile."""
    params = fft_params(address)
    pitch, p, q = params.pitch, params.p, params.q
    CLEAR(work, pitch, PARTS * params.side_y, pitch // SIZE)
    taps = elements(REAL, weights, (p, q, PARTS))
    # A single row of taps has the same spectrum in every row.
    rows = params.side_y * PARTS // 2
    for a in range(rows if p == 1 and q > 1 else p):
        row = work + a * (1 if p == 1 else params.dilation_y) * pitch
        real = elements(REAL, row, params.side_x)
        for b in range(q):
            real[b * params.dilation_x] = taps[smaller(a, p - 1), b, 0]
        if PARTS == 2:
            imaginary = elements(REAL, row + params.plane_bytes, params.side_x)
            for b in range(q):
                imaginary[b * params.dilation_x] = -taps[smaller(a, p - 1), b, 1]


def _shared_row(address, re, im, spectrum, scale):
    """Compute the spectrum of the shared row (see `fft_real_columns`).

    The row `a + b i` of an image, and the conjugate of its negative frequency, are multiplied by
    half the sum and half the difference of the spectra at these frequencies. Returns the largest
    squared magnitude of the two.
    """
    params = fft_params(address)
    ny, nx, largest = params.side_y, params.side_x, 0.0
    reals, imaginaries = elements(REAL, re, (nx, LANES)), elements(REAL, im, (nx, LANES))
    target = elements(REAL, spectrum, (nx, 2, LANES))
    factors = elements(REAL, spectrum + ny * nx * SIZE, (nx, 2))
    for n in range(2 * (nx // 2 + 1)):
        c, other = load_int(params.pairs_x, n), load_int(params.pairs_x, n ^ 1)
        a, b = np.float64(reals[c, 0]), np.float64(imaginaries[c, 0])
        x, y = np.float64(reals[other, 0]), np.float64(imaginaries[other, 0])
        low_re, low_im = (a + x) / 2, (b - y) / 2
        high_re, high_im = (b + y) / 2, (x - a) / 2
        target[c, 0, 0] = (low_re + high_re) / 2 * scale
        target[c, 1, 0] = -(low_im + high_im) / 2 * scale
        factors[c, 0] = (low_re - high_re) / 2 * scale
        factors[c, 1] = (high_im - low_im) / 2 * scale
        square = larger(low_re * low_re + low_im * low_im, high_re * high_re + high_im * high_im)
        largest = larger(largest, square)
    return largest


def kernel_spectrum(address, work, weights, spectrum, measures, unused, unused2, unused3):
    """Compute the conjugate spectrum of a kernel's conjugate weights, over the transform's length.

    The largest magnitude of the spectrum, before the division, is noted in the kernel's measures.
    """
    params = fft_params(address)
    ny, nx = params.side_y, params.side_x
    LOAD_KERNEL(address, work, weights)
    call(params.transform_columns, address, work, 0, 0, work + params.columns, 0, 1, 0)
    separated = PARTS == 1 and params.p > 1  # which doubles the image's numbers and the kernel's
    scale = 1.0 / (nx if params.p == 1 else ny * nx)
    scale = REAL.dtype.type(scale / 4 if separated else scale)
    largest, re = 0.0, work + params.columns
    im = re + nx * BYTES
    for r in range(ny * PARTS // 2 // LANES):
        at = work + params.transposed + r * BYTES
        shared = separated and r == 0
        call(
            params.forward, at, at + params.transposed_plane_bytes, params.transposed_pitch, re, im,
            nx, params.radices_x, params.twiddles_x,
        )  # fmt: skip
        reals = elements(REAL, re, (nx, LANES))
        imaginaries = elements(REAL, im, (nx, LANES))
        target = elements(REAL, spectrum + r * nx * 2 * BYTES, (nx, 2, LANES))
        for c in range(nx):
            for lane in range(LANES):
                target[c, 0, lane] = reals[c, lane] * scale
                target[c, 1, lane] = -imaginaries[c, lane] * scale
            for lane in range(1 if shared else 0, LANES):
                square = np.float64(reals[c, lane]) ** 2 + np.float64(imaginaries[c, lane]) ** 2
                largest = larger(largest, square)
        if shared:
            largest = larger(largest, SHARED_ROW(address, re, im, spectrum, scale))
    kernel_measures(measures).strongest = math.sqrt(largest) / (2 if separated else 1)


def column_spectrum(address, work, weights, spectrum, measures, unused, unused2, unused3):
    """Do what `kernel_spectrum` does for a single column of taps.

    Each number is in all lanes of a vector.
    """
    params = fft_params(address)
    LOAD_KERNEL(address, work, weights)
    ny, largest = params.side_y, 0.0
    re = work + params.columns
    im = re + ny * BYTES
    call(
        params.forward, work, work + params.plane_bytes, params.pitch, re, im, ny, params.radices_y,
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


FUNCTIONS = (_load_kernel, _shared_row)
