"""Pieces that read a padded row of pixels into sums' dtype, and write rows of sums (Numba)."""

from __future__ import annotations

from functools import cache

from numba import carray

from . import fields as F
from .memory import load_mapped, load_run, make_tag, pixels, store_run
from .pieces import compile_piece, longs, pointer

# Bound anew in every piece.
TAG = ACC = None


def _load(job, x, y, first, n, line, pitch, unused):
    """Read `n` padded columns from padded column `first` on of padded row `y` into `line`.

    With a column stride the row is laid out phase after phase, each as long as `pitch` divided by
    the stride.
    """
    d = longs(job, F.COUNT)
    target = carray(pointer(line), (pitch,), ACC.dtype)
    fill = carray(pointer(job + 8 * F.FILL), (1,), ACC.dtype)[0]
    source = longs(d[F.ROWS], y + 1)[y]
    if source < 0:
        target[:] = fill
        return
    start = x + source * d[F.X_ROW]
    step, stride, total = d[F.X_COLUMN], d[F.STRIDE_X], d[F.COLUMNS_COUNT]
    columns = longs(d[F.COLUMNS], total)
    last = min(total, first + n)
    if stride > 1:
        phase = pitch // stride
        for f in range(stride):
            some = columns[first + f : last : stride]
            load_mapped(TAG, start, step, some, fill, target[f * phase : f * phase + some.shape[0]])
        return
    # Columns inside the image stand in one ascending run; only what is left of and right of that
    # run goes through the map.
    left, length = d[F.LEFT], last - first
    low = min(max(left - first, 0), length)
    high = max(min(left + d[F.WIDTH] - first, length), low)
    load_mapped(TAG, start, step, columns[first : first + low], fill, target[:low])
    if high > low:
        load_run(TAG, start + columns[first + low] * step, step, target[low:high])
    load_mapped(TAG, start, step, columns[first + high : last], fill, target[high:length])


def _store(sums, n, out, step, unused, unused2, unused3, unused4):
    """Write `n` sums to elements `step` bytes apart."""
    store_run(TAG, out, step, carray(pointer(sums), (n,), ACC.dtype))


def _store_exact(sums, n, out, step, unused, unused2, unused3, unused4):
    """Write `n` sums that are integers within the output's range."""
    line = carray(pointer(sums), (n,), ACC.dtype)
    kind = TAG.dtype.type
    if step == TAG.itemsize:
        row = pixels(TAG, out, n)
        for j in range(n):
            row[j] = kind(line[j])
    else:
        for j in range(n):
            pixels(TAG, out + j * step, 1)[0] = kind(line[j])


@cache
def load(source: str, acc: str) -> int:
    """Address of the piece that reads this dtype."""
    return compile_piece(_load, f"load_{source}_{acc}", TAG=make_tag(source), ACC=make_tag(acc))


@cache
def store(acc: str, out: str, exact: bool) -> int:
    """Address of the piece that writes this dtype; `exact` if the sums are integers that fit."""
    function = _store_exact if exact else _store
    name = f"store_{acc}_{out}{'_exact' if exact else ''}"
    return compile_piece(function, name, TAG=make_tag(out), ACC=make_tag(acc))
