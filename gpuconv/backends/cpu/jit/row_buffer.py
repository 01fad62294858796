"""The row buffer: jit functions that load padded rows of pixels (Numba).

Rows of complex numbers lie in two planes, of real and of imaginary parts: loading splits complex
pixels, and storing (`stored_rows`) joins the parts of sums.

Which pixels a row holds does not depend on the dtype, so loading is one function, compiled with and
without a column stride. It calls a short jit function that converts pixels of a dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import numpy as np

from ....core import dtypes
from .conversion import load_run, make_tag, pixel, widened
from .drivers import inner, round_up
from .functions import compile_function
from .intrinsics import call, copy_number, elements, larger, load_int, reader, smaller
from .params import FILL, LINE_BYTES, ROW_SOURCE, ZERO
from .vectors import copy_bytes, prefetch

row_source = reader(ROW_SOURCE)

# Rows are prefetched this many rows before they are read.
_AHEAD = 4
# Runs of at least a cache line are copied by vectors, those of fewer numbers than this one by one.
_FEW = 8

# Bound to other values in every compiled function: tags (see `conversion`) of what is stored and of
# the sums' parts, and whether there is a column stride.
TAG = ACC = STRIDED = None
# Column strides for which whole vectors are de-interleaved.
TAKEN_APART = (2, 4)


@inner
def repeat_number(number, target, n, size):
    """Write the number at an address `n` times."""
    if size == 4:
        line, value = elements(np.int32, target, n), elements(np.int32, number, 1)[0]
        for j in range(n):
            line[j] = value
    elif size == 8:
        wide, wide_value = elements(np.int64, target, n), elements(np.int64, number, 1)[0]
        for j in range(n):
            wide[j] = wide_value
    else:
        for j in range(n):
            copy_number(number, target + j * size, size)


@inner
def _load_run(source, pixels, n, target, zero):
    """Load `n` pixels of consecutive columns from one address to another."""
    step, size = source.column_stride, source.size
    if source.convert_groups:
        call(source.convert_groups, pixels, n, target, source.imaginary, 0, 0, 0, 0)
    elif source.convert == 0:
        for j in range(n):
            copy_number(pixels + j * step, target + j * size, size)
    else:
        for part in range(source.pixel_parts):
            at = pixels + part * source.pixel_size
            call(source.convert, at, step, n, target + part * source.imaginary, 0, 0, 0, 0)
        if source.pixel_parts < source.parts:
            repeat_number(zero, target + source.imaginary, n, size)


@inner
def _load_strided(source, pixels, low, high, target, phase, zero):
    """Load the pixels of the columns ``low`` to ``high - 1`` of a row, given the first's address.

    The row begins at `target`, and its phases are `phase` numbers apart.
    """
    stride, step, first, end = source.step, source.column_stride, high, high
    if source.convert_groups:
        # All phases at once: whole vectors are read and de-interleaved.
        first = smaller(round_up(low, stride), high)
        groups = (high - first) // stride
        place, distance = target + first // stride * source.size, phase * source.size
        at = pixels + (first - low) * step
        call(source.convert_groups, at, groups, place, distance, 0, 0, 0, 0)
        end = first + groups * stride
    if low < first:
        _load_phases(source, pixels, low, first, target, phase, zero)
    if end < high:
        _load_phases(source, pixels + (end - low) * step, end, high, target, phase, zero)


@inner
def _load_phases(source, pixels, low, high, target, phase, zero):
    """Load pixels as `_load_strided` does, phase after phase."""
    stride, step, size = source.step, source.column_stride, source.size
    first, last = (low // stride, low % stride), (high // stride, high % stride)
    for f in range(source.phases):
        begin, end = _before(first, f), _before(last, f)
        if begin == end:
            continue
        at = pixels + (f + begin * stride - low) * step
        place = target + (f * phase + begin) * size
        for part in range(source.parts):
            plane = place + part * source.imaginary
            if part < source.pixel_parts:
                real = at + part * source.pixel_size
                call(source.convert, real, stride * step, end - begin, plane, 0, 0, 0, 0)
            else:
                repeat_number(zero, plane, end - begin, size)


@inner
def _copy_beside(fill, columns, row, low, run, beside, size):
    """Fill the columns left and right of a run that holds all columns of the image.

    They hold the fill value, or copies of numbers in the run.
    """
    known = row + low * size
    for e in range(beside):
        j = e if e < low else e + run
        c = load_int(columns, j)
        copy_number(fill if c < 0 else known + c * size, row + j * size, size)


@inner
def _before(columns, f):
    """Count how many of the first columns, given as (whole strides, rest), are in phase `f`."""
    return columns[0] + 1 if f < columns[1] else columns[0]


def _load(source_params, x, y0, y1, first, n, row_buffer, pitch):
    """Load `n` columns from column `first` on of the rows ``y0`` to ``y1 - 1``, padding included.

    Row y goes to slot ``y % slots`` of the row buffer; slots are `pitch` numbers apart. With a
    column stride the row is laid out phase after phase, each as long as `pitch` divided by the
    stride; phases that no output reads are left out.
    """
    source, fill, zero = row_source(source_params), source_params + FILL, source_params + ZERO
    rows, slots, size = source.rows, source.slots, source.size
    stride, phases = (source.step, source.phases) if STRIDED else (1, 1)
    step, row_stride = source.column_stride, source.row_stride
    parts, imaginary = source.parts, source.imaginary
    here = source.columns + 8 * first
    last = smaller(source.column_count, first + n)
    # Columns inside the image form one ascending run; only those left and right of it are looked up
    # in the table.
    left, length = source.left, last - first
    phase = pitch // stride
    low = smaller(larger(left - first, 0), length)
    high = larger(smaller(left + source.width - first, length), low)
    run = high - low
    column = load_int(here, low) if run else 0
    # The processor's own prefetching misses short runs of long rows.
    run_bytes = run * source.pixel_size
    scattered = step == source.pixel_size and abs(row_stride) > 2 * run_bytes
    copied = source.plain and not STRIDED and step == size and run * size >= LINE_BYTES
    whole = not STRIDED and run == source.width > 0
    before, until = (low // stride, low % stride), (high // stride, high % stride)
    every = length // stride, length % stride
    slot = y0 % slots
    for y in range(y0, y1):
        target = row_buffer + slot * pitch * size
        slot = slot + 1 if slot + 1 < slots else 0
        row = load_int(rows, y)
        if row < 0:
            for part in range(parts):
                repeat_number(fill + part * size, target + part * imaginary, pitch, size)
            continue
        start = x + row * row_stride
        inside = start + column * step
        if scattered and y + _AHEAD < y1:
            ahead = load_int(rows, y + _AHEAD)
            if ahead >= 0:
                prefetch(inside + (ahead - row) * row_stride, run_bytes)
        if copied:
            copy_bytes(inside, target + low * size, run * size)
        elif run and STRIDED:
            _load_strided(source, inside, low, high, target, phase, zero)
        elif run:
            _load_run(source, inside, run, target + low * size, zero)
        if whole:
            for part in range(parts):
                plane, value = target + part * imaginary, fill + part * size
                if size == 4:  # the usual size, as a constant for the compiler
                    _copy_beside(value, here, plane, low, run, length - run, np.int64(4))
                else:
                    _copy_beside(value, here, plane, low, run, length - run, size)
            continue
        for f in range(phases):  # left of the run, and right of it
            begin, end = _before(before, f), _before(until, f)
            beside = _before(every, f) - (end - begin)
            e = 0
            while e < beside:
                j, there = (e, begin - e) if e < begin else (e - begin + end, beside - e)
                table = here + 8 * (f + j * stride)
                c, spacing, count = load_int(table, 0), 0, 1
                if there > 1:
                    spacing = load_int(table, stride) - c
                # Columns that are equally far apart in the image are converted at once.
                while count < there:
                    known = load_int(table, (count - 1) * stride)
                    following = load_int(table, count * stride)
                    if following - known != spacing or (following < 0) != (c < 0):
                        break
                    count += 1
                for part in range(parts):
                    place = target + part * imaginary + (f * phase + j) * size
                    if c < 0 or part >= source.pixel_parts:
                        repeat_number(fill + part * size if c < 0 else zero, place, count, size)
                        continue
                    at = start + c * step + part * source.pixel_size
                    if source.convert == 0 or (source.plain and count < _FEW):
                        for i in range(count):
                            copy_number(at + i * spacing * step, place + i * size, size)
                    else:
                        call(source.convert, at, spacing * step, count, place, 0, 0, 0, 0)
                e += count


def _convert(source, step, n, target, unused, unused2, unused3, unused4):
    """Convert `n` stored numbers, `step` bytes apart, to numbers of the sums' dtype."""
    load_run(TAG, source, step, elements(ACC, target, n))


def _convert_pairs(source, n, target, distance, unused, unused2, unused3, unused4):
    """Convert `n` pairs of stored numbers and de-interleave them: first numbers, then second ones.

    These begin `distance` bytes apart.
    """
    pairs = elements(TAG, source, 2 * n)
    firsts, seconds = elements(ACC, target, n), elements(ACC, target + distance, n)
    # Unsigned indices: LLVM vectorises loops in which no index can be negative.
    for j in range(n):
        firsts[j] = widened(TAG, pairs[np.uintp(2 * j)])
        seconds[j] = widened(TAG, pairs[np.uintp(2 * j + 1)])


def _convert_fours(source, n, target, distance, unused, unused2, unused3, unused4):
    """Convert `n` groups of four stored numbers as `_convert_pairs` does."""
    fours = elements(TAG, source, 4 * n)
    firsts, seconds = elements(ACC, target, n), elements(ACC, target + distance, n)
    thirds = elements(ACC, target + 2 * distance, n)
    fourths = elements(ACC, target + 3 * distance, n)
    for j in range(n):
        firsts[j] = widened(TAG, fours[np.uintp(4 * j)])
        seconds[j] = widened(TAG, fours[np.uintp(4 * j + 1)])
        thirds[j] = widened(TAG, fours[np.uintp(4 * j + 2)])
        fourths[j] = widened(TAG, fours[np.uintp(4 * j + 3)])


def _load_transposed(source_params, x, y0, y1, first, n, target, pitch):
    """Load the same pixels transposed: padded column `first` + e to row e, `pitch` bytes apart."""
    fill = elements(ACC, source_params + FILL, 1)[0]
    source = row_source(source_params)
    rows, columns = source.rows, source.columns
    step, x_row = source.column_stride, source.row_stride
    for y in range(y0, y1):
        row = load_int(rows, y)
        place = target + (y - y0) * ACC.itemsize
        for e in range(n):
            c = load_int(columns, first + e)
            line = elements(ACC, place + e * pitch, 1)
            if row >= 0 <= c:
                line[0] = pixel(TAG, x + row * x_row + c * step)
            else:
                line[0] = fill


def parts_of(dtype: str) -> int:
    return 1 if dtypes.part(dtype) == dtype else 2


def load(step: int = 1) -> int:
    """Return the address of the jit function that loads rows with this column stride."""
    return _compiled_load(step > 1)


@cache
def _compiled_load(strided: bool) -> int:
    return compile_function(_load, "load_strided" if strided else "load_rows", STRIDED=strided)


@cache
def _conversion(function: Callable[..., Any], source: str, acc: str) -> int:
    name = f"{function.__name__.lstrip('_')}_{source}_{acc}"
    return compile_function(function, name, TAG=make_tag(source), ACC=make_tag(acc))


@lru_cache(maxsize=512)
def pixel_fields(
    pixel: str, acc: str, column_stride: int, step: int = 1, phases: int = 1
) -> dict[str, int]:
    """Return the fields of a ROW_SOURCE that depend on the dtypes of pixels and sums."""
    part, acc_part = dtypes.part(pixel), dtypes.part(acc)
    parts, pixel_parts = parts_of(acc), parts_of(pixel)
    plain = pixel == acc and parts == 1
    groups, side_by_side = None, column_stride == dtypes.storage(pixel).itemsize
    copied = pixel == acc and step == 1 and side_by_side
    if pixel_parts == 2 and step == 1 and side_by_side:
        groups = _convert_pairs
    elif parts == 1 and side_by_side and 2 * phases > step:  # if most phases are needed
        groups = dict(zip(TAKEN_APART, (_convert_pairs, _convert_fours), strict=True)).get(step)
    return dict(
        size=np.dtype(acc_part).itemsize,
        parts=parts,
        pixel_size=dtypes.storage(part).itemsize,
        pixel_parts=pixel_parts,
        plain=plain,
        column_stride=column_stride,
        step=step,
        phases=phases,
        convert=0 if copied else _conversion(_convert, part, acc_part),
        convert_groups=_conversion(groups, part, acc_part) if groups else 0,
    )


@cache
def load_transposed(source: str, acc: str) -> int:
    """Return the address of the jit function that loads pixels of this dtype transposed."""
    name = f"load_transposed_{source}_{acc}"
    return compile_function(_load_transposed, name, TAG=make_tag(source), ACC=make_tag(acc))
