"""Sums of weights where few pixels are missing: of all weights, less those on missing ones (Numba).

Summing the counts of all pixels takes as long as summing the pixels. If few are missing, it is
faster to add, for each of them, the weights that fall on it to the outputs around it. These
*missing sums* are kept for as many rows of outputs as the row buffer has rows: output row y is in
slot ``y % slots``, and begins with `q - 1` numbers that belong to no output.

Where more than half of the weights fall on missing pixels, the difference would lose digits, and
not be 0 where it should. There the remaining weights are summed.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..direct.column_sums import sum_rows, write_row_table
from ..drivers import inner
from ..functions import compile_function
from ..intrinsics import call, elements, load_int, reader
from ..params import DIRECT_COLUMNS, DIRECT_PARAMS, DIRECT_TASK, MEANS_BLOCK
from ..row_buffer import row_source
from ..vectors import LONG, Vectors

_INT = ir.IntType(32)

direct_params = reader(DIRECT_PARAMS)
direct_task = reader(DIRECT_TASK)
direct_columns = reader(DIRECT_COLUMNS)
means_block = reader(MEANS_BLOCK)


@intrinsic
def _add_vectors(typingctx, kind, source, target, count):
    """Add `count` vectors of numbers at an address to those at another."""

    def codegen(context, builder, signature, args):
        _, source, target, count = args
        v = Vectors(builder, str(kind.dtype))
        with cgutils.for_range(builder, count) as loop:
            distance = builder.mul(loop.index, v.long(v.bytes))
            place = builder.add(target, distance)
            v.store(v.add(v.load(place), v.load(builder.add(source, distance))), place)
        return context.get_dummy_value()

    return types.void(kind, types.int64, types.int64, types.int64), codegen


# Places of up to this many columns beyond the last may be written.
PLACES_BEYOND = 32
# The positions of ones in a 4-bit number, packed into four bytes.
_PLACES = [
    sum(place << 8 * k for k, place in enumerate(i for i in range(4) if bits >> i & 1))
    for bits in range(16)
]


@intrinsic
def _list_zeros(typingctx, kind, numbers, low, high, places):
    """Write the places of zeros among the numbers ``low`` to ``high - 1`` of a row.

    `places` is the address of 32-bit integers, PLACES_BEYOND more than there may be zeros. Returns
    how many places were written, the last of which may be beyond `high`.
    """

    def codegen(context, b, signature, args):
        _, numbers, low, high, places = args
        v, quad = Vectors(b, str(kind.dtype)), ir.VectorType(_INT, 4)
        table = cgutils.global_constant(
            b, "places_of_ones", ir.Constant(ir.ArrayType(_INT, 16), _PLACES)
        )
        count = cgutils.alloca_once_value(b, v.long(0))
        groups = b.sdiv(b.add(b.sub(high, low), v.long(v.lanes - 1)), v.long(v.lanes))
        with cgutils.for_range(b, groups) as loop:
            first = b.add(low, b.mul(loop.index, v.long(v.lanes)))
            there = v.load(b.add(numbers, b.mul(first, v.long(v.size))))
            zero = b.bitcast(b.fcmp_ordered("==", there, v.constant(0.0)), ir.IntType(v.lanes))
            zero, first = b.zext(zero, LONG), b.trunc(first, _INT)
            # Four at a time, without a branch, which would often be mispredicted.
            for k in range(0, v.lanes, 4):
                four = b.and_(b.lshr(zero, v.long(k)), v.long(15))
                packed = b.load(b.gep(table, [v.long(0), four]))
                found = b.zext(b.bitcast(packed, ir.VectorType(ir.IntType(8), 4)), quad)
                start = b.add(first, ir.Constant(_INT, k))
                start = b.insert_element(ir.Constant(quad, ir.Undefined), start, _INT(0))
                start = b.shuffle_vector(start, start, ir.Constant(quad, None))
                at = b.add(places, b.mul(b.load(count), v.long(4)))
                store = b.store(b.add(found, start), b.inttoptr(at, quad.as_pointer()))
                store.align = 4
                b.store(b.add(b.load(count), b.ctpop(four)), count)
        return b.load(count)

    return types.int64(kind, types.int64, types.int64, types.int64, types.int64), codegen


@inner
def add_missing(kind, present, y, slot, slots, means, columns):
    """Add the weights that fall on the missing pixels of input row `y` to the outputs around them.

    `present` is the address of the counts of its pixels, which are 0 for missing ones; `slot` is
    the row's slot in the row buffer.
    """
    pitch, vectors, size, p = means.missing_pitch, means.vectors, kind.itemsize, means.p
    source, row = row_source(means.source), columns.missing_sums + slot * pitch
    sums = elements(kind, row, pitch // size)
    for j in range(pitch // size):  # no row before this one is read by output row y
        sums[j] = kind.dtype.type(0)
    low, high = 0, columns.count + means.q - 1
    if means.border_missing:
        if load_int(source.rows, y) < 0:
            return
        low = max(low, source.left - columns.first)
        high = min(high, source.left + source.width - columns.first)
    at = columns.missing_sums + slots * pitch
    count = _list_zeros(kind, present, low, high, at)
    places = elements(np.int32, at, count)
    while count and places[count - 1] >= high:
        count -= 1
    before, weights_bytes = min(slot + 1, p), vectors * means.vector_bytes
    for k in range(count):
        target, weights = row + places[k] * size, means.reversed_weights
        for _ in range(before):
            _add_vectors(kind, weights, target, vectors)
            weights, target = weights + weights_bytes, target - pitch
        target += slots * pitch
        for _ in range(before, p):
            _add_vectors(kind, weights, target, vectors)
            weights, target = weights + weights_bytes, target - pitch


@inner
def subtract_missing(kind, weights, block, means, i):
    """Write the sums of the remaining weights, for row `i` of a block of outputs.

    Returns whether those of some outputs must still be summed (see `_sum_remaining`); after that
    has been done, leaves their sums alone.
    """
    size, n = kind.itemsize, weights.shape[0]
    row = block.row + i * block.row_step
    slots = row_source(means.source).slots
    all_weights = elements(kind, load_int(means.weight_rows, row) + block.column * size, n)
    at = block.missing_sums + row % slots * means.missing_pitch + (means.q - 1) * size
    missing = elements(kind, at, n)
    half = kind.dtype.type(0.5)
    if block.remaining:
        for j in range(n):
            known = all_weights[j] - missing[j]
            weights[j] = weights[j] if missing[j] > half * all_weights[j] else known
        return False
    scarce = False
    for j in range(n):
        weights[j] = all_weights[j] - missing[j]
        scarce |= missing[j] > half * all_weights[j]
    return scarce


def _sum_remaining(address, task_address, columns_address, row, number, row_step, others, unused):
    """Sum the remaining weights for a block of outputs, and write its means once more."""
    params, task = direct_params(address), direct_task(task_address)
    columns, block = direct_columns(columns_address), means_block(others)
    pitch = columns.sums_pitch
    write_row_table(params, task, columns, row, params.p + number - 1, 1)
    sum_rows(params, task, columns, number, columns.sums + number * pitch, pitch)
    block.remaining = 1
    target = task.out + row * params.out_row_stride + columns.first * params.out_column_stride
    call(
        params.store, columns.sums, columns.count, target, params.out_column_stride, number, pitch,
        row_step * params.out_row_stride, others,
    )  # fmt: skip


@cache
def sum_remaining() -> int:
    """Return the address of the jit function that sums weights of which few remain."""
    return compile_function(_sum_remaining, "sum_remaining")
