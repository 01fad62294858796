"""Patches of many-channel images as a matrix, a block of output rows at a time, and back (Numba).

Images come padded: without a border to look out for, a patch's row is a plain copy. Lines are
shared out by the caller's threads: threads of Numba's own would spin beside those of BLAS.
"""

from __future__ import annotations

from numba import njit

from .drivers import Compiled
from .functions import on_disk


@Compiled
@on_disk(njit, nogil=True)
def gather(first, last, x, i0, rows, s, taps, stride, dilation, out):
    """Lay out the patches of channels first to last.

    ``out[(c, a, b), (i, j)]`` is the pixel that output (i0 + i, j) meets at tap (a, b); x is
    (channels, h, w) with its padding, out (channels * p * q, rows * s).
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
def scatter(first, last, values, i0, rows, s, taps, stride, dilation, x):
    """Add ``values[(c, a, b), (i, j)]`` to the pixels `gather` would have read them from."""
    p, q = taps
    sy, sx = stride
    dy, dx = dilation
    for c in range(first, last):
        plane = x[c]
        for tap in range(p * q):
            a, b = tap // q, tap % q
            source = values[c * p * q + tap]
            for i in range(rows):
                given = source[i * s : i * s + s]
                row = plane[(i0 + i) * sy + a * dy][b * dx : b * dx + (s - 1) * sx + 1]
                if sx == 1:
                    for j in range(given.shape[0]):
                        row[j] += given[j]
                elif sx == 2:
                    for j in range(given.shape[0]):
                        row[2 * j] += given[j]
                else:
                    for j in range(given.shape[0]):
                        row[j * sx] += given[j]
