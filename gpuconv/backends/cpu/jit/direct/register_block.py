"""Emits a block of sums that stays in registers while all taps are added to it (llvmlite)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from .....core import dtypes
from ..params import LINE_BYTES
from ..saturated_results import emit_saturated
from ..vectors import LONG, Vectors, vector_bytes

# Adjacent columns of taps that are unrolled in a loop over all of them.
GROUP = 8


class RegisterBlock(Vectors):
    """Emits the code of one block of sums.

    Sums of complex numbers are two blocks, of real and of imaginary parts. The table of rows then
    has two addresses for each row, weights are interleaved complex numbers, and the rows of
    imaginary parts are written after those of real parts. The same holds for two real `planes` of
    pixels, except that the weights, the same for both, are real.
    """

    def __init__(
        self, builder: ir.IRBuilder, acc: str, rows: int, columns: int, step: int, planes: int = 1,
        part_rows: int = 0, order: tuple[int, ...] = (), out: tuple[str, int] | None = None,
        rest: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(builder, dtypes.part(acc))
        self.order = order  # of unrolled columns of taps; empty: left to right
        # Of adjacent columns of taps in a loop, those left over by groups of `GROUP`; else None.
        self.rest = rest
        # What sums are converted to, as a dtype and a divisor (see `saturated_results`), or None.
        self.acc, self.out = acc, out
        self.part_rows = part_rows or rows  # from a row of real parts to that of imaginary parts
        self.rows, self.columns, self.step_bytes = rows, columns, step * self.size
        self.weight_parts = 2 if np.dtype(acc).kind == "c" else 1
        self.parts = max(self.weight_parts, planes)
        self.weight_bytes = self.weight_parts * self.size
        # By output row: vectors of real parts, then those of imaginary parts.
        self.sums = self.zeros(rows, self.parts * columns)
        # Values of variables that are not yet stored.
        self.held: dict[ir.Value, ir.Value] | None = None
        # Pixels of the first column of taps, by address, while straight code is emitted.
        self.first_pixels: dict[ir.Value, list[ir.Value]] = {}
        self.cuts = rows == 1 and cuts_pixels(self.size)

    @contextmanager
    def hold(self, straight: bool = True) -> Iterator[None]:
        """Keep sums as values while `straight` code, without a branch, is emitted; then store them.

        That emits a third of the instructions, which compile faster.
        """
        if self.held is not None or not straight:
            yield
            return
        self.held = {}
        try:
            yield
            for place, value in self.held.items():
                self.builder.store(value, place)
        finally:
            self.held, self.first_pixels = None, {}

    def read(self, place: ir.Value) -> ir.Value:
        """Return the value of a variable."""
        if self.held is None or place not in self.held:
            return self.builder.load(place)
        return self.held[place]

    def write(self, place: ir.Value, value: ir.Value) -> None:
        """Set a variable."""
        if self.held is None:
            self.builder.store(value, place)
        else:
            self.held[place] = value

    def value(self, number: ir.Value | int) -> ir.Value:
        """Return a number, which may be an int known at compile time, as a value of the code."""
        return self.long(number) if isinstance(number, int) else number

    def plus(self, a: ir.Value | int, b: ir.Value | int) -> ir.Value | int:
        """Return the sum of two numbers."""
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        return self.builder.add(self.value(a), self.value(b))

    def minus(self, a: ir.Value | int, b: ir.Value | int) -> ir.Value | int:
        """Return the difference of two numbers."""
        if isinstance(a, int) and isinstance(b, int):
            return a - b
        return self.builder.sub(self.value(a), self.value(b))

    def times(self, a: ir.Value | int, b: ir.Value | int) -> ir.Value | int:
        """Return the product of two numbers."""
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        return self.builder.mul(self.value(a), self.value(b))

    def addresses(
        self, table: ir.Value, y: ir.Value | int, distance: ir.Value | int
    ) -> list[ir.Value]:
        """Return the addresses in input row `y`, for each part, at a distance in bytes."""
        entry = self.at(table, self.times(y, 8 * self.parts))
        return [
            self.at(self.load(self.at(entry, 8 * part), LONG), distance)
            for part in range(self.parts)
        ]

    def pixels(self, address: ir.Value, distance: ir.Value | int) -> list[ir.Value]:
        """Return the vectors of a row at a distance in bytes from where its first tap reads."""

        def load(distance: ir.Value | int, c: int) -> ir.Value:
            return self.load(self.at(self.at(address, distance), c * self.bytes))

        straight = self.cuts and self.held is not None and isinstance(distance, int)
        if not straight or distance >= self.columns * self.bytes:
            return [load(distance, c) for c in range(self.columns)]
        first = self.first_pixels.get(address)
        if first is None:
            first = [load(0, c) for c in range(self.columns)]
            self.first_pixels[address] = first
        further, lane = divmod(distance // self.size, self.lanes)
        order = list(range(lane, lane + self.lanes))

        def vector(c: int) -> ir.Value:
            if lane == 0 and c + further < self.columns:
                return first[c + further]
            # As many are loaded as are cut out, so that both kinds of instructions are busy.
            if c % 2 or c + further + 1 >= self.columns:
                return load(distance, c)
            return self.shuffle(*first[c + further : c + further + 2], order)

        return [vector(c) for c in range(self.columns)]

    def tap(
        self, pixels: list[ir.Value], weights: dict[int, ir.Value], offset: ir.Value | int,
        sums: list[list[ir.Value]] | None = None, distance: ir.Value | int = 0,
    ) -> None:  # fmt: skip
        """Add one tap to each output row: pixels and the output rows' weights are given by address.

        Its pixels are at a distance in bytes from those of the first tap.

        Every sum of complex numbers adds the product with the real part of the pixel first, so that
        the order is the same wherever the output is in a block.
        """
        b, sums = self.builder, sums or self.sums
        vectors = [self.pixels(address, distance) for address in pixels]
        for row, address in weights.items():
            at = self.at(address, offset)
            weight = [
                self.splat(self.at(at, part * self.size)) for part in range(self.weight_parts)
            ]
            for n, factors in enumerate(vectors):
                if self.weight_parts == 1:
                    for c, x in enumerate(factors):
                        place = sums[row][n * self.columns + c]
                        self.write(place, self.multiply_add(x, weight[0], self.read(place)))
                    continue
                for part in range(self.parts):
                    w = weight[(n + part) % 2]
                    for c, x in enumerate(factors):
                        place = sums[row][part * self.columns + c]
                        x = b.fneg(x) if n > part else x
                        self.write(place, self.multiply_add(x, w, self.read(place)))

    def input_row(
        self, y: ir.Value | int, outputs: range, args: Sequence[ir.Value], q: int | None
    ) -> None:
        """Add the products of input row `y` of the block to the output rows in `outputs`."""
        b = self.builder
        table, column, w, taps, offsets = args
        pixels = self.addresses(table, y, column)
        width = self.times(taps if q is None else q, self.weight_bytes)
        weights = {i: self.at(w, self.times(self.minus(y, i), width)) for i in outputs}
        if q is not None:
            with self.hold():
                for tap in self.order or range(q):
                    at = tap * self.step_bytes
                    self.tap(pixels, weights, tap * self.weight_bytes, distance=at)
            return

        def tap(number: ir.Value) -> None:
            at = self.load(b.add(offsets, b.mul(number, self.long(8))), LONG)
            self.tap(pixels, weights, b.mul(number, self.long(self.weight_bytes)), distance=at)

        def group(first: ir.Value, size: int) -> None:
            moved = [b.add(address, b.mul(first, self.long(self.size))) for address in pixels]
            weight = b.mul(first, self.long(self.weight_bytes))
            for n in range(size):
                offset = self.at(weight, n * self.weight_bytes)
                self.tap(moved, weights, offset, distance=n * self.size)

        self.loop_over_taps(taps, tap, group)

    def loop_over_taps(
        self, count: ir.Value, tap: Callable[[ir.Value], None],
        group: Callable[[ir.Value, int], None],
    ) -> None:  # fmt: skip
        """Emit a loop over columns of taps, adjacent ones in groups.

        `tap` emits the code of one, and `group` that of a number of them from one on.
        """
        b = self.builder
        if self.rest is None:
            with cgutils.for_range(b, count) as loop, self.hold():
                tap(loop.index)
            return
        size = self.long(GROUP)
        groups = b.udiv(count, size)
        with cgutils.for_range(b, groups) as loop, self.hold():
            group(b.mul(loop.index, size), GROUP)
        with self.hold():
            group(b.mul(groups, size), self.rest)

    def finish(self, out: ir.Value, stride: ir.Value, stream: bool) -> None:
        """Write the sums."""
        b = self.builder
        for i, row in enumerate(self.sums):
            if self.out:
                start = b.add(out, b.mul(stride, self.long(i)))
                emit_saturated(
                    self, [self.read(place) for place in row], self.acc, *self.out, start
                )
                continue
            for n, place in enumerate(row):
                part, c = divmod(n, self.columns)
                start = b.add(out, b.mul(stride, self.long(part * self.part_rows + i)))
                self.store(self.read(place), self.at(start, c * self.bytes), stream)


def cuts_pixels(size: int) -> bool:
    """Whether some vectors of pixels of a size are cut out of two others for a single output row.

    Every vector that is loaded feeds one multiply-add then, and most span two cache lines, so that
    loads take twice as long as multiply-adds. Shorter vectors span two lines half as often.
    """
    return vector_bytes() == LINE_BYTES and size >= 4


def emit(
    block: RegisterBlock, args: Sequence[ir.Value], p: int | None, q: int | None, stream: bool
) -> None:
    """Emit the code of a block for p by q unrolled taps; None: in a loop."""
    b = block.builder
    table, column, w, taps_down, taps, offsets, out, stride = args
    common = (table, column, w, taps, offsets)
    rows = block.rows
    if p is not None:
        with block.hold(straight=q is not None):
            for y in range(p + rows - 1):
                outputs = range(max(0, y - p + 1), min(rows - 1, y) + 1)
                block.input_row(y, outputs, common, q)
            block.finish(out, stride, stream)
        return
    # There are at least as many rows of taps as of outputs.
    for y in range(rows - 1):
        block.input_row(y, range(y + 1), common, q)
    with cgutils.for_range(b, taps_down, start=block.long(rows - 1)) as loop:
        block.input_row(loop.index, range(rows), common, q)
    for i in range(1, rows):
        block.input_row(block.plus(taps_down, i - 1), range(i, rows), common, q)
    block.finish(out, stride, stream)
