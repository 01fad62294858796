"""The inner loop of direct correlation: sums of neighbouring outputs, held in registers (llvmlite).

A block of sums, `R` output rows by `C` vectors of columns, stays in registers while all taps are
added to it. An input row is read once for the (up to) `R` output rows that it belongs to, so each
vector loaded feeds `R` multiply-adds, and each weight `C`. Numba's loops cannot say that: they keep
sums in memory, and LLVM's vectoriser prefers 256-bit vectors where 512 are faster. Hence the vector
code is written out, instruction by instruction; LLVM assigns the registers.

Every sum takes its taps row by row, left to right, in one chain of multiply-adds, wherever the
output stands in a block: that makes crops bitwise equal.

A row or column of weights that is its own mirror image, or the negative of it, is summed in
`mirrored` order instead: two chains, from either end towards the middle, are added to each other,
and then the middle tap. The chains are rounded alike, so that a flipped image gives the same bits
flipped, and opposite weights cancel exactly, for one addition more and no other load. Adding
opposite pixels first would do so too, but overflows where the products do not.

To see the machine code of a piece: ``print(piece.inspect_llvm())`` of the object in
``pieces._kept``, or set NUMBA_DUMP_ASSEMBLY=1. It should hold one ``vfmadd231ps zmm`` for each
register of sums and tap, and no access to the stack between them.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .functions import compile_function, fence
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

    def tap(self, pixels: Any, weights: dict[int, Any], offset: Any, sums: Any = None) -> None:
        """Add one column of taps: pixels at an address, weights (addresses) of the output rows."""
        b = self.builder
        xs = [self.load(self.at(pixels, c * self.bytes)) for c in range(self.columns)]
        for row, address in weights.items():
            weight = self.splat(self.at(address, offset))
            for x, place in zip(xs, (sums or self.sums)[row], strict=True):
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


class _Mirrored(_Block):
    """Code of one block of sums in mirrored order: `sums` from the first tap, `back` from the last.

    A number of taps, and what follows from it, is an int where it is known while compiling.
    """

    def __init__(self, builder: Any, acc: str, rows: int, columns: int) -> None:
        super().__init__(builder, acc, rows, columns)
        self.back = self.zeros(rows, columns)

    def count(self, value: Any) -> Any:
        """A number of taps as a value."""
        return self.long(value) if isinstance(value, int) else value

    def each(self, first: int, last: Any, emit: Any) -> None:
        """Emit code for the numbers from `first` to before `last`: a loop where it is not known."""
        if isinstance(last, int):
            for number in range(first, last):
                emit(self.long(number))
            return
        with cgutils.for_range(self.builder, last, start=self.long(first)) as loop:
            emit(loop.index)

    def meet(self, outputs: range, taps: Any, middle: Any) -> None:
        """Add the two chains of some rows; then the middle tap, if their number is odd."""
        b = self.builder
        for output in outputs:
            for place, other in zip(self.sums[output], self.back[output], strict=True):
                b.store(self.add(b.load(place), b.load(other)), place)
        if isinstance(taps, int):
            if taps % 2:
                middle()
            return
        odd = b.trunc(taps, ir.IntType(1))
        with b.if_then(odd):
            middle()

    def column(self, args: Any, p: int | None) -> None:
        """Add one column of taps, input row after input row from both ends."""
        b = self.builder
        table, column, w, taps_down, *_ = args
        taps = taps_down if p is None else p
        half = b.lshr(taps, self.long(1)) if p is None else p // 2
        last = b.add(self.count(taps), self.long(self.rows - 2))

        def input_row(y: Any, outputs: range, back: bool) -> None:
            """Add row `y` to outputs counted from the same end as the rows."""
            if back:
                y = b.sub(last, y)
                outputs = range(self.rows - outputs.stop, self.rows - outputs.start)
            row = self.load(b.add(table, b.mul(y, self.long(8))), LONG)
            weights = {
                i: b.add(w, b.mul(b.sub(y, self.long(i)), self.long(self.size))) for i in outputs
            }
            self.tap(b.add(row, column), weights, 0, self.back if back else self.sums)

        for back in (False, True):
            if p is not None:
                for y in range(p // 2 + self.rows - 1):
                    outputs = range(max(0, y - p // 2 + 1), min(self.rows - 1, y) + 1)
                    input_row(self.long(y), outputs, back)
                continue
            for y in range(self.rows - 1):
                input_row(self.long(y), range(y + 1), back)
            self.each(
                self.rows - 1, half, lambda y, back=back: input_row(y, range(self.rows), back)
            )
            for i in range(1, self.rows):
                y = b.add(self.count(half), self.long(i - 1))
                input_row(y, range(i, self.rows), back)

        def middle() -> None:
            for i in range(self.rows):
                input_row(b.add(self.count(half), self.long(i)), range(i, i + 1), False)

        self.meet(range(self.rows), taps, middle)

    def row(self, args: Any, p: int | None, q: int | None) -> None:
        """Add rows of taps: `p` for one output row, or one for each."""
        b = self.builder
        table, column, w, taps_down, taps_across, offsets, *_ = args
        taps = taps_across if q is None else q
        half = b.lshr(taps, self.long(1)) if q is None else q // 2
        middle = self.count(half)

        def tap(output: int, a: Any, number: Any, sums: Any) -> None:
            y = b.add(a, self.long(output))
            row = b.add(self.load(b.add(table, b.mul(y, self.long(8))), LONG), column)
            distance = b.mul(number, self.long(self.size))
            if q is None:
                at = self.load(b.add(offsets, b.mul(number, self.long(8))), LONG)
            else:
                at = distance
            weights = b.add(w, b.mul(b.mul(a, self.count(taps)), self.long(self.size)))
            self.tap(b.add(row, at), {output: weights}, distance, sums)

        last, down = b.sub(self.count(taps), self.long(1)), taps_down if p is None else p

        def half_row(output: int, a: Any, back: bool) -> None:
            def one(number: Any) -> None:
                if back:
                    tap(output, a, b.sub(last, number), self.back)
                else:
                    tap(output, a, number, self.sums)

            self.each(0, half, one)

        for output in range(self.rows):
            for back in (False, True):
                self.each(0, down, partial(half_row, output, back=back))
            self.meet(
                range(output, output + 1),
                taps,
                partial(self.each, 0, down, lambda a, o=output: tap(o, a, middle, self.sums)),
            )


def _emit_mirrored(
    block: _Mirrored, args: Any, down: bool, p: int | None, q: int | None, stream: bool
) -> None:
    if down:
        block.column(args, p)
    else:
        block.row(args, p, q)
    block.finish(*args[-2:], stream)


def _block(
    acc: str, rows: int, columns: int, p: int | None, q: int | None, stream: bool = False,
    mirrored: str = "",
) -> Any:  # fmt: skip
    @intrinsic
    def block(typingctx, table, column, w, taps_down, taps, offsets, out, stride):
        def codegen(context, builder, signature, args):
            if mirrored:
                code = _Mirrored(builder, acc, rows, columns)
                _emit_mirrored(code, args, mirrored == "down", p, q, stream)
            else:
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


def sums(
    acc: str, rows: int, p: int, q: int, unit: bool, stream: bool = False, mirrored: bool = False
) -> int:
    """Address of the piece for p x q taps that sums `rows` output rows at once.

    `unit` says that taps are side by side in memory; `stream` writes past the caches, which wants
    output rows a multiple of a vector apart. `mirrored` takes each row of taps, or the column where
    q is 1, in mirrored order.
    """
    return _piece(acc, rows, p, q, unit, stream, mirrored)


@cache
def _piece(acc: str, rows: int, p: int, q: int, unit: bool, stream: bool, mirrored: bool) -> int:
    columns = _columns(rows)
    fixed_q = q if unit and q <= _WIDEST else None
    fixed_p = p if p < rows else None
    direction = ""
    if mirrored:
        direction = "down" if q == 1 else "across"
        # Written out, pixels that both chains read stay in registers, if fewer are summed at once.
        if q == 1 and rows > 1 and p <= _WIDEST:
            fixed_p, columns = p, 1 if vector_bytes() == 32 else 2
    elif unit and rows > 1 and (p, q) in _UNROLLED:
        fixed_p, columns = p, min(columns, _UNROLLED[p, q])
    name = f"sums_{acc}_{rows}x{columns}_p{fixed_p or 'any'}_q{fixed_q or 'any'}"
    name += f"_{direction}" if direction else ""
    name += "_stream" if stream else ""
    return compile_function(
        _sums,
        name,
        WIDE=_block(acc, rows, columns, fixed_p, fixed_q, stream, direction),
        ONE=_block(acc, rows, 1, fixed_p, fixed_q, False, direction),
        LANES=lanes(acc),
        COLUMNS=columns,
        SIZE=np.dtype(acc).itemsize,
        STREAM=stream,
    )
