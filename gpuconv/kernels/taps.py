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

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from .pieces import compile_piece

_LONG = ir.IntType(64)
_INT = ir.IntType(32)

ROWS = 4
# Kernels up to these sizes are written out tap by tap; wider ones loop over their columns.
_UNROLLED = {(3, 3): 3, (5, 5): 2}
_WIDEST = 16


@cache
def vector_bytes() -> int:
    """Width of a vector register on this machine."""
    features = config.CPU_FEATURES
    if features is None:
        found = llvm.get_host_cpu_features()
        if found.get("avx512f"):
            return 64
        return 32 if found.get("avx") else 16
    return 64 if "+avx512f" in features else 32 if "+avx" in features else 16


def _columns(rows: int) -> int:
    """Vectors of a block: as many as leave the compiler registers for pixels and weights."""
    if rows == 1:
        return 8
    return 2 if vector_bytes() == 32 else 3


def lanes(acc: str) -> int:
    """Elements of a vector of this dtype."""
    return vector_bytes() // np.dtype(acc).itemsize


class _Block:
    """Code of one block of sums; the methods emit instructions where the builder stands."""

    def __init__(self, builder: Any, acc: str, rows: int, columns: int) -> None:
        self.builder, self.rows, self.columns = builder, rows, columns
        self.size = np.dtype(acc).itemsize
        self.whole = np.dtype(acc).kind in "iu"
        if self.whole:
            self.element = ir.IntType(8 * self.size)
        else:
            self.element = ir.FloatType() if self.size == 4 else ir.DoubleType()
        self.lanes = lanes(acc)
        self.vector = ir.VectorType(self.element, self.lanes)
        zero = ir.Constant(self.vector, [0 if self.whole else 0.0] * self.lanes)
        self.sums = [[cgutils.alloca_once(builder, self.vector) for _ in range(columns)]
                     for _ in range(rows)]  # fmt: skip
        for sum_ in (s for row in self.sums for s in row):
            builder.store(zero, sum_)

    def long(self, value: int) -> Any:
        return ir.Constant(_LONG, value)

    def load(self, address: Any, kind: Any) -> Any:
        value = self.builder.load(self.builder.inttoptr(address, kind.as_pointer()))
        if isinstance(kind, ir.VectorType):
            value.align = self.size
        return value

    def splat(self, value: Any) -> Any:
        b, undefined = self.builder, ir.Constant(self.vector, ir.Undefined)
        first = b.insert_element(undefined, value, ir.Constant(_INT, 0))
        zeros = ir.Constant(ir.VectorType(_INT, self.lanes), [0] * self.lanes)
        return b.shuffle_vector(first, undefined, zeros)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        if self.whole:
            return self.builder.add(c, self.builder.mul(a, b))
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        name = f"llvm.fmuladd.v{self.lanes}f{8 * self.size}"
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, [a, b, c])

    def tap(self, pixels: Any, weights: dict[int, Any], offset: Any) -> None:
        """Add one column of taps: pixels at an address, weights (addresses) of the output rows."""
        b = self.builder
        step = self.lanes * self.size
        xs = [self.load(b.add(pixels, self.long(c * step)), self.vector)
              for c in range(self.columns)]  # fmt: skip
        for row, address in weights.items():
            weight = self.splat(self.load(b.add(address, offset), self.element))
            for x, place in zip(xs, self.sums[row], strict=True):
                b.store(self.multiply_add(x, weight, b.load(place)), place)

    def input_row(self, y: Any, outputs: range, args: Any, q: Any) -> None:
        """Add what input row `y` of the block gives to the output rows in `outputs`."""
        b = self.builder
        table, column, w, taps, offsets = args
        row = b.add(self.load(b.add(table, b.mul(y, self.long(8))), _LONG), column)
        width = b.mul(taps, self.long(self.size))
        weights = {i: b.add(w, b.mul(b.sub(y, self.long(i)), width)) for i in outputs}
        if q is not None:
            for tap in range(q):
                place = self.long(tap * self.size)
                self.tap(b.add(row, place), weights, place)
            return
        with cgutils.for_range(b, taps) as loop:
            at = self.load(b.add(offsets, b.mul(loop.index, self.long(8))), _LONG)
            self.tap(b.add(row, at), weights, b.mul(loop.index, self.long(self.size)))

    def store(self, out: Any, stride: Any) -> None:
        b = self.builder
        for i, row in enumerate(self.sums):
            start = b.add(out, b.mul(stride, self.long(i)))
            for c, place in enumerate(row):
                address = b.add(start, self.long(c * self.lanes * self.size))
                pointer = b.inttoptr(address, self.vector.as_pointer())
                b.store(b.load(place), pointer).align = self.size


def _emit(block: _Block, args: Any, p: int | None, q: int | None) -> None:
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
    block.store(out, stride)


def _block(acc: str, rows: int, columns: int, p: int | None, q: int | None) -> Any:
    @intrinsic
    def block(typingctx, table, column, w, taps_down, taps, offsets, out, stride):
        def codegen(context, builder, signature, args):
            _emit(_Block(builder, acc, rows, columns), args, p, q)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 8), codegen

    return block


# Bound anew in every piece made of `_sums`.
WIDE = ONE = LANES = COLUMNS = SIZE = None


def _sums(table, n, w, p, q, offsets, out, stride):
    """Sums of `n` columns (at least one vector) of a block of output rows.

    `table` holds the addresses of the input rows, `w` the taps, `offsets` the bytes from an
    output's first pixel to that of each tap column; output rows are `stride` bytes apart.
    """
    j = 0
    while j + LANES * COLUMNS <= n:
        WIDE(table, j * SIZE, w, p, q, offsets, out + j * SIZE, stride)
        j += LANES * COLUMNS
    while j < n:
        j = min(j, n - LANES)  # the last vector overlaps: the same sums once more
        ONE(table, j * SIZE, w, p, q, offsets, out + j * SIZE, stride)
        j += LANES


@cache
def sums(acc: str, rows: int, p: int, q: int, unit: bool) -> int:
    """Address of the piece for p x q taps that sums `rows` output rows at once.

    `unit` says that taps are side by side in memory.
    """
    columns = _columns(rows)
    fixed_q = q if unit and q <= _WIDEST else None
    fixed_p = p if p < rows else None
    if unit and rows > 1 and (p, q) in _UNROLLED:
        fixed_p, columns = p, min(columns, _UNROLLED[p, q])
    name = f"sums_{acc}_{rows}x{columns}_p{fixed_p or 'any'}_q{fixed_q or 'any'}"
    return compile_piece(
        _sums,
        name,
        WIDE=_block(acc, rows, columns, fixed_p, fixed_q),
        ONE=_block(acc, rows, 1, fixed_p, fixed_q),
        LANES=lanes(acc),
        COLUMNS=columns,
        SIZE=np.dtype(acc).itemsize,
    )
