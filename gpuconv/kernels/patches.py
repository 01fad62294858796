"""Patches of many-channel images laid out as a matrix, a block of output rows at a time (Numba)."""

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
        target = out[line]
        shift = b * dx - left
        # Outputs j whose pixel j*sx + shift lies inside the image.
        low = min(max(-(shift // sx), 0), s)
        high = min(max((w - 1 - shift) // sx + 1, low), s)
        for i in range(rows):
            y = (i0 + i) * sy + a * dy - top
            row = target[i * s : i * s + s]
            if y < 0 or y >= h:
                row[:] = 0
                continue
            row[:low] = 0
            row[high:] = 0
            n = high - low
            if n <= 0:
                continue
            inside = row[low:high]
            start = low * sx + shift
            if sx == 1:
                source = x[c, y, start : start + n]
                for j in range(n):
                    inside[j] = source[j]
            else:
                source = x[c, y, start : start + (n - 1) * sx + 1]
                for j in range(n):
                    inside[j] = source[j * sx]


gather_parallel = njit(_gather, nogil=True, cache=True, parallel=True)
gather_serial = njit(_gather, nogil=True, cache=True)
