"""Direct sums of narrow images with a constant border: whole rows in registers (llvmlite).

An image no wider than a few vectors is read where it is: vectors that reach beyond a row are
loaded under a mask that puts the border's value there. Nothing is copied or padded, and one call
sums a whole image. A sum takes its taps in the order of `micro_kernel`.
"""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .direct_driver import direct_params
from .functions import compile_function, load_int, stack, store_int
from .params import FILL
from .row_buffer import row_source
from .vectors import LONG, Vectors, lanes, vector_bytes

_INT = ir.IntType(32)
WIDEST = 256  # bytes of a row of outputs
# Registers for sums by the bytes of a vector: half of those there are.
_REGISTERS = {64: 16, 32: 8}
_AT_ONCE = 4  # vectors of a row that are summed at once, at most
_LONGEST = 7  # rows and columns of taps, all written out


class _Rows(Vectors):
    """Emits the code of a block of whole output rows."""

    def __init__(self, builder: Any, acc: str, columns: int, q: int, left: int, fill: Any) -> None:
        super().__init__(builder, acc)
        self.columns, self.q, self.left, self.fill = columns, q, left, fill

    def masks(self, width: Any) -> dict[tuple[int, int], Any]:
        """Masks of the vectors that may reach beyond the row, by column of taps and vector."""
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
        """Add a row of pixels, times its weights, to the output rows that `weights` has them for.

        `sums` are the addresses of sums by output row and vector.
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


def _groups(columns: int) -> list[range]:
    """Group the vectors of a row by those that are summed at once, as evenly as possible."""
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
            for group in _groups(columns):
                sums = [dict(zip(group, row, strict=True)) for row in code.zeros(rows, len(group))]
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


# Bound to other values in every function compiled from `_sum_task`.
SUM_BLOCK = SUM_ROW = ROWS = TAPS = None


def _sum_task(address, number, x, out, weights, unused, unused2, unused3):
    """Sum one band of rows of one image."""
    params = direct_params(address)
    source = row_source(params.row_source)
    bands, x_row, out_row = params.bands, source.row_stride, params.out_row_stride
    image, first = number // bands, number % bands * params.band
    end = min(params.out_rows, first + params.band)
    x += load_int(params.x_offsets, image)
    out += load_int(params.out_offsets, image)
    weights += load_int(params.kernel_index, image) * params.weights_bytes
    width, n, fill = source.width, params.out_columns, params.row_source + FILL
    # Addresses of the rows that a block reads; outside of the image it is a row of the border's
    # value.
    table = stack()  # TAPS + ROWS - 1 are at most 14
    i = first
    while i < end:
        count = ROWS
        if i + ROWS > end:
            if end - first >= ROWS:  # the last block overlaps: the same sums once more
                i = end - ROWS
            else:
                count = 1
        for t in range(TAPS + count - 1):
            row = load_int(source.rows, i + t)
            store_int(table, t, params.fill_row if row < 0 else x + row * x_row)
        target = out + i * out_row
        if count == 1:
            SUM_ROW(table, weights, width, n, fill, target, out_row)
        else:
            SUM_BLOCK(table, weights, width, n, fill, target, out_row)
        i += count


def fits(acc: str, n: int, width: int, p: int, q: int, left: int) -> bool:
    """Whether rows of `n` outputs from `width` pixels can be summed whole.

    That takes vectors that can be loaded under a mask, and rows that only the last vector reaches
    beyond at the right.
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


def sum_task(acc: str, n: int, p: int, q: int, left: int) -> int:
    """Address of the jit function that sums a task with rows of `n` outputs."""
    return _compiled_sum_task(acc, -(-n // lanes(acc)), p, q, left)


@cache
def _compiled_sum_task(acc: str, columns: int, p: int, q: int, left: int) -> int:
    rows = min(8, _REGISTERS[vector_bytes()] // max(map(len, _groups(columns))))
    return compile_function(
        _sum_task,
        f"narrow_{acc}_{rows}x{columns}_p{p}_q{q}_left{left}",
        SUM_BLOCK=_block(acc, rows, columns, p, q, left),
        SUM_ROW=_block(acc, 1, columns, p, q, left),
        ROWS=rows,
        TAPS=p,
    )
