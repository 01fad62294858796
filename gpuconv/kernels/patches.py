"""Patches of many-channel images as a matrix, a block of output rows at a time, and back (Numba).

Images come padded: without a border to look out for, a patch's row is a plain copy.
"""

from __future__ import annotations

from numba import prange

from .variants import variants


def _gather(x, i0, rows, s, taps, stride, dilation, out):
    """Fill ``out[(c, a, b), (i, j)]`` with the pixels outputs of rows i0.. meet at each tap.

    x is (channels, h, w) with its padding; out is (channels * p * q, rows * s).
    """
    p, q = taps
    sy, sx = stride
    dy, dx = dilation
    for line in prange(x.shape[0] * p * q):
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


def _scatter(values, i0, rows, s, taps, stride, dilation, x):
    """Add ``values[(c, a, b), (i, j)]`` to the pixels `_gather` would have read them from."""
    p, q = taps
    sy, sx = stride
    dy, dx = dilation
    for c in prange(x.shape[0]):
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


gather_serial, gather_parallel = variants(_gather)
scatter_serial, scatter_parallel = variants(_scatter)
