"""Means of the pixels that are there: jit functions between the steps of direct sums (Numba).

If any pixel of an image is missing, rows lie in the row buffer in two planes: the pixels, with 0
where one is missing, and what each counts: its weight, or 1 where it is there. Both are summed by
the same kernel, and the first sums are divided by the second ones when they are written: image and
result are passed once. If none is missing, the sums of weights follow from the border alone, and
there is one plane.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from .conversion import load_run, make_tag, narrowed
from .drivers import compiled, inner, max_of, min_of
from .functions import call, compile_function, elements, load_int, reader
from .params import COUNTED_PIXELS, MEANS, MEANS_BLOCK

counted_pixels = reader(COUNTED_PIXELS)
means_of = reader(MEANS)
means_block = reader(MEANS_BLOCK)

# Rows and columns of the memory that `find_range` needs.
RANGE_LINES = (4, 512)

# Bound to other values in every compiled function: tags (see `conversion`) of what is stored, of
# sums and of counts, whether the first two are the same, rows and columns of memory, planes that
# are summed, and which counts there are ("mask", "weights" or none).
TAG = ACC = COUNTS = SAME = LINES = PLANES = COUNTED = None


def _mark_missing(row_buffer, first, end, slots, pitch, counts, means_address, unused):
    """Split rows `first` to before `end` of the row buffer, in which NaN is a missing pixel.

    Row y is at place ``y % slots``, places being `pitch` numbers apart. What is left of a pixel is
    its difference from the pivot times what it counts, and 0 of a missing one. If there are two
    PLANES, what pixels count is written `counts` bytes behind them; what is COUNTED, a mask of
    missing pixels or weights, is there already.
    """
    zero, one = ACC.dtype.type(0), ACC.dtype.type(1)
    pivot = ACC.dtype.type(means_of(means_address).pivot)
    for y in range(first, end):
        start = row_buffer + y % slots * pitch * ACC.itemsize
        row = elements(ACC, start, pitch)
        if PLANES == 1:
            for j in range(pitch):
                row[j] = row[j] - pivot if row[j] == row[j] else zero
            continue
        weight = elements(ACC, start + counts, pitch)
        if COUNTED == "mask":
            for j in range(pitch):
                weight[j] = one if (row[j] == row[j]) & (weight[j] == zero) else zero
        elif COUNTED == "weights":
            for j in range(pitch):
                weight[j] = weight[j] if row[j] == row[j] else zero
        else:
            for j in range(pitch):
                weight[j] = one if row[j] == row[j] else zero
        if COUNTED == "weights":
            for j in range(pitch):
                row[j] = (row[j] - pivot) * weight[j] if weight[j] != zero else zero
        else:
            for j in range(pitch):
                row[j] = row[j] - pivot if weight[j] != zero else zero


@inner
def divided(total, weight, pivot, least, undefined):
    """Divide a sum by that of its weights; `undefined` where these are 0 or below `least`."""
    mean = total / weight + pivot
    return undefined if (weight == 0) | (weight < least) else mean


def _store(sums, n, out, step, count, pitch, out_pitch, block_address):
    """Write `count` rows of `n` sums, divided by those of weights, to rows `out_pitch` bytes apart.

    Rows of sums are `pitch` bytes apart; those of weights follow them, if there are two PLANES.
    """
    block = means_block(block_address)
    means = means_of(block.means)
    pivot, least = ACC.dtype.type(means.pivot), ACC.dtype.type(means.least)
    undefined = ACC.dtype.type(means.undefined)
    for i in range(count):
        row = elements(ACC, sums + i * pitch, n)
        at = sums + (count + i) * pitch
        if PLANES == 1:
            at = load_int(means.weight_rows, block.row + i * block.row_step)
            at += block.column * ACC.itemsize
        weights = elements(ACC, at, n)
        start = out + i * out_pitch
        if step == TAG.itemsize:
            target = elements(TAG, start, n)
            for j in range(n):
                target[j] = narrowed(TAG, divided(row[j], weights[j], pivot, least, undefined))
            continue
        for j in range(n):
            mean = divided(row[j], weights[j], pivot, least, undefined)
            elements(TAG, start + j * step, 1)[0] = narrowed(TAG, mean)


def _find_range(image, rows, columns, row_stride, column_stride, lines, found, counted_address):
    """Find the least and the greatest pixel that is there, and count those that are missing.

    The three numbers are written to `found`; `lines` is room for as many rows of some columns as
    `LINES` says. The last argument is the address of COUNTED_PIXELS.
    """
    infinity, nan = ACC.dtype.type(np.inf), ACC.dtype.type(np.nan)
    counted = counted_pixels(counted_address)
    line = elements(ACC, lines, LINES)
    low, high, width = line[0], line[1], LINES[1]
    low[:] = infinity
    high[:] = -infinity
    missing = np.int64(0)
    for i in range(rows):
        # Some columns at a time, so that their extremes stay in the first-level cache.
        for first in range(0, columns, width):
            n = min(width, columns - first)
            start = image + i * row_stride + first * column_stride
            row = line[2][:n]
            if SAME and COUNTED == "" and column_stride == ACC.itemsize:
                row = elements(ACC, start, n)
            else:
                load_run(TAG, start, column_stride, row)
            if COUNTED != "":
                weight = line[3][:n]
                at = counted.counts + i * counted.row_stride + first * counted.column_stride
                load_run(COUNTS, at, counted.column_stride, weight)
                if COUNTED == "mask":
                    for j in range(n):
                        row[j] = row[j] if weight[j] == 0 else nan
                else:
                    for j in range(n):
                        row[j] = row[j] if weight[j] != 0 else nan
            # Comparisons with NaN are false, which leaves NaN out.
            for j in range(n):
                low[j] = row[j] if row[j] < low[j] else low[j]
            for j in range(n):
                high[j] = row[j] if row[j] > high[j] else high[j]
            absent = np.int64(0)
            for j in range(n):
                absent += row[j] != row[j]
            missing += absent
    result = elements(np.float64, found, 3)
    result[0], result[1], result[2] = min_of(low), max_of(high), missing


@cache
def mark_missing(acc: str, planes: int, counted: str) -> int:
    """Address of the jit function that marks the missing pixels of the row buffer's rows."""
    name = f"mark_missing_{acc}_planes{planes}_{counted}"
    bindings = dict(ACC=make_tag(acc), PLANES=planes, COUNTED=counted)
    return compile_function(_mark_missing, name, **bindings)


@cache
def store(acc: str, out: str, planes: int) -> int:
    """Address of the jit function that makes means of sums and writes them."""
    name = f"store_means_{acc}_{out}_planes{planes}"
    return compile_function(_store, name, TAG=make_tag(out), ACC=make_tag(acc), PLANES=planes)


@cache
def find_range(dtype: str, acc: str, counted: str) -> int:
    """Address of the jit function that finds the range of pixels of a dtype."""
    return compile_function(
        _find_range,
        f"find_range_{dtype}_{acc}_{counted}",
        TAG=make_tag(dtype),
        ACC=make_tag(acc),
        COUNTS=make_tag("bool" if counted == "mask" else acc),
        COUNTED=counted,
        SAME=dtype == acc,
        LINES=RANGE_LINES,
    )


def _run_function(address, a, b, c, d, e, f, g, h):
    call(address, a, b, c, d, e, f, g, h)


# Calls a jit function.
run_function = compiled(_run_function)
