"""Means over the pixels that are not missing: jit functions called between steps of sums (Numba).

If many pixels of an image are missing, rows of the row buffer have two planes: the pixels, with 0
in place of missing ones, and their counts: a weight or 1, and 0 for missing ones. Both are summed
by the same kernel, and the sums of pixels are divided by those of counts when they are written, so
that image and result are passed over once. If none is missing, the sums of weights follow from the
border alone, and there is one plane. If few are missing, the weights on these are subtracted from
those sums (see `missing_sums`).
"""

from __future__ import annotations

from functools import cache

from ..conversion import make_tag, narrowed
from ..drivers import inner
from ..functions import compile_function
from ..intrinsics import elements, load_int, reader
from ..params import DIRECT_COLUMNS, MEANS, MEANS_BLOCK
from .missing_sums import add_missing, subtract_missing

means_of = reader(MEANS)
means_block = reader(MEANS_BLOCK)
direct_columns = reader(DIRECT_COLUMNS)

# Bound to other values in every compiled function: tags (see `conversion`) of what is stored and of
# sums, how many pixels are missing ("none", "few", "many"), and which counts there are ("mask",
# "weights" or none).
TAG = ACC = MISSING = COUNTED = None


def _mark_missing(row_buffer, first, end, slots, pitch, counts, means_address, columns_address):
    """Replace pixels in rows ``first`` to ``end - 1`` of the row buffer, where NaN is missing.

    Row y is in slot ``y % slots``; slots are `pitch` numbers apart. A pixel becomes its difference
    from the pivot times its count, and a missing one 0. If any is MISSING, counts are written
    `counts` bytes after the pixels; if there are COUNTED pixels, a mask of missing ones or weights
    is there already. The last argument is the address of the DIRECT_COLUMNS.
    """
    means = means_of(means_address)
    zero, one = ACC.dtype.type(0), ACC.dtype.type(1)
    pivot = ACC.dtype.type(means.pivot)
    for y in range(first, end):
        start = row_buffer + y % slots * pitch * ACC.itemsize
        row = elements(ACC, start, pitch)
        if MISSING == "none":
            # Only the border may be NaN: where it counts as missing.
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
        if MISSING == "few":
            add_missing(
                ACC, start + counts, y, y % slots, slots, means, direct_columns(columns_address)
            )  # fmt: skip


@inner
def divided(total, weight, pivot, least, undefined):
    """Divide a sum by that of its weights; `undefined` where these are 0 or below `least`."""
    mean = total / weight + pivot
    return undefined if (weight == 0) | (weight < least) else mean


def _store(sums, n, out, step, count, pitch, out_pitch, block_address):
    """Write `count` rows of `n` sums, divided by those of weights, to rows `out_pitch` bytes apart.

    Rows of sums are `pitch` bytes apart; those of weights follow them, if any is MISSING.
    """
    block = means_block(block_address)
    means = means_of(block.means)
    pivot, least = ACC.dtype.type(means.pivot), ACC.dtype.type(means.least)
    undefined = ACC.dtype.type(means.undefined)
    for i in range(count):
        row = elements(ACC, sums + i * pitch, n)
        at = sums + (count + i) * pitch
        if MISSING == "none":
            at = load_int(means.weight_rows, block.row + i * block.row_step)
            at += block.column * ACC.itemsize
        weights = elements(ACC, at, n)
        if MISSING == "few" and subtract_missing(ACC, weights, block, means, i):
            block.scarce = 1
        start = out + i * out_pitch
        if step == TAG.itemsize:
            target = elements(TAG, start, n)
            for j in range(n):
                target[j] = narrowed(TAG, divided(row[j], weights[j], pivot, least, undefined))
            continue
        for j in range(n):
            mean = divided(row[j], weights[j], pivot, least, undefined)
            elements(TAG, start + j * step, 1)[0] = narrowed(TAG, mean)


@cache
def mark_missing(acc: str, missing: str, counted: str) -> int:
    """Return the address of the jit function that marks missing pixels in the row buffer."""
    name = f"mark_missing_{acc}_{missing}_{counted}"
    bindings = dict(ACC=make_tag(acc), MISSING=missing, COUNTED=counted)
    return compile_function(_mark_missing, name, **bindings)


@cache
def store(acc: str, out: str, missing: str) -> int:
    """Return the address of the jit function that turns sums into means and writes them."""
    name = f"store_means_{acc}_{out}_{missing}"
    return compile_function(_store, name, TAG=make_tag(out), ACC=make_tag(acc), MISSING=missing)
