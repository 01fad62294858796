"""Direct sums of narrow images whose border has one value: whole rows in registers (llvmlite).

An image no wider than a few vectors is read where it is: vectors that reach beyond a row are
loaded under a mask that puts the border's value there. Nothing is copied or padded, and one call
makes a whole image. The taps of a sum are taken in the order of all others (see `taps`).
"""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from . import fields as F
from .functions import compile_function, peek, poke, stack
from .vectors import LONG, Vectors, lanes, vector_bytes

_INT = ir.IntType(32)
WIDEST = 256  # bytes of a row of outputs
# Registers for sums by the bytes of a vector: half of those there are.
_REGISTERS = {64: 16, 32: 8}
_AT_ONCE = 4  # vectors of a row that are summed at once, at most
_LONGEST = 7  # rows and columns of taps, all written out


class _Rows(Vectors):
    """Code of a block of whole output rows."""

    def __init__(self, builder: Any, acc: str, columns: int, q: int, left: int, fill: Any) -> None:
        super().__init__(builder, acc)
        self.columns, self.q, self.left, self.fill = columns, q, left, fill

    def masks(self, width: Any) -> dict[tuple[int, int], Any]:
        """Masks by tap column and vector, where the vector may reach beyond the row."""
        found = {}
        for tap in range(self.q):
            for c in range(self.columns):
                first = c * self.lanes + tap - self.left
                if first < 0 or c == self.columns - 1:
                    found[tap, c] = self.within(ir.Constant(_INT, first), width)
        return found

    def input_row(
        self, row: Any, weights: dict[int, list[Any]], masks: Any, sums: list[dict[int, Any]]
    ) -> None:
        """Add what a row of pixels gives to the output rows that `weights` has taps for.

        `sums` are places by output row and vector.
        """
        b = self.builder
        for tap in range(self.q):
            for c in sums[0]:
                at = self.at(row, (c * self.lanes + tap - self.left) * self.size)
                mask = masks.get((tap, c))
                x = self.load(at) if mask is None else self.load_masked(at, mask, self.fill)
                for output, taps in weights.items():
                    place = sums[output][c]
                    b.store(self.multiply_add(x, taps[tap], b.load(place)), place)


def _parts(columns: int) -> list[range]:
    """Vectors of a row by those that are summed at once, as even as can be."""
    count = -(-columns // _AT_ONCE)
    ends = [columns * n // count for n in range(count + 1)]
    return [range(a, b) for a, b in itertools.pairwise(ends)]


def _block(acc: str, rows: int, columns: int, p: int, q: int, left: int) -> Any:
    @intrinsic
    def block(typingctx, table, w, width, n, fill, out, stride):
        def codegen(context, builder, signature, args):
            table, w, width, n, fill, out, stride = args
            probe = Vectors(builder, acc)
            border = probe.splat(fill)
            code = _Rows(builder, acc, columns, q, left, border)
            masks = code.masks(builder.trunc(width, _INT))
            last = ir.Constant(_INT, (columns - 1) * code.lanes)
            stored = code.within(last, builder.trunc(n, _INT))
            taps = [
                [code.splat(code.at(w, (a * q + b) * code.size)) for b in range(q)]
                for a in range(p)
            ]
            for part in _parts(columns):
                sums = [dict(zip(part, row, strict=True)) for row in code.zeros(rows, len(part))]
                for y in range(p + rows - 1):
                    row = code.load(code.at(table, y * 8), LONG)
                    weights = {o: taps[y - o] for o in range(rows) if 0 <= y - o < p}
                    code.input_row(row, weights, masks, sums)
                for o, places in enumerate(sums):
                    start = builder.add(out, builder.mul(stride, code.long(o)))
                    for c, place in places.items():
                        at = code.at(start, c * code.bytes)
                        if c == columns - 1:
                            code.store_masked(builder.load(place), at, stored)
                        else:
                            code.store(builder.load(place), at)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), codegen

    return block


# Bound anew in every piece made of `_task`.
BLOCK = ONE = ROWS = TAPS = None


def _task(d, task, x, out, weights, unused, unused2, unused3):
    """Sum one band of rows of one image."""
    bands = peek(d, F.BANDS)
    image = task // bands
    i0 = task % bands * peek(d, F.BAND)
    i1 = min(peek(d, F.R), i0 + peek(d, F.BAND))
    x += peek(peek(d, F.X_OFFSETS), image)
    out += peek(peek(d, F.OUT_OFFSETS), image)
    weights += peek(peek(d, F.WHICH), image) * peek(d, F.WEIGHTS_SIZE)
    rows, x_row, out_row = peek(d, F.ROWS), peek(d, F.X_ROW), peek(d, F.OUT_ROW)
    width, n, fill = peek(d, F.WIDTH), peek(d, F.S), d + 8 * F.FILL
    # Addresses of the rows a block reads, and a row of the border's value for those outside.
    line = peek(d, F.LINE)
    table = stack()  # TAPS + ROWS - 1 are at most 14
    i = i0
    while i < i1:
        number = ROWS
        if i + ROWS > i1:
            if i1 - i0 >= ROWS:  # the last block overlaps: the same sums once more
                i = i1 - ROWS
            else:
                number = 1
        for t in range(TAPS + number - 1):
            row = peek(rows, i + t)
            poke(table, t, line if row < 0 else x + row * x_row)
        target = out + i * out_row
        if number == 1:
            ONE(table, weights, width, n, fill, target, out_row)
        else:
            BLOCK(table, weights, width, n, fill, target, out_row)
        i += number


def fits(acc: str, n: int, width: int, p: int, q: int, left: int) -> bool:
    """Whether there is a piece for rows of `n` outputs from `width` pixels.

    That takes vectors that can be loaded under a mask, and rows that at the right only the last one
    reaches beyond.
    """
    columns = -(-n // lanes(acc))
    inner = (columns - 1) * lanes(acc) + q - 1 - left
    return (
        vector_bytes() in _REGISTERS
        and columns * vector_bytes() <= WIDEST
        and min(p, q) > 1
        and max(p, q) <= _LONGEST
        and left < q
        and inner <= width
    )


def task(acc: str, n: int, p: int, q: int, left: int) -> int:
    """Address of the piece that sums rows of `n` outputs."""
    return _piece(acc, -(-n // lanes(acc)), p, q, left)


@cache
def _piece(acc: str, columns: int, p: int, q: int, left: int) -> int:
    rows = min(8, _REGISTERS[vector_bytes()] // max(map(len, _parts(columns))))
    return compile_function(
        _task,
        f"narrow_{acc}_{rows}x{columns}_p{p}_q{q}_left{left}",
        BLOCK=_block(acc, rows, columns, p, q, left),
        ONE=_block(acc, 1, columns, p, q, left),
        ROWS=rows,
        TAPS=p,
    )
