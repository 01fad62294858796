"""Pieces that read a padded row of pixels into sums' dtype, and write rows of sums (Numba)."""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import carray

from . import fields as F
from .memory import load_mapped, load_run, make_tag, pixels, store_run
from .pieces import compile_piece, peek, pointer
from .vectors import copy_bytes, prefetch

# Rows are asked for this many rows before they are read.
_AHEAD = 4

# Bound anew in every piece.
TAG = ACC = PLAIN = None


def _load(job, x, y0, y1, first, n, ring, line):
    """Read `n` columns from column `first` on of rows `y0` to `y1`, all counted with the padding.

    Row y goes to place ``y % slots`` of the ring, places being `line` pixels apart. With a column
    stride the row is laid out phase after phase, each as long as `line` divided by the stride.
    """
    rows, slots = peek(job, F.ROWS), peek(job, F.SLOTS)
    fill = carray(pointer(job + 8 * F.FILL), (1,), ACC.dtype)[0]
    step, stride, total = peek(job, F.X_COLUMN), peek(job, F.STRIDE_X), peek(job, F.COLUMNS_COUNT)
    columns = carray(pointer(peek(job, F.COLUMNS)), (total,), np.int64)
    last = min(total, first + n)
    # Columns inside the image stand in one ascending run; only what is left of and right of that
    # run goes through the map.
    left, length = peek(job, F.LEFT), last - first
    low = min(max(left - first, 0), length)
    high = max(min(left + peek(job, F.WIDTH) - first, length), low)
    inside = columns[first + low] * step if high > low else 0
    for y in range(y0, y1):
        target = carray(pointer(ring + y % slots * line * ACC.itemsize), (line,), ACC.dtype)
        source = peek(rows, y)
        if source < 0:
            target[:] = fill
            continue
        start = x + source * peek(job, F.X_ROW)
        if y + _AHEAD < y1:
            ahead = peek(rows, y + _AHEAD)
            if ahead >= 0:
                prefetch(x + ahead * peek(job, F.X_ROW) + inside, (high - low) * step)
        if stride > 1:
            phase = line // stride
            for f in range(stride):
                some = columns[first + f : last : stride]
                place = target[f * phase : f * phase + some.shape[0]]
                load_mapped(TAG, start, step, some, fill, place)
            continue
        load_mapped(TAG, start, step, columns[first : first + low], fill, target[:low])
        if PLAIN and step == ACC.itemsize and (high - low) * step >= 64:
            copy_bytes(start + inside, target.ctypes.data + low * step, (high - low) * step)
        elif high > low:
            load_run(TAG, start + inside, step, target[low:high])
        load_mapped(TAG, start, step, columns[first + high : last], fill, target[high:length])


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


@cache
def load(source: str, acc: str) -> int:
    """Address of the piece that reads this dtype."""
    return compile_piece(
        _load, f"load_{source}_{acc}", TAG=make_tag(source), ACC=make_tag(acc), PLAIN=source == acc
    )


@cache
def store(acc: str, out: str, exact: bool) -> int:
    """Address of the piece that writes this dtype; `exact` if the sums are integers that fit."""
    function = _store_exact if exact else _store
    name = f"store_{acc}_{out}{'_exact' if exact else ''}"
    return compile_piece(function, name, TAG=make_tag(out), ACC=make_tag(acc))
