"""Direct sums of narrow images: whole rows in registers (llvmlite).

An image no wider than a few vectors is read in place: vectors that reach beyond a row are loaded
under a mask, and lanes beside the row get what the border holds there, a constant or pixels of the
same row. Nothing is copied or padded. A sum adds its taps in the order of `micro_kernel`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..emitted_functions import compile_emitted
from ..functions import compile_function
from ..intrinsics import call, load_int, smaller, store_int
from ..params import FILL
from ..row_buffer import row_source
from ..vectors import LONG, Vectors, lanes, vector_bytes
from .column_sums import direct_params

_INT = ir.IntType(32)
WIDEST = 256  # bytes of a row of outputs
# Registers for sums, by the bytes of a vector: half of all.
_REGISTERS = {64: 16, 32: 8}
_AT_ONCE = 4  # vectors of a row that are summed at once, at most
_MOST_ROWS = 8  # of a block
_LONGEST = 7  # rows and columns of taps, all unrolled
# Rows that are summed in a call; a table of their input rows is on the stack.
_ROWS_AT_ONCE = 64
_TABLE_ROWS = max(_ROWS_AT_ONCE, _MOST_ROWS) + _LONGEST - 1


def _allocate_on_stack(builder: ir.IRBuilder, kind: ir.Type) -> ir.Value:
    """Return the address of memory on the stack, which is not cleared as by `alloca_once`."""
    with builder.goto_entry_block():
        place = builder.alloca(kind)
    return builder.ptrtoint(place, LONG)


class _Rows(Vectors):
    """Emits the code of a block of whole output rows."""

    def __init__(
        self, builder: ir.IRBuilder, acc: str, columns: int, q: int, left: int, right: int | None
    ) -> None:
        super().__init__(builder, acc)
        self.columns, self.q, self.left, self.right = columns, q, left, right

    def masks(self, width: ir.Value) -> dict[tuple[int, int], ir.Value]:
        """Return masks of vectors that may reach beyond the row, by column of taps and vector."""
        found = {}
        for tap in range(self.q):
            for c in range(self.columns):
                first = c * self.lanes + tap - self.left
                if first < 0 or c == self.columns - 1:
                    found[tap, c] = self.within(ir.Constant(_INT, first), width)
        return found

    def read_border(self, beside: ir.Value, width: ir.Value) -> None:
        """Read the border beside the rows from the address `beside` (see `_emit_rows`)."""
        b = self.builder
        self.fill: ir.Value | None = None
        if self.right is None:
            self.fill = self.splat(beside)
            return
        # Distances from a row's first pixel to those that the border repeats, left and then right.
        places = [self.long(e) for e in range(self.left)]
        places += [b.add(width, self.long(self.left + e)) for e in range(self.right)]
        self.distances = [
            b.mul(self.load(b.add(beside, b.mul(place, self.long(8))), LONG), self.long(self.size))
            for place in places
        ]
        self.width = b.trunc(width, _INT)
        self.chosen = {
            (tap, c): self._choose(tap, c) for tap in range(self.q) for c in range(self.columns)
        }

    def _choose(self, tap: int, c: int) -> list[tuple[int, ir.Value | None]]:
        """List the pixels beside a row that a vector holds, with masks of the lanes to put them in.

        A pixel is put in its own lane and all later ones, where it replaces the pixels before it.
        The first needs no mask (None).
        """
        b, first = self.builder, c * self.lanes + tap - self.left
        found: list[tuple[int, ir.Value | None]] = []
        for e in range(self.left):
            lane = e - self.left - first
            if 0 <= lane < self.lanes:
                places = ir.VectorType(ir.IntType(1), self.lanes)
                mask = ir.Constant(places, [place >= lane for place in range(self.lanes)])
                found.append((e, mask if found else None))
        # An output in the last column reads all columns of the border on the right, except those
        # that only later taps read.
        assert self.right is not None
        for e in range(self.right - (self.q - 1 - tap) if c == self.columns - 1 else 0):
            # Both are counted from the first column on the left, so that none is negative.
            start = b.add(self.width, ir.Constant(_INT, self.left + e))
            mask = b.not_(self.within(ir.Constant(_INT, first + self.left), start))
            found.append((self.left + e, mask if found else None))
        return found

    def beside(self, row: ir.Value, tap: int, c: int, pixels: dict[int, ir.Value]) -> ir.Value:
        """Return what a vector that is loaded under a mask holds beside the row.

        `pixels` are the border's pixels of this row that have been read already.
        """
        if self.fill is not None:
            return self.fill
        value: ir.Value = ir.Constant(self.kind, ir.Undefined)
        for place, mask in self.chosen[tap, c]:
            if place not in pixels:
                pixels[place] = self.splat(self.builder.add(row, self.distances[place]))
            held = pixels[place]
            value = held if mask is None else self.builder.select(mask, held, value)
        return value

    def input_row(
        self, row: ir.Value, weights: dict[int, list[ir.Value]],
        masks: dict[tuple[int, int], ir.Value], sums: list[dict[int, ir.Value]],
    ) -> None:  # fmt: skip
        """Add a row of pixels to some output rows, times their `weights` by output row.

        `sums` are the sums so far, by output row and vector.
        """
        pixels: dict[int, ir.Value] = {}
        for tap in range(self.q):
            for c in sums[0]:
                at = self.at(row, (c * self.lanes + tap - self.left) * self.size)
                mask = masks.get((tap, c))
                if mask is None:
                    x = self.load(at)
                else:
                    x = self.load_masked(at, mask, self.beside(row, tap, c, pixels))
                for output, taps in weights.items():
                    sums[output][c] = self.multiply_add(x, taps[tap], sums[output][c])

    def keep_order(self, sums: list[dict[int, ir.Value]]) -> None:
        """Let sums be as they are before anything that follows is computed.

        LLVM would load pixels of later rows first, and have no registers for them. The instruction
        that does so is empty.
        """
        places = [(row, c) for row in sums for c in row]
        values = [row[c] for row, c in places]
        register = "v" if self.bytes == 64 else "x"
        constraints = [f"={register}"] * len(values) + list(map(str, range(len(values))))
        kinds = [value.type for value in values]
        result = kinds[0] if len(kinds) == 1 else ir.LiteralStructType(kinds)
        empty = ir.InlineAsm(
            ir.FunctionType(result, kinds), "", ",".join(constraints), side_effect=True
        )
        found = self.builder.call(empty, values)
        for n, (row, c) in enumerate(places):
            row[c] = found if len(kinds) == 1 else self.builder.extract_value(found, n)

    def output_row(self, sums: dict[int, ir.Value], address: ir.Value, last: ir.Value) -> None:
        """Write a row of sums; of the last vector only the lanes of a mask."""
        for c, value in sums.items():
            at = self.at(address, c * self.bytes)
            if c == self.columns - 1:
                self.store_masked(value, at, last)
            else:
                self.store(value, at)

    def block(
        self, rows: int, table: ir.Value, taps: list[list[ir.Value]],
        masks: dict[tuple[int, int], ir.Value], out: ir.Value, stride: ir.Value, written: ir.Value,
        last: ir.Value,
    ) -> None:  # fmt: skip
        """Sum a block of rows, of which only the first `written` are stored.

        `last` is the mask of the last vector of a row of outputs.
        """
        b, p = self.builder, len(taps)
        # The others are written to memory that is never read: in code with a branch the compiler
        # would sum each row separately.
        unread = _allocate_on_stack(b, ir.ArrayType(self.kind, self.columns))
        starts = [b.add(out, b.mul(stride, self.long(o))) for o in range(rows)]
        for o in range(1, rows):
            there = b.icmp_signed(">", written, self.long(o))
            starts[o] = b.select(there, starts[o], unread)
        zero = self.constant(0 if self.whole else 0.0)
        for group in _groups(self.columns):
            sums = [dict.fromkeys(group, zero) for _ in range(rows)]
            for y in range(p + rows - 1):
                row = self.load(self.at(table, y * 8), LONG)
                weights = {o: taps[y - o] for o in range(rows) if 0 <= y - o < p}
                self.input_row(row, weights, masks, sums)
                self.keep_order([sums[o] for o in weights])
            for o in range(rows):
                self.output_row(sums[o], starts[o], last)


def _groups(columns: int) -> list[range]:
    """Divide the vectors of a row evenly into groups that are summed at once."""
    count = -(-columns // _AT_ONCE)
    ends = [columns * n // count for n in range(count + 1)]
    return [range(a, b) for a, b in itertools.pairwise(ends)]


def _emit_rows(
    acc: str, rows: int, columns: int, p: int, q: int, left: int, right: int | None,
    b: ir.IRBuilder, args: Sequence[ir.Value],
) -> None:  # fmt: skip
    """Emit the sums of `count` rows of `n` outputs, block after block.

    `table` holds the addresses of the input rows, of `width` pixels, and `w` the weights. At
    `beside` is the fill value or, if the border repeats pixels (`right` is not None), the table of
    the pixel at each padded column. Output rows are `stride` bytes apart. If there are fewer rows
    than in a block, the table still has all input rows that a block reads.
    """
    table, w, width, n, beside, out, stride, count = args
    block = _Rows(b, acc, columns, q, left, right)
    block.read_border(beside, width)
    masks = block.masks(b.trunc(width, _INT))
    last = block.within(ir.Constant(_INT, (columns - 1) * block.lanes), b.trunc(n, _INT))
    # With fewer rows than in a block, a whole block is summed, and only these rows are written.
    few = b.icmp_signed("<", count, block.long(rows))
    written = b.select(few, count, block.long(rows))
    blocks = b.udiv(b.add(count, block.long(rows - 1)), block.long(rows))
    with cgutils.for_range(b, blocks) as loop:
        first, most = b.mul(loop.index, block.long(rows)), b.sub(count, written)
        # The last block may overlap, and compute the same sums once more.
        first = b.select(b.icmp_signed("<", first, most), first, most)
        inputs = b.add(table, b.mul(first, block.long(8)))
        outputs = b.add(out, b.mul(first, stride))
        taps = [
            [block.splat(block.at(w, (y * q + x) * block.size)) for x in range(q)] for y in range(p)
        ]
        block.block(rows, inputs, taps, masks, outputs, stride, written, last)


@intrinsic
def _table(typingctx):
    """Return the address of _TABLE_ROWS integers on the stack (compiled code only)."""

    def codegen(context, builder, signature, args):
        return _allocate_on_stack(builder, ir.ArrayType(LONG, _TABLE_ROWS))

    return types.int64(), codegen


def _sum_task(address, number, x, out, weights, unused, unused2, unused3):
    """Sum one band of rows of one image."""
    params = direct_params(address)
    source = row_source(params.row_source)
    bands, x_row, out_row, p = params.bands, source.row_stride, params.out_row_stride, params.p
    image, first = number // bands, number % bands * params.band
    end = smaller(params.out_rows, first + params.band)
    x += load_int(params.x_offsets, image)
    out += load_int(params.out_offsets, image)
    weights += load_int(params.kernel_index, image) * params.weights_bytes
    width, n = source.width, params.out_columns
    beside = source.columns if params.repeats_pixels else params.row_source + FILL
    # Addresses of input rows; for rows outside the image, and for those that no output needs, that
    # of a row of the fill value.
    table, rows, fill_row = _table(), source.rows, params.fill_row
    for i in range(first, end, _ROWS_AT_ONCE):
        count = smaller(_ROWS_AT_ONCE, end - i)
        for t in range(count + p - 1):
            row = load_int(rows, i + t)
            store_int(table, t, fill_row if row < 0 else x + row * x_row)
        for t in range(count + p - 1, _MOST_ROWS + p - 1):
            store_int(table, t, fill_row)
        call(
            params.sum_whole_rows, table, weights, width, n, beside, out + i * out_row, out_row,
            count,
        )  # fmt: skip


def fits(acc: str, n: int, width: int, p: int, q: int, left: int, right: int | None) -> bool:
    """Whether rows of `n` outputs from `width` pixels can be summed whole.

    That needs vectors that can be loaded under a mask, and rows beyond whose right end only the
    last vector reaches. The borders are as in `sum_whole_rows`.
    """
    columns = -(-n // lanes(acc))
    inner = (columns - 1) * lanes(acc) + q - 1 - left
    return (
        vector_bytes() in _REGISTERS
        and columns * vector_bytes() <= WIDEST
        and min(p, q) > 1
        and max(p, q) <= _LONGEST
        and max(left, right or 0) < q
        and inner <= width
    )


def sum_whole_rows(acc: str, n: int, p: int, q: int, left: int, right: int | None) -> int:
    """Return the address of the jit function that sums rows of `n` outputs.

    The border has `left` and `right` columns beside a row; `right` is None if it is a constant.
    """
    return _compiled_sum_whole_rows(acc, -(-n // lanes(acc)), p, q, left, right)


@cache
def _compiled_sum_whole_rows(
    acc: str, columns: int, p: int, q: int, left: int, right: int | None
) -> int:
    rows = min(_MOST_ROWS, _REGISTERS[vector_bytes()] // max(map(len, _groups(columns))))
    beside = f"left{left}" if right is None else f"left{left}_right{right}"
    name = f"narrow_{acc}_{rows}x{columns}_p{p}_q{q}_{beside}"
    return compile_emitted(name, _emit_rows, acc, rows, columns, p, q, left, right)


@cache
def sum_task() -> int:
    """Return the address of the jit function that sums a task."""
    return compile_function(_sum_task, "narrow_sum_task")
