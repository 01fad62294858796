"""Pixels under a layer's taps as a matrix, for a block of output rows, and back (Numba).

Images come padded, so that rows of the matrix are plain copies of rows of the image. The caller
divides the channels among threads: Numba's own threads would spin between calls and slow down the
threads of BLAS.
"""

from __future__ import annotations

from numba import njit

from .drivers import Compiled
from .kept_code import on_disk


@Compiled
@on_disk(njit, nogil=True)
def im2col(first, last, x, i0, rows, s, taps, stride, dilation, out):
    """Fill the rows of `out` that belong to the channels ``first`` to ``last - 1``.

    ``out[(c, a, b), (i, j)]`` is the pixel that output (i0 + i, j) meets at tap (a, b); `x` is
    (channels, h, w) with its padding, `out` (channels * p * q, rows * s).
    """
    p, q = taps
    sy, sx = stride
    dy, dx = dilation
    for line in range(first * p * q, last * p * q):
        c, a, b = line // (p * q), line // q % p, line % q
        plane, target = x[c], out[line]
        for i in range(rows):
            row = target[i * s : i * s + s]
            source = plane[(i0 + i) * sy + a * dy][b * dx : b * dx + (s - 1) * sx + 1]
            if sx == 1:
                for j in range(row.shape[0]):
                    row[j] = source[j]
            elif sx == 2:
                for j in range(row.shape[0]):
                    row[j] = source[2 * j]
            else:
                for j in range(row.shape[0]):
                    row[j] = source[j * sx]


@Compiled
@on_disk(njit, nogil=True)
def col2im(first, last, matrix, i0, rows, s, taps, stride, dilation, x):
    """Add ``matrix[(c, a, b), (i, j)]`` to the pixel that `im2col` copies there."""
    p, q = taps
    sy, sx = stride
    dy, dx = dilation
    for c in range(first, last):
        plane = x[c]
        for tap in range(p * q):
            a, b = tap // q, tap % q
            line = matrix[c * p * q + tap]
            for i in range(rows):
                source = line[i * s : i * s + s]
                row = plane[(i0 + i) * sy + a * dy][b * dx : b * dx + (s - 1) * sx + 1]
                if sx == 1:
                    for j in range(source.shape[0]):
                        row[j] += source[j]
                elif sx == 2:
                    for j in range(source.shape[0]):
                        row[2 * j] += source[j]
                else:
                    for j in range(source.shape[0]):
                        row[j * sx] += source[j]
