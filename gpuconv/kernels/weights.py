"""Gradient with respect to the kernel (Numba): one dot product of two images for every tap.

The work is cut into tasks by the problem alone, never by the number of threads; every task leaves
its sums in wide precision in a place of its own, and those are added in order afterwards. So the
result has the same bits for any number of threads. Within a row a dot product may be summed in as
many parts as the vectors are wide (`reassoc`), which is fixed once the code is compiled.
"""

from __future__ import annotations

from numba import carray, njit, prange

from .memory import load_run
from .pieces import allocate, pointer, release
from .rows import _run
from .sweep import _load_row
from .variants import variants

_jit = njit(nogil=True, fastmath={"contract", "reassoc"})


@_jit
def _dot1(total, x, y):
    s = total[0] * 0
    for j in range(y.shape[0]):
        s += x[j] * y[j]
    total[0] += s


@_jit
def _dot4(total, x, y):
    s0 = s1 = s2 = s3 = y[0] * 0
    for j in range(y.shape[0]):
        v = y[j]
        s0 += x[j] * v
        s1 += x[j + 1] * v
        s2 += x[j + 2] * v
        s3 += x[j + 3] * v
    total[0] += s0
    total[1] += s1
    total[2] += s2
    total[3] += s3


@_jit
def _dot8(total, x, y):
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = y[0] * 0
    for j in range(y.shape[0]):
        v = y[j]
        s0 += x[j] * v
        s1 += x[j + 1] * v
        s2 += x[j + 2] * v
        s3 += x[j + 3] * v
        s4 += x[j + 4] * v
        s5 += x[j + 5] * v
        s6 += x[j + 6] * v
        s7 += x[j + 7] * v
    total[0] += s0
    total[1] += s1
    total[2] += s2
    total[3] += s3
    total[4] += s4
    total[5] += s5
    total[6] += s6
    total[7] += s7


@_jit
def _dots(total, x, y, offsets):
    """Add to `total` the dot products ``sum_j x[offsets[b] + j] * y[j]`` of one kernel row."""
    n = y.shape[0]
    b = 0
    while b < total.shape[0]:
        run = _run(offsets, b, 8)
        o = offsets[b]
        if run == 8:
            _dot8(total[b : b + 8], x[o : o + n + 7], y)
        elif run >= 4:
            run = 4
            _dot4(total[b : b + 4], x[o : o + n + 3], y)
        else:
            run = 1
            _dot1(total[b : b + 1], x[o : o + n], y)
        b += run


def _gradient(
    xtag,
    x0,
    xoffsets,
    xstrides,
    ytag,
    y0,
    yoffsets,
    ystrides,
    units,
    begins,
    ends,
    partial,
    like,
    offsets,
    rows,
    columns,
    fill,
    size,
    stride,
    dilation,
    strip,
    line_length,
    failed,
):
    s = size[1]
    sy, sx = stride
    dy = dilation
    p = partial.shape[1]
    slots = (p - 1) * dy + 1
    for task in prange(begins.shape[0]):
        total = partial[task]
        end = ends[task]
        size_of_ring = slots * line_length * like.itemsize
        memory = allocate(size_of_ring + strip * like.itemsize)
        if memory == 0:
            failed[0] = 1
            end = begins[task]
        ring = carray(pointer(memory), (slots, line_length), like.dtype)
        line = carray(pointer(memory + size_of_ring), (strip,), like.dtype)
        for unit in range(begins[task], end):
            image = units[unit, 0]
            i0 = units[unit, 1]
            i1 = units[unit, 2]
            for j0 in range(0, s, strip):
                n = min(s - j0, strip)
                y = line[:n]
                loaded = i0 * sy
                for i in range(i0, i1):
                    loaded = max(loaded, i * sy)
                    while loaded < i * sy + slots:
                        _load_row(
                            xtag,
                            x0 + xoffsets[image],
                            xstrides,
                            loaded,
                            rows,
                            columns,
                            j0 * sx,
                            sx,
                            fill,
                            ring[loaded % slots],
                        )
                        loaded += 1
                    address = y0 + yoffsets[image] + i * ystrides[0] + j0 * ystrides[1]
                    load_run(ytag, address, ystrides[1], y)
                    for a in range(p):
                        _dots(total[a], ring[(i * sy + a * dy) % slots], y, offsets)
        release(memory)


gradient_serial, gradient_parallel = variants(_gradient)
