"""Pieces that read a padded row of pixels into sums' dtype, and write rows of sums (Numba)."""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import carray

from .conversion import load_run, make_tag, parts, pixel, pixels, split_run, store_run
from .functions import compile_function, peek, pointer, reader
from .params import FILL, ROW_SOURCE
from .vectors import copy_bytes, prefetch

row_source = reader(ROW_SOURCE)

# Rows are asked for this many rows before they are read.
_AHEAD = 4

# Bound anew in every piece.
TAG = ACC = PLAIN = None
REAL = PART = None  # dtypes of real and imaginary parts: of the sums, of the output


def _load(source_params, x, y0, y1, first, n, ring, line):
    """Read `n` columns from column `first` on of rows `y0` to `y1`, all counted with the padding.

    Row y goes to place ``y % slots`` of the ring, places being `line` pixels apart. With a column
    stride the row is laid out phase after phase, each as long as `line` divided by the stride.
    """
    fill = carray(pointer(source_params + FILL), (1,), ACC.dtype)[0]
    source = row_source(source_params)
    rows, slots, x_row = source.rows, source.slots, source.row_stride
    step, stride, total = source.column_stride, source.step, source.column_count
    columns = source.columns
    last = min(total, first + n)
    # Columns inside the image stand in one ascending run; only what is left of and right of that
    # run goes through the map.
    left, length = source.left, last - first
    low = min(max(left - first, 0), length)
    high = max(min(left + source.width - first, length), low)
    inside = peek(columns, first + low) * step if high > low else 0
    # Short pieces of long rows are nothing that a processor foresees.
    run = (high - low) * TAG.itemsize
    scattered = step == TAG.itemsize and abs(x_row) > 2 * run
    slot = y0 % slots
    for y in range(y0, y1):
        start = ring + slot * line * ACC.itemsize
        slot = slot + 1 if slot + 1 < slots else 0
        target = carray(pointer(start), (line,), ACC.dtype)
        row = peek(rows, y)
        if row < 0:
            target[:] = fill
            continue
        start_of_row = x + row * x_row
        if stride > 1:
            phase = line // stride
            for f in range(stride):
                for j in range((last - first - f + stride - 1) // stride):
                    c = peek(columns, first + f + j * stride)
                    # Not one expression: Numba would give uint64 and int64 the type float64.
                    if c >= 0:
                        target[f * phase + j] = pixel(TAG, start_of_row + c * step)
                    else:
                        target[f * phase + j] = fill
            continue
        if scattered and y + _AHEAD < y1:
            ahead = peek(rows, y + _AHEAD)
            if ahead >= 0:
                prefetch(x + ahead * x_row + inside, run)
        for j in range(low):
            c = peek(columns, first + j)
            if c >= 0:
                target[j] = pixel(TAG, start_of_row + c * step)
            else:
                target[j] = fill
        if PLAIN and step == ACC.itemsize and (high - low) * step >= 64:
            copy_bytes(start_of_row + inside, start + low * step, (high - low) * step)
        elif step == TAG.itemsize and high - low > 8:
            load_run(TAG, start_of_row + inside, step, target[low:high])
        else:
            for j in range(low, high):
                target[j] = pixel(TAG, start_of_row + inside + (j - low) * step)
        for j in range(high, length):
            c = peek(columns, first + j)
            if c >= 0:
                target[j] = pixel(TAG, start_of_row + c * step)
            else:
                target[j] = fill


def _load_transposed(source_params, x, y0, y1, first, n, target, gap):
    """Read the same pixels as columns: padded column `first` + e to line e, `gap` bytes apart."""
    fill = carray(pointer(source_params + FILL), (1,), ACC.dtype)[0]
    source = row_source(source_params)
    rows, columns = source.rows, source.columns
    step, x_row = source.column_stride, source.row_stride
    for y in range(y0, y1):
        row = peek(rows, y)
        place = target + (y - y0) * ACC.itemsize
        for e in range(n):
            c = peek(columns, first + e)
            line = pixels(ACC, place + e * gap, 1)
            if row >= 0 <= c:
                line[0] = pixel(TAG, x + row * x_row + c * step)
            else:
                line[0] = fill


def _store(sums, n, out, step, count, gap, out_gap, unused):
    """Write `count` rows of `n` sums, `gap` bytes apart, to rows `out_gap` bytes apart."""
    for row in range(count):
        line = carray(pointer(sums + row * gap), (n,), ACC.dtype)
        store_run(TAG, out + row * out_gap, step, line)


def _store_exact(sums, n, out, step, count, gap, out_gap, unused):
    """Write rows of sums that are integers within the output's range."""
    kind = TAG.dtype.type
    for row in range(count):
        line = carray(pointer(sums + row * gap), (n,), ACC.dtype)
        start = out + row * out_gap
        if step == TAG.itemsize:
            target = pixels(TAG, start, n)
            for j in range(n):
                target[j] = kind(line[j])
        else:
            for j in range(n):
                pixels(TAG, start + j * step, 1)[0] = kind(line[j])


def _load_complex(source_params, x, y0, y1, first, n, ring, line):
    """Read rows as `_load` does, real and imaginary parts into rows of their own.

    Imaginary parts are written ``source.imaginary`` bytes behind real ones: zeros, where pixels are
    real.
    """
    fill = carray(pointer(source_params + FILL), (2,), REAL.dtype)
    source = row_source(source_params)
    columns, step, stride = source.columns, source.column_stride, source.step
    last = min(source.column_count, first + n)
    length, phase = last - first, line // stride
    # Columns inside the image are one ascending run of the map.
    low = min(max(source.left - first, 0), length)
    high = max(min(source.left + source.width - first, length), low)
    inside = peek(columns, first + low) * step if high > low else 0
    run = high if stride == 1 and step == TAG.itemsize else low
    slot = y0 % source.slots
    for y in range(y0, y1):
        start = ring + slot * line * REAL.itemsize
        slot = slot + 1 if slot + 1 < source.slots else 0
        real = carray(pointer(start), (line,), REAL.dtype)
        imaginary = carray(pointer(start + source.imaginary), (line,), REAL.dtype)
        row = peek(source.rows, y)
        if row < 0:
            real[:] = fill[0]
            imaginary[:] = fill[1]
            continue
        start_of_row = x + row * source.row_stride
        j = 0
        while j < length:
            if j == low and run > low:
                split_run(TAG, start_of_row + inside, real[low:run], imaginary[low:run])
                j = run
                continue
            c, place = peek(columns, first + j), j % stride * phase + j // stride
            real[place], imaginary[place] = fill[0], fill[1]
            if c >= 0:
                real[place], imaginary[place] = parts(TAG, start_of_row + c * step)
            j += 1


def _store_complex(sums, n, out, step, count, gap, out_gap, imaginary):
    """Write rows of sums as `_store` does, whose imaginary parts are `imaginary` bytes behind."""
    for row in range(count):
        real_line = carray(pointer(sums + row * gap), (n,), REAL.dtype)
        imaginary_line = carray(pointer(sums + imaginary + row * gap), (n,), REAL.dtype)
        for j in range(n):
            target = pixels(PART, out + row * out_gap + j * step, 2)
            target[0], target[1] = real_line[j], imaginary_line[j]


@cache
def load(source: str, acc: str) -> int:
    """Address of the piece that reads this dtype.

    With complex sums that is `_load_complex`.
    """
    real = np.dtype(acc).type(0).real.dtype.name
    if real != acc:
        name = f"load_complex_{source}_{acc}"
        return compile_function(_load_complex, name, TAG=make_tag(source), REAL=make_tag(real))
    return compile_function(
        _load, f"load_{source}_{acc}", TAG=make_tag(source), ACC=make_tag(acc), PLAIN=source == acc
    )


@cache
def load_transposed(source: str, acc: str) -> int:
    """Address of the piece that reads this dtype column by column."""
    name = f"load_transposed_{source}_{acc}"
    return compile_function(_load_transposed, name, TAG=make_tag(source), ACC=make_tag(acc))


@cache
def store(acc: str, out: str, exact: bool) -> int:
    """Address of the piece that writes this dtype; `exact` if the sums are integers that fit."""
    real = np.dtype(acc).type(0).real.dtype.name
    if real != acc:
        part = make_tag(np.dtype(out).type(0).real.dtype.name)
        return compile_function(
            _store_complex, f"store_complex_{acc}_{out}", PART=part, REAL=make_tag(real)
        )
    function = _store_exact if exact else _store
    name = f"store_{acc}_{out}{'_exact' if exact else ''}"
    return compile_function(function, name, TAG=make_tag(out), ACC=make_tag(acc))
