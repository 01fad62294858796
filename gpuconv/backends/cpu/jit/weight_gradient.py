"""Gradient with respect to the kernel: one dot product of two images for every tap (llvmlite).

The work is cut into tasks by the problem alone, never by the number of threads; every task leaves
its sums in float64 in a place of its own, and those are added in order afterwards. So the result
has the same bits for any number of threads. The dot products of a group of taps are summed at once,
each in as many parts as a vector is wide, in registers over `AT_ONCE` rows of outputs. Outputs'
rows that read the same row of pixels are taken together: each vector of pixels loaded is used by
all of them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from . import fields as F
from .drivers import variants
from .functions import allocate, call, compile_function, count_up, peek, pointer, poke, release
from .vectors import LONG, Vectors, vector_bytes

_INT = ir.IntType(32)
# Rows of outputs taken together.
_ROWS = 4


class _Dots(Vectors):
    """Code of the dot products of down x across taps."""

    def __init__(self, builder: Any, acc: str, down: int, across: int) -> None:
        super().__init__(builder, acc)
        self.down, self.across = down, across
        self.sums = self.zeros(down, across)

    def add(self, rows: list[Any], offsets: list[Any], outputs: list[Any], mask: Any) -> None:
        """Add a vector of each row of outputs times the pixels it reads, all at addresses."""
        b, zero = self.builder, self.constant(0.0)

        def load(address: Any) -> Any:
            return self.load(address) if mask is None else self.load_masked(address, mask, zero)

        ys = [load(address) for address in outputs]
        for t, row in enumerate(rows):
            for tap, offset in enumerate(offsets):
                x = load(self.at(row, offset))
                for r, y in enumerate(ys):
                    if 0 <= t - r < self.down:
                        place = self.sums[t - r][tap]
                        b.store(self.multiply_add(x, y, b.load(place)), place)

    def finish(self, total: Any, pitch: Any) -> None:
        """Add the sums to float64 numbers, whose rows are `pitch` bytes apart."""
        b, double = self.builder, ir.DoubleType()
        for a, row in enumerate(self.sums):
            start = b.add(total, b.mul(pitch, self.long(a)))
            for tap, place in enumerate(row):
                value, n = b.load(place), self.lanes
                if self.size == 4:
                    value = b.fpext(value, ir.VectorType(double, n))
                while n > 1:
                    n //= 2
                    low = self.shuffle(value, value, list(range(n)))
                    value = b.fadd(low, self.shuffle(value, value, list(range(n, 2 * n))))
                value = b.extract_element(value, ir.Constant(_INT, 0))
                target = b.inttoptr(self.at(start, 8 * tap), double.as_pointer())
                b.store(b.fadd(b.load(target), value), target)


def _group(acc: str, down: int, across: int, unit: bool) -> Any:
    @intrinsic
    def group(typingctx, xs, ys, rows, step, n, offsets, total, pitch):
        def codegen(context, builder, signature, args):
            xs, ys, rows, step, n, offsets, total, pitch = args
            code, b = _Dots(builder, acc, down, across), builder
            first = code.load(offsets, LONG)
            places = [code.at(first, tap * code.size) for tap in range(across)]
            if not unit:
                places = [code.load(code.at(offsets, 8 * tap), LONG) for tap in range(across)]
            lanes = code.long(code.lanes)
            whole, rest = b.udiv(n, lanes), b.urem(n, lanes)
            mask = code.within(ir.Constant(_INT, 0), b.trunc(rest, _INT))

            def together(number: int, index: Any) -> None:
                at = b.add(xs, b.mul(b.mul(index, step), code.long(8)))
                sources = [code.load(code.at(at, 8 * t), LONG) for t in range(down + number - 1)]
                at = b.add(ys, b.mul(index, code.long(8)))
                outputs = [code.load(code.at(at, 8 * r), LONG) for r in range(number)]

                def some(distance: Any, mask: Any) -> None:
                    code.add(
                        [b.add(row, distance) for row in sources],
                        places,
                        [b.add(row, distance) for row in outputs],
                        mask,
                    )

                with cgutils.for_range(b, whole) as loop:
                    some(b.mul(loop.index, code.long(code.bytes)), None)
                with b.if_then(b.icmp_unsigned("!=", rest, code.long(0))):
                    some(b.mul(whole, code.long(code.bytes)), mask)

            number = code.long(_ROWS)
            shared = b.icmp_unsigned("==", step, code.long(1))
            blocks = b.select(shared, b.udiv(rows, number), code.long(0))
            with cgutils.for_range(b, blocks) as loop:
                together(_ROWS, b.mul(loop.index, number))
            with cgutils.for_range(b, rows, start=b.mul(blocks, number)) as loop:
                together(1, loop.index)
            code.finish(total, pitch)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 8), codegen

    return group


# Bound anew in every piece.
GROUP = None


def _dots(xs, ys, rows, step, n, offsets, total, pitch):
    """Dot products of `rows` rows of `n` outputs with the pixels under each tap of a group.

    `xs` and `ys` hold the addresses of rows of pixels and of outputs; the first row that an output
    reads is `step` further for each, and where that is 1 they share rows. `offsets` are the bytes
    to each column of taps.
    """
    GROUP(xs, ys, rows, step, n, offsets, total, pitch)


def _task(d, task, x, dy, units, begins, ends, partial):
    """Add up the units (image, first and last row) of a task."""
    size, p, q, s = peek(d, F.SIZE), peek(d, F.P), peek(d, F.Q), peek(d, F.S)
    strip, line, slots = peek(d, F.STRIP), peek(d, F.PITCH), peek(d, F.SLOTS)
    stride, dilation, at_once = peek(d, F.STRIDE_Y), peek(d, F.DILATION_Y), peek(d, F.AT_ONCE)
    stride_x, span = peek(d, F.STRIDE_X), peek(d, F.SPAN_X)
    rows, x_row, given = peek(d, F.ROWS), peek(d, F.X_ROW), peek(d, F.GIVEN)
    phases = dilation if stride == 1 else 1
    step = 1 if stride == 1 else p
    groups, offsets = peek(d, F.GROUPS), peek(d, F.OFFSETS)
    # A ring of rows of pixels, a row of the border's value, rows of outputs, addresses of rows.
    given_bytes = at_once * strip * size if given else 0
    table_bytes = 8 * (at_once * (step + 1) + p)
    memory = allocate((slots + 1) * line * size + given_bytes + table_bytes + 4 * 64)
    if memory == 0:
        count_up(d, F.FAILED)
        return
    ring = (memory + 63) // 64 * 64
    fill = (ring + slots * line * size + 63) // 64 * 64
    lines = (fill + line * size + 63) // 64 * 64
    xs = (lines + given_bytes + 7) // 8 * 8
    ys = xs + 8 * (at_once * step + p)
    total = partial + task * p * q * 8
    carray(pointer(fill), (line * size // 4,), np.int32)[:] = 0
    for j in range(line):
        if size == 4:
            carray(pointer(fill + 4 * j), (1,), np.int32)[0] = np.int32(peek(d, F.FILL))
        else:
            poke(fill, j, peek(d, F.FILL))
    for unit in range(peek(begins, task), peek(ends, task)):
        image, i0, i1 = peek(units, 3 * unit), peek(units, 3 * unit + 1), peek(units, 3 * unit + 2)
        pixels = x + peek(peek(d, F.X_OFFSETS), image)
        outputs = dy + peek(peek(d, F.OUT_OFFSETS), image)
        for j0 in range(0, s, strip):
            n = min(s - j0, strip)
            column = j0 - peek(d, F.LEFT)
            inside = (
                peek(d, F.PLACE_IN) != 0
                and column >= 0
                and column + n + span - 1 <= peek(d, F.WIDTH)
            )
            loaded = 0
            for i in range(i0, i1, at_once):
                number = min(at_once, i1 - i)
                if not inside:
                    last = (i + number - 1) * stride + (p - 1) * dilation + 1
                    loaded = max(loaded, i * stride)
                    call(
                        peek(d, F.LOAD), peek(d, F.SOURCE), pixels, loaded, last, j0 * stride_x,
                        (n - 1) * stride_x + span, ring, line,
                    )  # fmt: skip
                    loaded = last
                if given:
                    call(
                        peek(given, F.LOAD),
                        peek(given, F.SOURCE),
                        outputs,
                        i,
                        i + number,
                        j0,
                        n,
                        lines,
                        strip,
                    )
                for phase in range(min(phases, number)):
                    m = (number - phase + phases - 1) // phases
                    for k in range((m + p - 1) if step == 1 else m * p):
                        if stride == 1:
                            y = i + phase + k * dilation
                        else:
                            y = (i + k // p) * stride + k % p * dilation
                        if not inside:
                            poke(xs, k, ring + y % slots * line * size)
                        else:
                            row = peek(rows, y)
                            where = pixels + row * x_row + column * size
                            poke(xs, k, fill if row < 0 else where)
                    for k in range(m):
                        y = i + phase + k * phases
                        if given:
                            poke(ys, k, lines + y % at_once * strip * size)
                        else:
                            poke(ys, k, outputs + y * peek(d, F.OUT_ROW) + j0 * size)
                    for g in range(peek(d, F.GROUPS_COUNT)):
                        a, b = peek(groups, 3 * g + 1), peek(groups, 3 * g + 2)
                        call(
                            peek(groups, 3 * g), xs + 8 * a, ys, m, step, n, offsets + 8 * b,
                            total + 8 * (a * q + b), 8 * q,
                        )  # fmt: skip
    release(memory)


def _parts(n: int) -> list[int]:
    """Cut so many taps into groups, as even as can be, whose sums fit the registers."""
    count = -(-n // (5 if vector_bytes() == 64 else 3))
    return [n // count + (i < n % count) for i in range(count)]


@cache
def _piece(acc: str, down: int, across: int, unit: bool) -> int:
    """Address of the piece for a group of down x across taps."""
    name = f"dots_{acc}_{down}x{across}{'' if unit else '_any'}"
    return compile_function(_dots, name, GROUP=_group(acc, down, across, unit))


def groups(acc: str, p: int, q: int, unit: bool) -> list[tuple[int, int, int]]:
    """Pieces of the dot products of p x q taps, each with its first row and column of taps.

    `unit` says that taps are side by side in memory.
    """
    found, a = [], 0
    for down in _parts(p):
        b = 0
        for across in _parts(q):
            found.append((_piece(acc, down, across, unit), a, b))
            b += across
        a += down
    return found


@cache
def task() -> int:
    """Address of the piece that sums one task."""
    return compile_function(_task, "gradient_task")


def _gradient(d, x, dy, units, begins, ends, partial, count):
    for number in prange(count):
        call(peek(d, F.TASK), d, number, x, dy, units, begins, ends, partial)


gradient_serial, gradient_parallel = variants(_gradient)
