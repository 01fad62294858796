"""Direct and separable sweeps over an image (Numba): the loops around `rows` and `memory`.

The output is cut into tasks: one image, a band of rows, a strip of columns. A task keeps the
converted, padded input rows it needs in a small ring, so the image itself is never copied and the
border is nothing but an index map applied while a row is read. With a column stride of s, a row is
stored as its s phases one after the other, which makes every tap a contiguous run again.
"""

from __future__ import annotations

from numba import carray, njit, prange

from .conversion import load_mapped, load_run, store_run
from .drivers import variants
from .functions import allocate, pointer, release
from .rows import add_column, add_column_mirrored, add_row, add_row_mirrored, add_row_twice


@njit(nogil=True)
def _load_row(tag, address, strides, y, rows, columns, column0, stride, fill, line):
    """Read padded row `y` from padded column `column0` on into `line` (phase after phase)."""
    source = rows[y]
    if source < 0:
        line[:] = fill
        return
    start = address + source * strides[0]
    length = line.shape[0]
    if stride > 1:
        phase = length // stride
        for f in range(stride):
            last = min(columns.shape[0], column0 + phase * stride)
            some = columns[column0 + f : last : stride]
            load_mapped(
                tag, start, strides[1], some, fill, line[f * phase : f * phase + some.shape[0]]
            )
        return
    some = columns[column0 : min(columns.shape[0], column0 + length)]
    length = some.shape[0]
    # Columns inside the image stand in one ascending run; only what is left of and right of that
    # run goes through the map.
    low = 0
    high = length
    left, width = strides[2], strides[3]
    low = min(max(left - column0, 0), length)
    high = max(min(left + width - column0, length), low)
    load_mapped(tag, start, strides[1], some[:low], fill, line[:low])
    if high > low:
        load_run(tag, start + some[low] * strides[1], strides[1], line[low:high])
    load_mapped(tag, start, strides[1], some[high:], fill, line[high:length])


def _direct(
    xtag,
    x0,
    xoffsets,
    xstrides,
    otag,
    o0,
    ooffsets,
    ostrides,
    which,
    weights,
    offsets,
    rows,
    columns,
    fill,
    size,
    stride,
    dilation,
    band,
    strip,
    line_length,
    failed,
    first,
    last,
):
    r, s = size
    sy, sx = stride
    dy = dilation
    p = weights.shape[1]
    bands, strips = (r + band - 1) // band, (s + strip - 1) // strip
    paired = sy == 1 and dy == 1
    slots = (p - 1) * dy + 1 + (1 if paired else 0)
    for number in prange(last - first):
        task = first + number
        image = task // (bands * strips)
        i0 = task // strips % bands * band
        j0 = task % strips * strip
        i1, n = min(r, i0 + band), min(s - j0, strip)
        size_of_ring = slots * line_length * weights.itemsize
        memory = allocate(size_of_ring + 2 * n * weights.itemsize)
        if memory == 0:
            failed[0] += 1  # threads may lose some of them, not all
            i1 = i0
        ring = carray(pointer(memory), (slots, line_length), weights.dtype)
        sums = carray(pointer(memory + size_of_ring), (2, n), weights.dtype)
        w = weights[which[image]]
        address = x0 + xoffsets[image]
        target = o0 + ooffsets[image] + j0 * ostrides[1]
        loaded = i0 * sy
        i = i0
        while i < i1:
            two = paired and i + 1 < i1
            need = i * sy + (p - 1) * dy + (2 if two else 1)
            loaded = max(loaded, i * sy)
            while loaded < need:
                _load_row(
                    xtag,
                    address,
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
            a, b = sums[0], sums[1]
            a[:] = 0
            if two:
                b[:] = 0
                add_row(a, ring[i % slots], w[0], offsets)
                for t in range(1, p):
                    add_row_twice(a, b, ring[(i + t) % slots], w[t], w[t - 1], offsets)
                add_row(b, ring[(i + p) % slots], w[p - 1], offsets)
                store_run(otag, target + i * ostrides[0], ostrides[1], a)
                store_run(otag, target + (i + 1) * ostrides[0], ostrides[1], b)
                i += 2
            else:
                for t in range(p):
                    add_row(a, ring[(i * sy + t * dy) % slots], w[t], offsets)
                store_run(otag, target + i * ostrides[0], ostrides[1], a)
                i += 1
        release(memory)


def _separable(
    xtag,
    x0,
    xoffsets,
    xstrides,
    otag,
    o0,
    ooffsets,
    ostrides,
    which,
    vertical,
    horizontal,
    mirrored,
    offsets,
    rows,
    columns,
    fill,
    size,
    stride,
    dilation,
    band,
    strip,
    line_length,
    failed,
    first,
    last,
):
    r, s = size
    sy, sx = stride
    dy = dilation
    rank, p = vertical.shape[1], vertical.shape[2]
    down, across = mirrored
    bands, strips = (r + band - 1) // band, (s + strip - 1) // strip
    slots = (p - 1) * dy + 1
    for number in prange(last - first):
        task = first + number
        image = task // (bands * strips)
        i0 = task // strips % bands * band
        j0 = task % strips * strip
        i1, n = min(r, i0 + band), min(s - j0, strip)
        size_of_ring = slots * line_length * vertical.itemsize
        size_of_line = line_length * vertical.itemsize
        memory = allocate(size_of_ring + 3 * size_of_line + 3 * n * vertical.itemsize)
        if memory == 0:
            failed[0] += 1  # threads may lose some of them, not all
            i1 = i0
        ring = carray(pointer(memory), (slots, line_length), vertical.dtype)
        lines = carray(pointer(memory + size_of_ring), (3, line_length), vertical.dtype)
        sums = carray(pointer(memory + size_of_ring + 3 * size_of_line), (3, n), vertical.dtype)
        u, v = vertical[which[image]], horizontal[which[image]]
        address = x0 + xoffsets[image]
        target = o0 + ooffsets[image] + j0 * ostrides[1]
        loaded = i0 * sy
        for i in range(i0, i1):
            loaded = max(loaded, i * sy)
            while loaded < i * sy + slots:
                _load_row(
                    xtag,
                    address,
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
            sums[0, :] = 0
            for t in range(rank):
                line = lines[0]
                if p == 1 and u[t, 0] == 1:
                    line = ring[i * sy % slots]
                elif down:
                    line[:] = 0
                    add_column_mirrored(line, lines[1:], ring, i * sy, dy, u[t])
                else:
                    line[:] = 0
                    add_column(line, ring, i * sy, dy, u[t])
                if across:
                    add_row_mirrored(sums[0], sums[1:], line, v[t], offsets)
                else:
                    add_row(sums[0], line, v[t], offsets)
            store_run(otag, target + i * ostrides[0], ostrides[1], sums[0])
        release(memory)


direct_serial, direct_parallel = variants(_direct)
separable_serial, separable_parallel = variants(_separable)
