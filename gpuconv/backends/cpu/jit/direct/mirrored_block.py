"""Emits a block of sums that adds taps from either end towards the middle (llvmlite).

`micro_kernel` says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from llvmlite import ir
from numba.core import cgutils

from ..vectors import LONG
from .register_block import RegisterBlock


class MirroredBlock(RegisterBlock):
    """Emits one block of sums in mirrored order: `sums` from the first tap, `back` from the last.

    Numbers of taps, and values computed from them, are ints if they are known at compile time.
    """

    def __init__(
        self, builder: ir.IRBuilder, acc: str, rows: int, columns: int, step: int, planes: int = 1,
        part_rows: int = 0, out: tuple[str, int] | None = None, rest: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(builder, acc, rows, columns, step, planes, part_rows, out=out, rest=rest)
        self.back = self.zeros(rows, self.parts * columns)

    def each(
        self, first: int, last: ir.Value | int, emit: Callable[[ir.Value | int], None]
    ) -> None:
        """Emit code for ``first`` to ``last - 1``: unrolled if `last` is an int, else as a loop."""
        if isinstance(last, int):
            for number in range(first, last):
                emit(number)
            return
        with cgutils.for_range(self.builder, last, start=self.long(first)) as loop:
            emit(loop.index)

    def meet(self, outputs: range, taps: ir.Value | int, middle: Callable[[], None]) -> None:
        """Add the two chains of some rows; then the middle tap, if the number of taps is odd."""
        for output in outputs:
            for place, other in zip(self.sums[output], self.back[output], strict=True):
                self.write(place, self.add(self.read(place), self.read(other)))
        if isinstance(taps, int):
            if taps % 2:
                middle()
            return
        odd = self.builder.trunc(taps, ir.IntType(1))
        with self.builder.if_then(odd):
            middle()

    def down(self, args: Sequence[ir.Value], p: int | None) -> None:
        """Add one column of taps, input row after input row from both ends."""
        table, column, w, taps_down, *_ = args
        taps = taps_down if p is None else p
        half = self.builder.lshr(taps, self.long(1)) if p is None else p // 2
        last = self.plus(taps, self.rows - 2)

        def input_row(y: ir.Value | int, outputs: range, back: bool) -> None:
            """Add row `y` to outputs counted from the same end as the rows."""
            if back:
                y = self.minus(last, y)
                outputs = range(self.rows - outputs.stop, self.rows - outputs.start)
            weights = {
                i: self.at(w, self.times(self.minus(y, i), self.weight_bytes)) for i in outputs
            }
            pixels = self.addresses(table, y, column)
            self.tap(pixels, weights, 0, self.back if back else self.sums)

        for back in (False, True):
            if p is not None:
                for y in range(p // 2 + self.rows - 1):
                    outputs = range(max(0, y - p // 2 + 1), min(self.rows - 1, y) + 1)
                    input_row(y, outputs, back)
                continue
            for y in range(self.rows - 1):
                input_row(y, range(y + 1), back)
            self.each(
                self.rows - 1, half, lambda y, back=back: input_row(y, range(self.rows), back)
            )
            for i in range(1, self.rows):
                input_row(self.plus(half, i - 1), range(i, self.rows), back)

        def middle() -> None:
            for i in range(self.rows):
                input_row(self.plus(half, i), range(i, i + 1), False)

        self.meet(range(self.rows), taps, middle)

    def across(self, args: Sequence[ir.Value], p: int | None, q: int | None) -> None:
        """Add `p` rows of taps, one after the other, to the only output row."""
        table, column, w, taps_down, taps_across, offsets, *_ = args
        taps = taps_across if q is None else q
        half = self.builder.lshr(taps, self.long(1)) if q is None else q // 2

        rows: dict[ir.Value | int, list[ir.Value]] = {}

        def tap(a: ir.Value | int, number: ir.Value | int, sums: list[list[ir.Value]]) -> None:
            if q is None:
                at = self.load(self.at(offsets, self.times(number, 8)), LONG)
            else:
                at = self.times(number, self.step_bytes)
            if q is None or a not in rows:
                rows[a] = self.addresses(table, a, column)
            first = self.at(w, self.times(a, self.times(taps, self.weight_bytes)))
            weight = self.times(number, self.weight_bytes)
            self.tap(rows[a], {0: first}, weight, sums, distance=at)

        last, down = self.minus(taps, 1), taps_down if p is None else p

        def half_row(a: ir.Value | int, back: bool) -> None:
            sums = self.back if back else self.sums

            def one(number: ir.Value | int) -> None:
                tap(a, self.minus(last, number) if back else number, sums)

            def group(first: ir.Value, size: int) -> None:
                order = range(size)
                if back:
                    first = self.value(self.minus(last, self.plus(first, size - 1)))
                    order = order[::-1]
                at = self.at(column, self.times(first, self.size))
                pixels = self.addresses(table, a, at)
                of_row = self.at(w, self.times(a, self.times(taps, self.weight_bytes)))
                weight = self.times(first, self.weight_bytes)
                for n in order:
                    offset = self.plus(weight, n * self.weight_bytes)
                    self.tap(pixels, {0: of_row}, offset, sums, distance=n * self.size)

            if q is None:
                self.loop_over_taps(half, one, group)
                return
            with self.hold():
                self.each(0, half, one)

        for back in (False, True):
            self.each(0, down, partial(half_row, back=back))
        self.meet(range(1), taps, partial(self.each, 0, down, lambda a: tap(a, half, self.sums)))


def emit_mirrored(
    block: MirroredBlock, args: Sequence[ir.Value], down: bool, p: int | None, q: int | None,
    stream: bool,
) -> None:  # fmt: skip
    """Emit the code of a block in mirrored order, down a column of taps or across each row."""
    with block.hold(straight=p is not None and (down or q is not None)):
        if down:
            block.down(args, p)
        else:
            block.across(args, p, q)
        block.finish(*args[-2:], stream)
