"""The inner loop of direct correlation: sums of neighbouring outputs, held in registers (llvmlite).

A block of sums, `R` output rows by `C` vectors of columns, stays in registers while all taps are
added to it. An input row is read once for the (up to) `R` output rows that it belongs to, so each
vector loaded feeds `R` multiply-adds, and each weight `C`. Numba's loops cannot say that: they keep
sums in memory, and LLVM's vectoriser prefers 256-bit vectors where 512 are faster. Hence the vector
code is written out, instruction by instruction; LLVM assigns the registers.

Every sum takes its taps row by row, left to right, in one chain of multiply-adds, wherever the
output stands in a block: that makes crops bitwise equal.

To see the machine code of a piece: ``print(piece.inspect_llvm())`` of the object in
``pieces._kept``, or set NUMBA_DUMP_ASSEMBLY=1. It should hold one ``vfmadd231ps zmm`` for each
register of sums and tap, and no access to the stack between them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .pieces import compile_piece, fence
from .vectors import LONG, Vectors, lanes, vector_bytes

ROWS = 4
# Kernels up to these sizes are written out tap by tap; wider ones loop over their columns.
_UNROLLED = {(3, 3): 3, (5, 5): 2}
_WIDEST = 16


def _columns(rows: int) -> int:
    """Vectors of a block: as many as leave the compiler registers for pixels and weights."""
    if rows == 1:
        return 8
    return 2 if vector_bytes() == 32 else 3


class _Block(Vectors):
    """Code of one block of sums."""

    def __init__(self, builder: Any, acc: str, rows: int, columns: int) -> None:
        super().__init__(builder, acc)
        self.rows, self.columns = rows, columns
        self.sums = self.zeros(rows, columns)

    def tap(self, pixels: Any, weights: dict[int, Any], offset: Any) -> None:
        """Add one column of taps: pixels at an address, weights (addresses) of the output rows."""
        b = self.builder
        xs = [self.load(self.at(pixels, c * self.bytes)) for c in range(self.columns)]
        for row, address in weights.items():
            weight = self.splat(self.at(address, offset))
            for x, place in zip(xs, self.sums[row], strict=True):
                b.store(self.multiply_add(x, weight, b.load(place)), place)

    def input_row(self, y: Any, outputs: range, args: Any, q: Any) -> None:
        """Add what input row `y` of the block gives to the output rows in `outputs`."""
        b = self.builder
        table, column, w, taps, offsets = args
        row = b.add(self.load(b.add(table, b.mul(y, self.long(8))), LONG), column)
        width = b.mul(taps, self.long(self.size))
        weights = {i: b.add(w, b.mul(b.sub(y, self.long(i)), width)) for i in outputs}
        if q is not None:
            for tap in range(q):
                self.tap(self.at(row, tap * self.size), weights, tap * self.size)
            return
        with cgutils.for_range(b, taps) as loop:
            at = self.load(b.add(offsets, b.mul(loop.index, self.long(8))), LONG)
            self.tap(b.add(row, at), weights, b.mul(loop.index, self.long(self.size)))

    def finish(self, out: Any, stride: Any, stream: bool) -> None:
        """Write the sums."""
        b = self.builder
        for i, row in enumerate(self.sums):
            start = b.add(out, b.mul(stride, self.long(i)))
            for c, place in enumerate(row):
                self.store(b.load(place), self.at(start, c * self.bytes), stream)


def _emit(block: _Block, args: Any, p: int | None, q: int | None, stream: bool) -> None:
    b = block.builder
    table, column, w, taps_down, taps, offsets, out, stride = args
    if q is not None:
        taps = block.long(q)
    common = (table, column, w, taps, offsets)
    rows = block.rows
    if p is not None:
        for y in range(p + rows - 1):
            outputs = range(max(0, y - p + 1), min(rows - 1, y) + 1)
            block.input_row(block.long(y), outputs, common, q)
    else:  # at least as many rows of taps as of outputs
        for y in range(rows - 1):
            block.input_row(block.long(y), range(y + 1), common, q)
        with cgutils.for_range(b, taps_down, start=block.long(rows - 1)) as loop:
            block.input_row(loop.index, range(rows), common, q)
        for i in range(1, rows):
            y = b.add(taps_down, block.long(i - 1))
            block.input_row(y, range(i, rows), common, q)
    block.finish(out, stride, stream)


def _block(
    acc: str, rows: int, columns: int, p: int | None, q: int | None, stream: bool = False
) -> Any:
    @intrinsic
    def block(typingctx, table, column, w, taps_down, taps, offsets, out, stride):
        def codegen(context, builder, signature, args):
            _emit(_Block(builder, acc, rows, columns), args, p, q, stream)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 8), codegen

    return block


# Bound anew in every piece made of `_sums`.
WIDE = ONE = LANES = COLUMNS = SIZE = STREAM = None


def _sums(table, n, w, p, q, offsets, out, stride):
    """Sums of `n` columns (at least one vector) of a block of output rows.

    `table` holds the addresses of the input rows, `w` the taps, `offsets` the bytes from an
    output's first pixel to that of each tap column; output rows are `stride` bytes apart.
    """
    j = 0
    if STREAM:
        ahead = -out % (LANES * SIZE) // SIZE
        if ahead:
            ONE(table, 0, w, p, q, offsets, out, stride)
            j = ahead
    while j + LANES * COLUMNS <= n:
        WIDE(table, j * SIZE, w, p, q, offsets, out + j * SIZE, stride)
        j += LANES * COLUMNS
    while j < n:
        j = min(j, n - LANES)  # the last vector overlaps: the same sums once more
        ONE(table, j * SIZE, w, p, q, offsets, out + j * SIZE, stride)
        j += LANES
    if STREAM:
        fence()


@cache
def sums(acc: str, rows: int, p: int, q: int, unit: bool, stream: bool = False) -> int:
    """Address of the piece for p x q taps that sums `rows` output rows at once.

    `unit` says that taps are side by side in memory; `stream` writes past the caches, which wants
    output rows a multiple of a vector apart.
    """
    columns = _columns(rows)
    fixed_q = q if unit and q <= _WIDEST else None
    fixed_p = p if p < rows else None
    if unit and rows > 1 and (p, q) in _UNROLLED:
        fixed_p, columns = p, min(columns, _UNROLLED[p, q])
    name = f"sums_{acc}_{rows}x{columns}_p{fixed_p or 'any'}_q{fixed_q or 'any'}"
    name += "_stream" if stream else ""
    return compile_piece(
        _sums,
        name,
        WIDE=_block(acc, rows, columns, fixed_p, fixed_q, stream),
        ONE=_block(acc, rows, 1, fixed_p, fixed_q),
        LANES=lanes(acc),
        COLUMNS=columns,
        SIZE=np.dtype(acc).itemsize,
        STREAM=stream,
    )
