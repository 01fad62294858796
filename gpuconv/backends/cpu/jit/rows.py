"""Sums over taps along one row: the inner loops of the CPU backend (Numba).

Every output's sum starts at 0 and takes its taps in one fixed order, with one fused multiply-add
a tap, whatever else happens around it. That is why results do not depend on threads, tiles or
crops. `contract` permits the fused operation and nothing else (no reordering).

To see the vector code: ``python -c "from gpuconv.kernels import rows; …"`` then
``rows._two8.inspect_asm()`` should show vfmadd on ymm or zmm registers. LLVM vectorises these
loops only because the slices start at 0 before the loop, which shows it that no index is negative.
"""

from __future__ import annotations

from numba import njit

_jit = njit(nogil=True, fastmath={"contract"})


@_jit
def _one1(acc, x, w):
    w0 = w[0]
    for j in range(acc.shape[0]):
        acc[j] += w0 * x[j]


@_jit
def _one2(acc, x, w):
    w0, w1 = w[0], w[1]
    for j in range(acc.shape[0]):
        s = acc[j]
        s += w0 * x[j]
        s += w1 * x[j + 1]
        acc[j] = s


@_jit
def _one3(acc, x, w):
    w0, w1, w2 = w[0], w[1], w[2]
    for j in range(acc.shape[0]):
        s = acc[j]
        s += w0 * x[j]
        s += w1 * x[j + 1]
        s += w2 * x[j + 2]
        acc[j] = s


@_jit
def _one5(acc, x, w):
    w0, w1, w2, w3, w4 = w[0], w[1], w[2], w[3], w[4]
    for j in range(acc.shape[0]):
        s = acc[j]
        s += w0 * x[j]
        s += w1 * x[j + 1]
        s += w2 * x[j + 2]
        s += w3 * x[j + 3]
        s += w4 * x[j + 4]
        acc[j] = s


@_jit
def _one8(acc, x, w):
    w0, w1, w2, w3, w4, w5, w6, w7 = w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]
    for j in range(acc.shape[0]):
        s = acc[j]
        s += w0 * x[j]
        s += w1 * x[j + 1]
        s += w2 * x[j + 2]
        s += w3 * x[j + 3]
        s += w4 * x[j + 4]
        s += w5 * x[j + 5]
        s += w6 * x[j + 6]
        s += w7 * x[j + 7]
        acc[j] = s


@_jit
def _two1(acc, bcc, x, w, v):
    w0, v0 = w[0], v[0]
    for j in range(acc.shape[0]):
        acc[j] += w0 * x[j]
        bcc[j] += v0 * x[j]


@_jit
def _two2(acc, bcc, x, w, v):
    w0, w1 = w[0], w[1]
    v0, v1 = v[0], v[1]
    for j in range(acc.shape[0]):
        s, t = acc[j], bcc[j]
        s += w0 * x[j]
        t += v0 * x[j]
        s += w1 * x[j + 1]
        t += v1 * x[j + 1]
        acc[j] = s
        bcc[j] = t


@_jit
def _two3(acc, bcc, x, w, v):
    w0, w1, w2 = w[0], w[1], w[2]
    v0, v1, v2 = v[0], v[1], v[2]
    for j in range(acc.shape[0]):
        s, t = acc[j], bcc[j]
        s += w0 * x[j]
        t += v0 * x[j]
        s += w1 * x[j + 1]
        t += v1 * x[j + 1]
        s += w2 * x[j + 2]
        t += v2 * x[j + 2]
        acc[j] = s
        bcc[j] = t


@_jit
def _two5(acc, bcc, x, w, v):
    w0, w1, w2, w3, w4 = w[0], w[1], w[2], w[3], w[4]
    v0, v1, v2, v3, v4 = v[0], v[1], v[2], v[3], v[4]
    for j in range(acc.shape[0]):
        s, t = acc[j], bcc[j]
        s += w0 * x[j]
        t += v0 * x[j]
        s += w1 * x[j + 1]
        t += v1 * x[j + 1]
        s += w2 * x[j + 2]
        t += v2 * x[j + 2]
        s += w3 * x[j + 3]
        t += v3 * x[j + 3]
        s += w4 * x[j + 4]
        t += v4 * x[j + 4]
        acc[j] = s
        bcc[j] = t


@_jit
def _two8(acc, bcc, x, w, v):
    w0, w1, w2, w3, w4, w5, w6, w7 = w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]
    v0, v1, v2, v3, v4, v5, v6, v7 = v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]
    for j in range(acc.shape[0]):
        s, t = acc[j], bcc[j]
        s += w0 * x[j]
        t += v0 * x[j]
        s += w1 * x[j + 1]
        t += v1 * x[j + 1]
        s += w2 * x[j + 2]
        t += v2 * x[j + 2]
        s += w3 * x[j + 3]
        t += v3 * x[j + 3]
        s += w4 * x[j + 4]
        t += v4 * x[j + 4]
        s += w5 * x[j + 5]
        t += v5 * x[j + 5]
        s += w6 * x[j + 6]
        t += v6 * x[j + 6]
        s += w7 * x[j + 7]
        t += v7 * x[j + 7]
        acc[j] = s
        bcc[j] = t


@_jit
def _run(offsets, b, most):
    """How many taps from `b` on read neighbouring elements (at most `most`)."""
    run = 1
    while run < most and b + run < offsets.shape[0] and offsets[b + run] == offsets[b] + run:
        run += 1
    return run


@_jit
def add_row(acc, x, w, offsets):
    """Add the taps `w` of one kernel row: ``acc[j] += sum_b w[b] * x[offsets[b] + j]``."""
    n = acc.shape[0]
    b = 0
    while b < w.shape[0]:
        run = _run(offsets, b, 8)
        o = offsets[b]
        if run == 8:
            _one8(acc, x[o : o + n + 7], w[b : b + 8])
        elif run >= 5:
            run = 5
            _one5(acc, x[o : o + n + 4], w[b : b + 5])
        elif run >= 3:
            run = 3
            _one3(acc, x[o : o + n + 2], w[b : b + 3])
        elif run == 2:
            _one2(acc, x[o : o + n + 1], w[b : b + 2])
        else:
            _one1(acc, x[o : o + n], w[b : b + 1])
        b += run


@_jit
def add_row_twice(acc, bcc, x, w, v, offsets):
    """`add_row` for two output rows that read the same input row: each load serves both."""
    n = acc.shape[0]
    b = 0
    while b < w.shape[0]:
        run = _run(offsets, b, 8)
        o = offsets[b]
        if run == 8:
            _two8(acc, bcc, x[o : o + n + 7], w[b : b + 8], v[b : b + 8])
        elif run >= 5:
            run = 5
            _two5(acc, bcc, x[o : o + n + 4], w[b : b + 5], v[b : b + 5])
        elif run >= 3:
            run = 3
            _two3(acc, bcc, x[o : o + n + 2], w[b : b + 3], v[b : b + 3])
        elif run == 2:
            _two2(acc, bcc, x[o : o + n + 1], w[b : b + 2], v[b : b + 2])
        else:
            _two1(acc, bcc, x[o : o + n], w[b : b + 1], v[b : b + 1])
        b += run


@_jit
def _four(acc, x0, x1, x2, x3, w0, w1, w2, w3):
    for j in range(acc.shape[0]):
        s = acc[j]
        s += w0 * x0[j]
        s += w1 * x1[j]
        s += w2 * x2[j]
        s += w3 * x3[j]
        acc[j] = s


@_jit
def add_column(acc, ring, first, step, w):
    """Add a column of taps: ``acc += sum_a w[a] * ring[(first + a*step) % len(ring)]``."""
    n, slots = acc.shape[0], ring.shape[0]
    a = 0
    while a + 4 <= w.shape[0]:
        y = first + a * step
        _four(
            acc,
            ring[y % slots][:n],
            ring[(y + step) % slots][:n],
            ring[(y + 2 * step) % slots][:n],
            ring[(y + 3 * step) % slots][:n],
            w[a],
            w[a + 1],
            w[a + 2],
            w[a + 3],
        )
        a += 4
    while a < w.shape[0]:
        _one1(acc, ring[(first + a * step) % slots][:n], w[a : a + 1])
        a += 1


@_jit
def _add_apart(acc, x, w, offsets):
    """`add_row` for taps that are in no order in memory."""
    n = acc.shape[0]
    b = 0
    while b + 4 <= w.shape[0]:
        _four(
            acc,
            x[offsets[b] :][:n],
            x[offsets[b + 1] :][:n],
            x[offsets[b + 2] :][:n],
            x[offsets[b + 3] :][:n],
            w[b],
            w[b + 1],
            w[b + 2],
            w[b + 3],
        )
        b += 4
    while b < w.shape[0]:
        _one1(acc, x[offsets[b] :][:n], w[b : b + 1])
        b += 1


@_jit
def _add_both(acc, a, b):
    for j in range(acc.shape[0]):
        acc[j] += a[j] + b[j]


# The two below take `w` (and offsets) in mirrored order: the first half, the last half backwards,
# and a middle tap if there is one. `chains` is memory for two sums.


@_jit
def add_row_mirrored(acc, chains, x, w, offsets):
    """`add_row` in mirrored order (see `taps`)."""
    half = w.shape[0] // 2
    chains[:] = 0
    add_row(chains[0], x, w[:half], offsets[:half])
    _add_apart(chains[1], x, w[half : 2 * half], offsets[half : 2 * half])
    _add_both(acc, chains[0], chains[1])
    add_row(acc, x, w[2 * half :], offsets[2 * half :])


@_jit
def add_column_mirrored(acc, chains, ring, first, step, w):
    """`add_column` in mirrored order."""
    half = w.shape[0] // 2
    last = first + (w.shape[0] - 1) * step
    chains[:] = 0
    add_column(chains[0], ring, first, step, w[:half])
    add_column(chains[1], ring, last, -step, w[half : 2 * half])
    _add_both(acc, chains[0], chains[1])
    add_column(acc, ring, first + half * step, step, w[2 * half :])
