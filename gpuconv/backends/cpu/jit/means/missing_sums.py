"""Sums of weights where few pixels are missing: of all weights, less those on missing ones (Numba).

Summing the counts of all pixels takes as long as summing the pixels. If few are missing, it is
faster to add, for each of them, the weights that fall on it to the outputs around it. These
*missing sums* are kept for as many rows of outputs as the row buffer has rows: output row y is in
slot ``y % slots``, and begins with `q - 1` numbers that belong to no output. The weights are kept
once for each place of a pixel within a vector, so that only whole, aligned vectors are added:
vectors that span two cache lines, or overlap one that was just written, take several times as long.

Where more than half of the weights fall on missing pixels, the difference would lose digits, and
not be 0 where it should. There the remaining weights are summed.
"""

from __future__ import annotations

from collections.abc import Callable
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
from ..vectors import LONG, Vectors, vector_bytes_here

_INT = ir.IntType(32)

direct_params = reader(DIRECT_PARAMS)
direct_task = reader(DIRECT_TASK)
direct_columns = reader(DIRECT_COLUMNS)
means_block = reader(MEANS_BLOCK)


# Rows of up to this many vectors are added without a loop over these.
_UNROLLED = 6


@intrinsic
def _add_rows(typingctx, kind, weights, target, rows, pitch, vectors):
    """Add `rows` rows of `vectors` vectors each to rows `pitch` bytes before one another.

    The rows of weights, whose address is the first argument, follow one another.
    """

    def codegen(context, b, signature, args):
        _, weights, target, rows, pitch, vectors = args
        v = Vectors(b, str(kind.dtype))
        done = b.append_basic_block("added")
        general = b.append_basic_block("any_number")
        choice = b.switch(vectors, general)

        def add(weights: ir.Value, place: ir.Value) -> None:
            v.store(v.add(v.load(place), v.load(weights)), place)

        def add_all(row: Callable[[ir.Value, ir.Value], None]) -> None:
            with cgutils.for_range(b, rows) as loop:
                first = b.mul(loop.index, b.mul(vectors, v.long(v.bytes)))
                row(b.add(weights, first), b.sub(target, b.mul(loop.index, pitch)))
            b.branch(done)

        def add_any(weights: ir.Value, place: ir.Value) -> None:
            with cgutils.for_range(b, vectors) as loop:
                distance = b.mul(loop.index, v.long(v.bytes))
                add(b.add(weights, distance), b.add(place, distance))

        for count in range(1, _UNROLLED + 1):
            block = b.append_basic_block(f"vectors_{count}")
            choice.add_case(v.long(count), block)
            b.position_at_end(block)

            def add_some(weights: ir.Value, place: ir.Value, count: int = count) -> None:
                for k in range(count):
                    add(v.at(weights, k * v.bytes), v.at(place, k * v.bytes))

            add_all(add_some)
        b.position_at_end(general)
        add_all(add_any)
        b.position_at_end(done)
        return context.get_dummy_value()

    return types.void(kind, *[types.int64] * 5), codegen


# Places of up to this many columns beyond the last may be written.
PLACES_BEYOND = 32
# The positions of ones in a 4-bit number, packed into four bytes.
_PLACES = [
    sum(place << 8 * k for k, place in enumerate(i for i in range(4) if bits >> i & 1))
    for bits in range(16)
]


@inner
def list_missing(kind, present, low, high, places):
    """Write the places of the missing pixels among those of columns ``low`` to ``high - 1``.

    `present` is the address of a row of numbers of this kind, or bool, that are 0 for missing
    pixels, PLACES_BEYOND more than `high` of them. `places` is the address of 32-bit integers,
    PLACES_BEYOND more than there may be places. Returns their number.
    """
    count = _list_zeros(kind, present, low, high, places)
    found = elements(np.int32, places, count)
    while count and found[count - 1] >= high:
        count -= 1
    return count


@intrinsic
def _list_zeros(typingctx, kind, numbers, low, high, places):
    """Do what `list_missing` does, but the last places may be beyond `high`."""

    def codegen(context, b, signature, args):
        _, numbers, low, high, places = args
        narrow = str(kind.dtype) == "bool"
        v, quad = Vectors(b, "float64" if narrow else str(kind.dtype)), ir.VectorType(_INT, 4)
        size = 1 if narrow else v.size
        flags = ir.VectorType(ir.IntType(8), v.lanes)
        table = cgutils.global_constant(
            b, "places_of_ones", ir.Constant(ir.ArrayType(_INT, 16), _PLACES)
        )
        count = cgutils.alloca_once_value(b, v.long(0))
        groups = b.sdiv(b.add(b.sub(high, low), v.long(v.lanes - 1)), v.long(v.lanes))
        with cgutils.for_range(b, groups) as loop:
            first = b.add(low, b.mul(loop.index, v.long(v.lanes)))
            at = b.add(numbers, b.mul(first, v.long(size)))
            if narrow:
                there = v.load(at, flags)
                there.align = 1
                zero = b.icmp_unsigned("==", there, ir.Constant(flags, None))
            else:
                zero = b.fcmp_ordered("==", v.load(at), v.constant(0.0))
            zero = b.zext(b.bitcast(zero, ir.IntType(v.lanes)), LONG)
            first = b.trunc(first, _INT)
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

    return types.int64(kind, *[types.int64] * 4), codegen


@inner
def add_around(kind, places, count, sums, pitch, slot, slots, weights, p, vectors):
    """Add the weights that fall on the missing pixels of an input row to the outputs around them.

    `sums` is the address of rows of missing sums, `pitch` bytes apart, of which `slot` is the one
    of the same number as the input row; the `p - 1` before it are those of the outputs above.
    `weights` is the address of the weights (see `aligned_weights`), with `vectors` in a row.
    """
    size = kind.itemsize
    weights_bytes, within = vectors * vector_bytes_here(), vector_bytes_here() // size - 1
    before, row = min(slot + 1, p), sums + slot * pitch
    found = elements(np.int32, places, count)
    for k in range(count):
        place = np.int64(found[k])
        target = row + (place & ~within) * size
        at = weights + (place & within) * p * weights_bytes
        _add_rows(kind, at, target, before, pitch, vectors)
        if before < p:
            at, target = at + before * weights_bytes, target + (slots - before) * pitch
            _add_rows(kind, at, target, p - before, pitch, vectors)


@inner
def add_missing(kind, present, y, slot, slots, means, columns):
    """Add the weights that fall on the missing pixels of input row `y` to the outputs around them.

    `present` is the address of the counts of its pixels, which are 0 for missing ones; `slot` is
    the row's slot in the row buffer.
    """
    pitch, size, source = means.missing_pitch, kind.itemsize, row_source(means.source)
    sums = elements(kind, columns.missing_sums + slot * pitch, pitch // size)
    for j in range(pitch // size):  # no row before this one is read by output row y
        sums[j] = kind.dtype.type(0)
    low, high = 0, columns.count + means.q - 1
    if means.border_missing:
        if load_int(source.rows, y) < 0:
            return
        low = max(low, source.left - columns.first)
        high = min(high, source.left + source.width - columns.first)
    places = columns.missing_sums + slots * pitch
    count = list_missing(kind, present, low, high, places)
    add_around(
        kind, places, count, columns.missing_sums, pitch, slot, slots, means.reversed_weights,
        means.p, means.vectors,
    )  # fmt: skip


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
