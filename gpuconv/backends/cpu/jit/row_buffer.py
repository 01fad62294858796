"""The row buffer: jit functions that load padded rows of pixels and store rows of sums (Numba).

Rows of complex numbers lie in two planes, of real and of imaginary parts: loading takes complex
pixels apart, and storing puts the parts of sums together.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import carray

from ....core import dtypes
from .conversion import load_run, make_tag, narrowed, pixel, pixels, store_run, widened
from .functions import compile_function, load_int, pointer, reader
from .params import FILL, ROW_SOURCE, ZERO
from .vectors import copy_bytes, prefetch

row_source = reader(ROW_SOURCE)

# Rows are asked for this many rows before they are read.
_AHEAD = 4

# Places in complex rows are unsigned: LLVM makes vectors of loops where no index may be negative.

# Bound to other values in every compiled function: tags (see `conversion`) of what is stored and of
# the sums' parts, how many parts sums and pixels have, whether both are of one real dtype, and the
# column stride: 0 without, 2, or 3 for any other.
TAG = ACC = PARTS = PIXEL_PARTS = PLAIN = STRIDED = None


def _load(source_params, x, y0, y1, first, n, row_buffer, pitch):
    """Load `n` columns from column `first` on of rows `y0` to `y1`, all counted with the padding.

    Row y goes to place ``y % slots`` of the row buffer, places being `pitch` numbers apart. With a
    column stride the row is laid out phase after phase, each as long as `pitch` divided by the
    stride.
    """
    source = row_source(source_params)
    rows, slots, columns = source.rows, source.slots, source.columns
    stride = source.step if STRIDED else 1
    phases = source.phases if STRIDED else 1
    last = min(source.column_count, first + n)
    # Columns inside the image stand in one ascending run; only what is left of and right of that
    # run goes through the map.
    left, length = source.left, last - first
    phase = pitch // stride
    low = min(max(left - first, 0), length)
    high = max(min(left + source.width - first, length), low)
    for part in range(PARTS):
        fill = carray(pointer(source_params + FILL), (PARTS,), ACC.dtype)[part]
        image = x + part * TAG.itemsize
        step, x_row = source.column_stride, source.row_stride
        if part >= PIXEL_PARTS:
            image, step, x_row = source_params + ZERO, 0, 0
        inside = load_int(columns, first + low) * step if high > low else 0
        # Short runs of long rows are nothing that a processor foresees.
        run = (high - low) * TAG.itemsize
        scattered = step == TAG.itemsize and abs(x_row) > 2 * run
        slot = y0 % slots
        for y in range(y0, y1):
            start = row_buffer + part * source.imaginary + slot * pitch * ACC.itemsize
            slot = slot + 1 if slot + 1 < slots else 0
            target = carray(pointer(start), (pitch,), ACC.dtype)
            row = load_int(rows, y)
            if row < 0:
                target[:] = fill
                continue
            start_of_row = image + row * x_row
            if scattered and y + _AHEAD < y1:
                ahead = load_int(rows, y + _AHEAD)
                if ahead >= 0:
                    prefetch(image + ahead * x_row + inside, run)
            if STRIDED:
                pairs = 0
                if STRIDED == 2 and phases == 2 and step == TAG.itemsize:
                    # Both phases at once: whole vectors are read and taken apart.
                    at, pairs = start_of_row + inside, (high - low) // 2
                    both = pixels(TAG, at, 2 * pairs)
                    even, odd = low % 2 * phase + low // 2, (low + 1) % 2 * phase + (low + 1) // 2
                    evens, odds = target[even : even + pairs], target[odd : odd + pairs]
                    for j in range(pairs):
                        evens[j] = widened(TAG, both[np.uintp(2 * j)])
                        odds[j] = widened(TAG, both[np.uintp(2 * j + 1)])
                for f in range(phases):
                    begin = (low + 2 * pairs - f + stride - 1) // stride
                    end = (high - f + stride - 1) // stride
                    at = start_of_row + inside + (f + begin * stride - low) * step
                    inner = target[f * phase + begin : f * phase + end]
                    for j in range(end - begin):
                        inner[j] = pixel(TAG, at + j * stride * step)
            elif PLAIN and step == ACC.itemsize and (high - low) * step >= 64:
                copy_bytes(start_of_row + inside, start + low * step, (high - low) * step)
            elif step == TAG.itemsize and high - low > 8:
                load_run(TAG, start_of_row + inside, step, target[low:high])
            elif PIXEL_PARTS == 2 and step == 2 * TAG.itemsize:
                parts = pixels(TAG, start_of_row + inside, 2 * (high - low) - 1)
                inner = target[low:high]
                for j in range(high - low):
                    inner[j] = widened(TAG, parts[np.uintp(2 * j)])
            else:
                for j in range(low, high):
                    target[j] = pixel(TAG, start_of_row + inside + (j - low) * step)
            for f in range(phases):  # left of the run, and right of it
                begin, end = (low - f + stride - 1) // stride, (high - f + stride - 1) // stride
                beside = (length - f + stride - 1) // stride - (end - begin)
                for e in range(beside):
                    j = e if e < begin else e - begin + end
                    c = load_int(columns, first + f + j * stride)
                    if c >= 0:
                        target[f * phase + j] = pixel(TAG, start_of_row + c * step)
                    else:
                        target[f * phase + j] = fill


def _load_transposed(source_params, x, y0, y1, first, n, target, pitch):
    """Load the same pixels transposed: padded column `first` + e to line e, `pitch` bytes apart."""
    fill = carray(pointer(source_params + FILL), (1,), ACC.dtype)[0]
    source = row_source(source_params)
    rows, columns = source.rows, source.columns
    step, x_row = source.column_stride, source.row_stride
    for y in range(y0, y1):
        row = load_int(rows, y)
        place = target + (y - y0) * ACC.itemsize
        for e in range(n):
            c = load_int(columns, first + e)
            line = pixels(ACC, place + e * pitch, 1)
            if row >= 0 <= c:
                line[0] = pixel(TAG, x + row * x_row + c * step)
            else:
                line[0] = fill


def _store(sums, n, out, step, count, pitch, out_pitch, unused):
    """Write `count` rows of `n` sums, `pitch` bytes apart, to rows `out_pitch` bytes apart."""
    for row in range(count):
        line = carray(pointer(sums + row * pitch), (n,), ACC.dtype)
        store_run(TAG, out + row * out_pitch, step, line)


def _store_complex(sums, n, out, step, count, pitch, out_pitch, imaginary):
    """Write rows of sums whose imaginary parts are `imaginary` bytes behind their real parts."""
    for row in range(count):
        start = out + row * out_pitch
        real = carray(pointer(sums + row * pitch), (n,), ACC.dtype)
        other = carray(pointer(sums + imaginary + row * pitch), (n,), ACC.dtype)
        if step == 2 * TAG.itemsize:
            target = pixels(TAG, start, 2 * n)
            for j in range(n):
                target[np.uintp(2 * j)] = narrowed(TAG, real[j])
                target[np.uintp(2 * j + 1)] = narrowed(TAG, other[j])
        else:
            for j in range(n):
                target = pixels(TAG, start + j * step, 2)
                target[0] = narrowed(TAG, real[j])
                target[1] = narrowed(TAG, other[j])


def _store_exact(sums, n, out, step, count, pitch, out_pitch, unused):
    """Write rows of sums that are integers within the output's range."""
    kind = TAG.dtype.type
    for row in range(count):
        line = carray(pointer(sums + row * pitch), (n,), ACC.dtype)
        start = out + row * out_pitch
        if step == TAG.itemsize:
            target = pixels(TAG, start, n)
            for j in range(n):
                target[j] = kind(line[j])
        else:
            for j in range(n):
                pixels(TAG, start + j * step, 1)[0] = kind(line[j])


def _parts(dtype: str) -> int:
    return 1 if dtypes.part(dtype) == dtype else 2


@cache
def load(source: str, acc: str, step: int = 1) -> int:
    """Address of the jit function that reads rows of this dtype, in `step` phases."""
    if step > 3:
        return load(source, acc, 3)
    return compile_function(
        _load,
        f"load_{source}_{acc}" + {1: "", 2: "_every_other", 3: "_strided"}[step],
        TAG=make_tag(dtypes.part(source)),
        ACC=make_tag(dtypes.part(acc)),
        PARTS=_parts(acc),
        PIXEL_PARTS=_parts(source),
        PLAIN=source == acc and _parts(acc) == 1,
        STRIDED=0 if step == 1 else step,
    )


@cache
def load_transposed(source: str, acc: str) -> int:
    """Address of the jit function that reads columns of this dtype."""
    name = f"load_transposed_{source}_{acc}"
    return compile_function(_load_transposed, name, TAG=make_tag(source), ACC=make_tag(acc))


@cache
def store(acc: str, out: str, exact: bool) -> int:
    """Address of the jit function that writes this dtype; `exact` if sums are integers that fit."""
    function = _store_complex if _parts(acc) == 2 else _store_exact if exact else _store
    name = f"store_{acc}_{out}{'_exact' if exact else ''}"
    # Complex sums are written part by part, real ones as whole elements, complex ones too.
    stored = dtypes.part(out) if _parts(acc) == 2 else out
    tags = make_tag(stored), make_tag(dtypes.part(acc))
    return compile_function(function, name, TAG=tags[0], ACC=tags[1])
