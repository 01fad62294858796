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

To see the machine code, set NUMBA_DUMP_ASSEMBLY=1. It should hold one ``vfmadd231ps zmm`` for each
register of sums and tap, and no access to the stack between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ....core import dtypes
from .functions import compile_function, fence
from .vectors import LONG, Vectors, lanes, vector_bytes

ROWS = 4
# Kernels up to these sizes are written out tap by tap; wider ones loop over their columns.
_UNROLLED = {(3, 3): 3, (5, 5): 2}
_WIDEST = 16


def _columns(rows: int, parts: int) -> int:
    """Vectors of a block: as many as leave the compiler registers for pixels and weights."""
    if rows == 1:
        return 8 // parts
    short = vector_bytes() == 32
    if parts == 2:
        return 1 if short else 2
    return 2 if short else 3


class _Block(Vectors):
    """Emits the code of one block of sums.

    Sums of complex numbers are two blocks, of real and of imaginary parts. The table of rows then
    has two addresses for each, weights are complex numbers as they are, and the rows of imaginary
    parts are written behind those of real parts.
    """

    def __init__(self, builder: Any, acc: str, rows: int, columns: int, step: int) -> None:
        super().__init__(builder, dtypes.part(acc))
        self.rows, self.columns, self.step_bytes = rows, columns, step * self.size
        self.parts = 2 if np.dtype(acc).kind == "c" else 1
        self.weight_bytes = self.parts * self.size
        # By output row: vectors of real parts, then those of imaginary parts.
        self.sums = self.zeros(rows, self.parts * columns)

    def addresses(self, table: Any, y: Any, distance: Any) -> list[Any]:
        """Addresses in input row `y`, for each part, at a distance in bytes."""
        b = self.builder
        entry = b.add(table, b.mul(y, self.long(8 * self.parts)))
        return [
            b.add(self.load(self.at(entry, 8 * part), LONG), distance) for part in range(self.parts)
        ]

    def tap(
        self, pixels: list[Any], weights: dict[int, Any], offset: Any, sums: Any = None
    ) -> None:
        """Add one column of taps: pixels and the output rows' weights are given by address.

        Products with the real pixel come first, in every sum of complex numbers: its order is the
        same wherever it stands in a block.
        """
        b, sums = self.builder, sums or self.sums
        vectors = [
            [self.load(self.at(address, c * self.bytes)) for c in range(self.columns)]
            for address in pixels
        ]
        for row, address in weights.items():
            weight = [
                self.splat(self.at(self.at(address, offset), part * self.size))
                for part in range(self.parts)
            ]
            for n, factors in enumerate(vectors):
                for part in range(self.parts):
                    w = weight[(n + part) % 2]
                    for c, x in enumerate(factors):
                        place = sums[row][part * self.columns + c]
                        x = b.fneg(x) if n > part else x
                        b.store(self.multiply_add(x, w, b.load(place)), place)

    def input_row(self, y: Any, outputs: range, args: Any, q: Any) -> None:
        """Add what input row `y` of the block gives to the output rows in `outputs`."""
        b = self.builder
        table, column, w, taps, offsets = args
        pixels = self.addresses(table, y, column)
        width = b.mul(taps, self.long(self.weight_bytes))
        weights = {i: b.add(w, b.mul(b.sub(y, self.long(i)), width)) for i in outputs}
        if q is not None:
            for tap in range(q):
                moved = [self.at(address, tap * self.step_bytes) for address in pixels]
                self.tap(moved, weights, tap * self.weight_bytes)
            return
        with cgutils.for_range(b, taps) as loop:
            at = self.load(b.add(offsets, b.mul(loop.index, self.long(8))), LONG)
            moved = [b.add(address, at) for address in pixels]
            self.tap(moved, weights, b.mul(loop.index, self.long(self.weight_bytes)))

    def finish(self, out: Any, stride: Any, stream: bool) -> None:
        """Write the sums."""
        b = self.builder
        for i, row in enumerate(self.sums):
            for n, place in enumerate(row):
                part, c = divmod(n, self.columns)
                start = b.add(out, b.mul(stride, self.long(part * self.rows + i)))
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

    def __init__(self, builder: Any, acc: str, rows: int, columns: int, step: int) -> None:
        super().__init__(builder, acc, rows, columns, step)
        self.back = self.zeros(rows, self.parts * columns)

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

    def down(self, args: Any, p: int | None) -> None:
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
            weights = {
                i: b.add(w, b.mul(b.sub(y, self.long(i)), self.long(self.weight_bytes)))
                for i in outputs
            }
            pixels = self.addresses(table, y, column)
            self.tap(pixels, weights, 0, self.back if back else self.sums)

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

    def across(self, args: Any, p: int | None, q: int | None) -> None:
        """Add rows of taps: `p` for one output row, or one for each."""
        b = self.builder
        table, column, w, taps_down, taps_across, offsets, *_ = args
        taps = taps_across if q is None else q
        half = b.lshr(taps, self.long(1)) if q is None else q // 2
        middle = self.count(half)

        def tap(output: int, a: Any, number: Any, sums: Any) -> None:
            y = b.add(a, self.long(output))
            if q is None:
                at = self.load(b.add(offsets, b.mul(number, self.long(8))), LONG)
            else:
                at = b.mul(number, self.long(self.step_bytes))
            pixels = self.addresses(table, y, b.add(column, at))
            first = b.add(w, b.mul(b.mul(a, self.count(taps)), self.long(self.weight_bytes)))
            self.tap(pixels, {output: first}, b.mul(number, self.long(self.weight_bytes)), sums)

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
        block.down(args, p)
    else:
        block.across(args, p, q)
    block.finish(*args[-2:], stream)


def _block(acc: str, made: _Code, columns: int, stream: bool = False) -> Any:
    rows, p, q, mirrored = made.rows, made.p, made.q, made.direction

    @intrinsic
    def block(typingctx, table, column, w, taps_down, taps, offsets, out, stride):
        def codegen(context, builder, signature, args):
            if mirrored:
                code = _Mirrored(builder, acc, rows, columns, made.step)
                _emit_mirrored(code, args, mirrored == "down", p, q, stream)
            else:
                _emit(_Block(builder, acc, rows, columns, made.step), args, p, q, stream)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 8), codegen

    return block


# Bound to other values in every function compiled from `_sums`.
WIDE = ONE = LANES = COLUMNS = SIZE = STREAM = None


def _sums(table, n, w, p, q, offsets, out, stride):
    """Sums of `n` columns (at least one vector) of a block of output rows.

    `table` holds the addresses of the input rows (of complex numbers: of real and imaginary parts
    in turn), `w` the weights, `offsets` the bytes from an output's first pixel to that of each
    column of taps. Output rows are `stride` bytes apart; those of imaginary parts follow those of
    all real parts.
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


@dataclass(frozen=True)
class _Code:
    """How the code of a micro-kernel is written out."""

    rows: int
    columns: int  # vectors of a row
    p: int | None  # rows and columns of taps that are written out one by one; None: in a loop
    q: int | None
    direction: str  # of mirrored weights: "down", "across" or none
    step: int  # pixels from one column of taps to the next, where these are written out

    def name(self, acc: str) -> str:
        """Name of the compiled function."""
        name = f"sums_{acc}_{self.rows}x{self.columns}_p{self.p or 'any'}_q{self.q or 'any'}"
        name += f"_step{self.step}" if self.step > 1 else ""
        return f"{name}_{self.direction}" if self.direction else name


def _code(acc: str, rows: int, p: int, q: int, step: int, mirrored: bool) -> _Code:
    parts = 2 if np.dtype(acc).kind == "c" else 1
    columns = _columns(rows, parts)
    fixed_q = q if step and q <= _WIDEST // parts else None
    step = step if fixed_q and q > 1 else 1
    fixed_p = p if p < rows else None
    if mirrored:
        # Written out, pixels that both chains read stay in registers, if fewer are summed at once.
        if q == 1 and rows > 1 and p <= _WIDEST // parts:
            fixed_p, columns = p, 1 if parts == 2 or vector_bytes() == 32 else 2
        return _Code(rows, columns, fixed_p, fixed_q, "down" if q == 1 else "across", step)
    if fixed_q and rows > 1 and (p, q) in _UNROLLED and parts == 1:
        fixed_p, columns = p, min(columns, _UNROLLED[p, q])
    return _Code(rows, columns, fixed_p, fixed_q, "", step)


@cache
def _compiled(acc: str, code: _Code, stream: bool) -> int:
    part = dtypes.part(acc)
    return compile_function(
        _sums,
        code.name(acc) + ("_stream" if stream else ""),
        WIDE=_block(acc, code, code.columns, stream),
        ONE=_block(acc, code, 1),
        LANES=lanes(part),
        COLUMNS=code.columns,
        SIZE=np.dtype(part).itemsize,
        STREAM=stream,
    )


def sums(
    acc: str, rows: int, p: int, q: int, step: int, stream: bool = False, mirrored: bool = False
) -> int:
    """Address of the micro-kernel for p by q taps that sums `rows` output rows at once.

    Columns of taps are `step` pixels apart in memory, or, if that is 0, as the offsets say.
    `stream` writes past the caches, which wants output rows a multiple of a vector apart.
    `mirrored` takes each row of taps, or the column where q is 1, in mirrored order.
    """
    return _compiled(acc, _code(acc, rows, p, q, step, mirrored), stream)
