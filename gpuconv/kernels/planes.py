"""Direct 3x3 correlation of stride 1 (Numba): nine taps in one loop, two output rows at a time.

The most used kernel size, and the one where calls and loads cost more than the arithmetic: a band
of padded rows is laid out once, and every row of it is read from there. Taps are added in the same
order as in `sweep`, so the results have the same bits.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from .memory import narrowed, pixels, widened
from .variants import variants

_jit = njit(nogil=True, cache=True, fastmath={"contract"})


@_jit
def _load(tag, address, width, source, left, columns, fill, line):
    """One padded row: the image's pixels as they are, what is beside them by the border's map."""
    n = line.shape[0]
    if source < 0:
        for j in range(n):
            line[j] = fill
        return
    row = pixels(tag, address, width)
    low = min(left, n)
    high = min(left + width, n)
    inside = line[low:high]
    for j in range(inside.shape[0]):
        inside[j] = widened(tag, row[j])
    for j in range(low):
        c = columns[j]
        line[j] = fill if c < 0 else widened(tag, row[c])
    for j in range(high, n):
        c = columns[j]
        line[j] = fill if c < 0 else widened(tag, row[c])


@_jit
def _one(tag, out, x0, x1, x2, w, zero):
    a0, a1, a2 = w[0, 0], w[0, 1], w[0, 2]
    b0, b1, b2 = w[1, 0], w[1, 1], w[1, 2]
    c0, c1, c2 = w[2, 0], w[2, 1], w[2, 2]
    for j in range(out.shape[0]):
        s = zero + a0 * x0[j]
        s += a1 * x0[j + 1]
        s += a2 * x0[j + 2]
        s += b0 * x1[j]
        s += b1 * x1[j + 1]
        s += b2 * x1[j + 2]
        s += c0 * x2[j]
        s += c1 * x2[j + 1]
        s += c2 * x2[j + 2]
        out[j] = narrowed(tag, s)


@_jit
def _two(tag, out, below, x0, x1, x2, x3, w, zero):
    a0, a1, a2 = w[0, 0], w[0, 1], w[0, 2]
    b0, b1, b2 = w[1, 0], w[1, 1], w[1, 2]
    c0, c1, c2 = w[2, 0], w[2, 1], w[2, 2]
    for j in range(out.shape[0]):
        p0, p1, p2 = x1[j], x1[j + 1], x1[j + 2]
        q0, q1, q2 = x2[j], x2[j + 1], x2[j + 2]
        s = zero + a0 * x0[j]
        t = zero + a0 * p0
        s += a1 * x0[j + 1]
        t += a1 * p1
        s += a2 * x0[j + 2]
        t += a2 * p2
        s += b0 * p0
        t += b0 * q0
        s += b1 * p1
        t += b1 * q1
        s += b2 * p2
        t += b2 * q2
        s += c0 * q0
        t += c0 * x3[j]
        s += c1 * q1
        t += c1 * x3[j + 1]
        s += c2 * q2
        t += c2 * x3[j + 2]
        out[j] = narrowed(tag, s)
        below[j] = narrowed(tag, t)


@_jit
def _flat(out, x, pitch, w, zero):
    """All rows of a narrow band in one run; sums of the two columns past a row mean nothing."""
    n = out.shape[0]
    x0, x1, x2 = x[: n + 2], x[pitch : pitch + n + 2], x[2 * pitch : 2 * pitch + n + 2]
    a0, a1, a2 = w[0, 0], w[0, 1], w[0, 2]
    b0, b1, b2 = w[1, 0], w[1, 1], w[1, 2]
    c0, c1, c2 = w[2, 0], w[2, 1], w[2, 2]
    for j in range(n):
        s = zero + a0 * x0[j]
        s += a1 * x0[j + 1]
        s += a2 * x0[j + 2]
        s += b0 * x1[j]
        s += b1 * x1[j + 1]
        s += b2 * x1[j + 2]
        s += c0 * x2[j]
        s += c1 * x2[j + 1]
        s += c2 * x2[j + 2]
        out[j] = s


@_jit
def _store(tag, out, sums):
    for j in range(out.shape[0]):
        out[j] = narrowed(tag, sums[j])


# Rows narrower than this are summed by `_flat`: their ends would cost as much as their middle.
_NARROW = 384


def _three(
    xtag, x0, xoffsets, xrow, width, left, otag, o0, ooffsets, orow, which, weights, rows, columns,
    fill, zero, size, band,
):  # fmt: skip
    r, s = size
    bands = (r + band - 1) // band
    for task in prange(xoffsets.shape[0] * bands):
        image = task // bands
        i0 = task % bands * band
        n = min(band, r - i0)
        buffer = np.empty((n + 2, s + 2), weights.dtype)
        w = weights[which[image]]
        address = x0 + xoffsets[image]
        for i in range(n + 2):
            source = rows[i0 + i]
            _load(xtag, address + source * xrow, width, source, left, columns, fill, buffer[i])
        target = o0 + ooffsets[image] + i0 * orow
        if s < _NARROW:
            pitch = s + 2
            sums = np.empty(n * pitch - 2, weights.dtype)
            _flat(sums, buffer.reshape(-1), pitch, w, zero)
            for i in range(n):
                line = sums[i * pitch : i * pitch + s]
                _store(otag, pixels(otag, target + i * orow, s), line)
            continue
        for i in range(0, n - 1, 2):
            out = pixels(otag, target + i * orow, s)
            below = pixels(otag, target + (i + 1) * orow, s)
            _two(otag, out, below, buffer[i], buffer[i + 1], buffer[i + 2], buffer[i + 3], w, zero)
        if n % 2:
            out = pixels(otag, target + (n - 1) * orow, s)
            _one(otag, out, buffer[n - 1], buffer[n], buffer[n + 1], w, zero)


three_serial, three_parallel = variants(_three, fastmath={"contract"})
