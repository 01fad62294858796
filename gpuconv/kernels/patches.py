"""Patches of many-channel images as a matrix, a block of output rows at a time, and back (Numba)."""

from __future__ import annotations

from numba import njit, prange


def _gather(x, i0, rows, s, taps, stride, dilation, corner, out):
    """Fill ``out[(c, a, b), (i, j)]`` with the pixels outputs of rows i0.. meet at each tap.

    x is (channels, h, w); out is (channels * p * q, rows * s); zero outside the image.
    """
    p, q = taps
    sy, sx = stride
    dy, dx = dilation
    top, left = corner
    channels, h, w = x.shape
    for line in prange(channels * p * q):
        c, a, b = line // (p * q), line // q % p, line % q
        plane = x[c]
        target = out[line]
        shift = b * dx - left
        # Outputs j whose pixel j*sx + shift lies inside the image.
        low = min(max(-(shift // sx), 0), s)
        high = min(max((w - 1 - shift) // sx + 1, low), s)
        n = high - low
        start = low * sx + shift
        for i in range(rows):
            y = (i0 + i) * sy + a * dy - top
            row = target[i * s : i * s + s]
            if y < 0 or y >= h or n <= 0:
                for j in range(s):
                    row[j] = 0
                continue
            for j in range(low):
                row[j] = 0
            for j in range(high, s):
                row[j] = 0
            inside = row[low:high]
            if sx == 1:
                source = plane[y, start : start + n]
                for j in range(n):
                    inside[j] = source[j]
            elif sx == 2:
                source = plane[y, start : start + 2 * n - 1]
                for j in range(n):
                    inside[j] = source[2 * j]
            else:
                source = plane[y, start : start + (n - 1) * sx + 1]
                for j in range(n):
                    inside[j] = source[j * sx]


def _scatter(values, i0, rows, s, taps, stride, dilation, corner, x):
    """Add ``values[(c, a, b), (i, j)]`` to the pixels `_gather` would have read them from."""
    p, q = taps
    sy, sx = stride
    dy, dx = dilation
    top, left = corner
    channels, h, w = x.shape
    for c in prange(channels):
        plane = x[c]
        for tap in range(p * q):
            a, b = tap // q, tap % q
            source = values[c * p * q + tap]
            shift = b * dx - left
            low = min(max(-(shift // sx), 0), s)
            high = min(max((w - 1 - shift) // sx + 1, low), s)
            n = high - low
            if n <= 0:
                continue
            start = low * sx + shift
            for i in range(rows):
                y = (i0 + i) * sy + a * dy - top
                if y < 0 or y >= h:
                    continue
                given = source[i * s + low : i * s + high]
                row = plane[y, start : start + (n - 1) * sx + 1]
                if sx == 1:
                    for j in range(n):
                        row[j] += given[j]
                else:
                    for j in range(n):
                        row[j * sx] += given[j]


gather_parallel = njit(_gather, nogil=True, cache=True, parallel=True)
gather_serial = njit(_gather, nogil=True, cache=True)
scatter_parallel = njit(_scatter, nogil=True, cache=True, parallel=True)
scatter_serial = njit(_scatter, nogil=True, cache=True)
