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
def _convert(tag, address, line):
    row = pixels(tag, address, line.shape[0])
    for j in range(line.shape[0]):
        line[j] = widened(tag, row[j])


@_jit
def _load(tag, address, xrow, width, left, rows, columns, fill, pitch, buffer):
    """Padded rows, `pitch` apart: pixels row by row, then what is beside them column by column."""
    n, total = rows.shape[0], columns.shape[0]
    for i in range(n):
        if rows[i] < 0:
            line = buffer[i * pitch : i * pitch + total]
            for j in range(total):
                line[j] = fill
        else:
            at = i * pitch + left
            _convert(tag, address + rows[i] * xrow, buffer[at : at + width])
    for j in range(total):
        if left <= j < left + width:
            continue
        c = columns[j]
        for i in range(n):
            if rows[i] >= 0:
                buffer[i * pitch + j] = fill if c < 0 else buffer[i * pitch + left + c]


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


# Rows that fit beside their padding in this length are laid out at it: with every distance known
# while compiling, two rows are summed in one loop without a remainder.
_PITCH = 64


@_jit
def _tile(out, x, w, zero):
    """Two rows of sums, `_PITCH` apart, of four rows of pixels."""
    a0, a1, a2 = w[0, 0], w[0, 1], w[0, 2]
    b0, b1, b2 = w[1, 0], w[1, 1], w[1, 2]
    c0, c1, c2 = w[2, 0], w[2, 1], w[2, 2]
    for j in range(_PITCH):
        p0, p1, p2 = x[j + _PITCH], x[j + _PITCH + 1], x[j + _PITCH + 2]
        q0, q1, q2 = x[j + 2 * _PITCH], x[j + 2 * _PITCH + 1], x[j + 2 * _PITCH + 2]
        s = zero + a0 * x[j]
        t = zero + a0 * p0
        s += a1 * x[j + 1]
        t += a1 * p1
        s += a2 * x[j + 2]
        t += a2 * p2
        s += b0 * p0
        t += b0 * q0
        s += b1 * p1
        t += b1 * q1
        s += b2 * p2
        t += b2 * q2
        s += c0 * q0
        t += c0 * x[j + 3 * _PITCH]
        s += c1 * q1
        t += c1 * x[j + 3 * _PITCH + 1]
        s += c2 * q2
        t += c2 * x[j + 3 * _PITCH + 2]
        out[j] = s
        out[j + _PITCH] = t


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
        pitch = _PITCH if s + 2 <= _PITCH else s + 2
        buffer = np.empty((n + 3) * pitch + 2, weights.dtype)
        w = weights[which[image]]
        _load(
            xtag, x0 + xoffsets[image], xrow, width, left, rows[i0 : i0 + n + 2],
            columns[: s + 2], fill, pitch, buffer,
        )  # fmt: skip
        target = o0 + ooffsets[image] + i0 * orow
        if s < _NARROW:
            sums = np.empty((n + 1) * pitch, weights.dtype)
            if pitch == _PITCH:
                for i in range(0, n, 2):
                    at = i * _PITCH
                    _tile(sums[at : at + 2 * _PITCH], buffer[at : at + 4 * _PITCH + 2], w, zero)
            else:
                _flat(sums[: n * pitch - 2], buffer, pitch, w, zero)
            for i in range(n):
                line = sums[i * pitch : i * pitch + s]
                _store(otag, pixels(otag, target + i * orow, s), line)
            continue
        lines = buffer[: (n + 2) * pitch].reshape(n + 2, pitch)
        for i in range(0, n - 1, 2):
            out = pixels(otag, target + i * orow, s)
            below = pixels(otag, target + (i + 1) * orow, s)
            _two(otag, out, below, lines[i], lines[i + 1], lines[i + 2], lines[i + 3], w, zero)
        if n % 2:
            out = pixels(otag, target + (n - 1) * orow, s)
            _one(otag, out, lines[n - 1], lines[n], lines[n + 1], w, zero)


three_serial, three_parallel = variants(_three, fastmath={"contract"})
