"""Sums of windows of consecutive rows: three additions each, whatever their height (llvmlite).

Rows are grouped in blocks as high as a window (van Herk; Gil and Werman). A window that begins
inside a block is the end of that block and the start of the next one:

    block 0      block 1
    a b c d e    f g h i j      window c..g = (c + d + e) + (f + g)

So it is the sum of its own rows alone: nothing outside it, such as a NaN, has any effect on it, and
no error accumulates along the image, as it does in a running sum. The blocks are counted from the
first row of the padded image, so that the order of summation, and with it every bit of the result,
depends neither on threads nor on how the work is cut.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..functions import compile_function
from ..vectors import LONG, Vectors, lanes

# Vectors of a row that are summed at once: whole cache lines, of which several are loaded ahead.
_COLUMNS = 4


class _Window(Vectors):
    """Emits the code that sums some vectors of columns, for all windows."""

    def __init__(self, builder: ir.IRBuilder, acc: str, pixel: str, columns: int) -> None:
        super().__init__(builder, acc)
        self.columns = columns
        self.pixel = np.dtype(pixel)
        self.pixel_size = self.pixel.itemsize
        self.same = pixel == acc
        [self.sums] = self.zeros(1, columns)

    def clear(self) -> None:
        for place in self.sums:
            self.builder.store(self.constant(0 if self.whole else 0.0), place)

    def pixels(self, address: ir.Value) -> ir.Value:
        """Load a vector of pixels, converted to the dtype of sums."""
        if self.same:
            return self.load(address)
        kind = ir.VectorType(ir.IntType(8 * self.pixel_size), self.lanes)
        value = self.load(address, kind)
        value.align = self.pixel_size
        extend = self.builder.sext if self.pixel.kind == "i" else self.builder.zext
        return extend(value, self.kind)

    def add_row(self, table: ir.Value, row: ir.Value, distance: ir.Value) -> list[ir.Value]:
        """Add a row of pixels to the sums, and return these."""
        b, found = self.builder, []
        start = b.add(self.load(b.add(table, b.mul(row, self.long(8))), LONG), distance)
        for c, place in enumerate(self.sums):
            x = self.pixels(self.at(start, c * self.lanes * self.pixel_size))
            found.append(self.add(b.load(place), x))
            b.store(found[-1], place)
        return found


def _block(acc: str, pixel: str, columns: int) -> Any:
    @intrinsic
    def block(typingctx, table, column, p, first, end, out, pitch):
        def codegen(context, builder, signature, args):
            table, column, p, first, end, out, pitch = args
            b, code = builder, _Window(builder, acc, pixel, columns)
            one = code.long(1)
            distance = b.mul(column, code.long(code.pixel_size))
            out = b.add(out, b.mul(column, code.long(code.size)))

            def smaller(x: ir.Value, y: ir.Value) -> ir.Value:
                return b.select(b.icmp_signed("<", x, y), x, y)

            def larger(x: ir.Value, y: ir.Value) -> ir.Value:
                return b.select(b.icmp_signed(">", x, y), x, y)

            def place(start: ir.Value, row: ir.Value, c: int) -> ir.Value:
                return code.at(b.add(start, b.mul(row, pitch)), c * code.bytes)

            last_block = b.sdiv(b.sub(end, one), p)
            with cgutils.for_range(b, b.add(last_block, one), start=b.sdiv(first, p)) as blocks:
                begin = b.mul(blocks.index, p)
                rows = b.add(table, b.mul(begin, code.long(8)))
                low = larger(b.sub(first, begin), code.long(0))
                high = smaller(b.sub(end, begin), p)
                target = b.add(out, b.mul(b.sub(begin, first), pitch))
                # The sums to the end of this block, from its last row upwards.
                code.clear()
                with cgutils.for_range(b, b.sub(p, high)) as loop:
                    code.add_row(rows, b.sub(b.sub(p, one), loop.index), distance)
                with cgutils.for_range(b, b.sub(high, low)) as loop:
                    row = b.sub(b.sub(high, one), loop.index)
                    for c, value in enumerate(code.add_row(rows, row, distance)):
                        code.store(value, place(target, row, c))
                # The sums from the start of the next.
                code.clear()
                rows = b.add(rows, b.mul(b.sub(p, one), code.long(8)))
                with cgutils.for_range(b, low, start=one) as loop:
                    code.add_row(rows, loop.index, distance)
                with cgutils.for_range(b, high, start=larger(low, one)) as loop:
                    for c, value in enumerate(code.add_row(rows, loop.index, distance)):
                        at = place(target, loop.index, c)
                        code.store(code.add(code.load(at), value), at)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), codegen

    return block


def _square(dtype: str) -> Any:
    @intrinsic
    def square(typingctx, table, distance, target, pitch):
        def codegen(context, builder, signature, args):
            table, distance, target, pitch = args
            b = Vectors(builder, dtype)
            rows = [
                b.load(builder.add(b.load(b.at(table, 8 * i), LONG), distance))
                for i in range(b.lanes)
            ]
            for i, row in enumerate(b.transposed(rows)):
                b.store(row, builder.add(target, builder.mul(pitch, b.long(i))))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), codegen

    return square


# Bound to other values in every compiled function.
WIDE = ONE = SQUARE = LANES = COLUMNS = None


def _sum_windows(table, n, p, first, end, out, pitch, unused):
    """Sum the windows of `p` rows that begin at rows ``first`` to ``end - 1``.

    `table` holds the addresses of the rows from the start of a block on, each of `n` pixels, at
    least a vector. The sums are written to rows `pitch` bytes apart.
    """
    j = 0
    while j + LANES * COLUMNS <= n:
        WIDE(table, j, p, first, end, out, pitch)
        j += LANES * COLUMNS
    while j < n:
        j = min(j, n - LANES)  # the last vector may overlap, and compute the same sums again
        ONE(table, j, p, first, end, out, pitch)
        j += LANES


def _transpose_squares(table, table_step, squares, step, target, target_step, pitch, unused):
    """Transpose squares of as many rows and columns as a vector has lanes.

    `table` holds the addresses of the rows of a square. The next square is `table_step` bytes
    further in the table, `step` bytes further in every row, and written `target_step` bytes
    further. Rows are written `pitch` bytes apart.
    """
    for i in range(squares):
        SQUARE(table + i * table_step, i * step, target + i * target_step, pitch)


@cache
def sum_windows(acc: str, pixel: str) -> int:
    """Return the address of the jit function that sums windows of rows of a dtype."""
    return compile_function(
        _sum_windows,
        f"window_sums_{acc}_{pixel}",
        WIDE=_block(acc, pixel, _COLUMNS),
        ONE=_block(acc, pixel, 1),
        LANES=lanes(acc),
        COLUMNS=_COLUMNS,
    )


@cache
def transpose_squares(dtype: str) -> int:
    """Return the address of the jit function that transposes squares of this dtype."""
    return compile_function(
        _transpose_squares, f"transpose_squares_{dtype}", SQUARE=_square(dtype), LANES=lanes(dtype)
    )
