"""Weight gradient: one dot product of image and output gradient for every tap (llvmlite, Numba).

The work is cut into tasks by the problem alone, never by the number of threads. Every task writes
its sums, in float64, to a place of its own, and those are added in order afterwards, so that the
result has the same bits for any number of threads. The dot products of a group of taps are summed
at once, in vector registers, over `rows_at_once` rows of outputs. Rows of outputs that read the
same rows of pixels are taken together, so that each vector of pixels is loaded once for all of
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import prange
from numba.core import cgutils

from ....core.array_types import Array
from .drivers import inner, round_up, variants
from .emitted_functions import compile_emitted
from .functions import compile_function
from .intrinsics import allocate, call, count_up, load_int, reader, release, store_int
from .params import FAILED, FILL, LINE_BYTES, TAP_GROUP, UNIT, WEIGHT_GRADIENT_PARAMS
from .row_buffer import repeat_number
from .vectors import LONG, Vectors, vector_bytes

_INT = ir.IntType(32)
# Rows of outputs that share each vector of pixels that is loaded.
_ROWS = 4

weight_gradient_params = reader(WEIGHT_GRADIENT_PARAMS)
work_unit, tap_group = reader(UNIT), reader(TAP_GROUP)
_UNIT_BYTES, _GROUP_BYTES = UNIT.itemsize, TAP_GROUP.itemsize


class _Dots(Vectors):
    """Emits the dot products of down x across taps."""

    def __init__(self, builder: ir.IRBuilder, acc: str, down: int, across: int) -> None:
        super().__init__(builder, acc)
        self.down, self.across = down, across
        self.sums = self.zeros(down, across)

    def add(
        self, x_rows: list[ir.Value], offsets: list[ir.Value], dy_rows: list[ir.Value],
        mask: ir.Value | None,
    ) -> None:  # fmt: skip
        """Add the products of a vector of each row of dY with the pixels under the taps.

        Rows are given by address, `offsets` are the bytes to each column of taps. Only the lanes of
        `mask` are read (None: all).
        """
        b, zero = self.builder, self.constant(0.0)

        def load(address: ir.Value) -> ir.Value:
            return self.load(address) if mask is None else self.load_masked(address, mask, zero)

        ys = [load(address) for address in dy_rows]
        for t, row in enumerate(x_rows):
            for tap, offset in enumerate(offsets):
                x = load(self.at(row, offset))
                for r, y in enumerate(ys):
                    if 0 <= t - r < self.down:
                        place = self.sums[t - r][tap]
                        b.store(self.multiply_add(x, y, b.load(place)), place)

    def finish(self, total: ir.Value, pitch: ir.Value) -> None:
        """Add the sums to a matrix of float64 numbers whose rows are `pitch` bytes apart."""
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


def _emit_add_dots(
    acc: str, down: int, across: int, adjacent: bool, b: ir.IRBuilder, args: Sequence[ir.Value]
) -> None:
    """Emit the dot products of `rows` rows of `n` outputs with the pixels under a group of taps.

    They are added to `total`. `x_rows` and `dy_rows` are tables of addresses. From one row of
    outputs to the next, its first row of pixels moves by `step` entries; if `step` is 1 they share
    rows of pixels. `offsets` has the bytes to each column of taps.
    """
    x_rows, dy_rows, rows, step, n, offsets, total, pitch = args
    code = _Dots(b, acc, down, across)
    first = code.load(offsets, LONG)
    places = [code.at(first, tap * code.size) for tap in range(across)]
    if not adjacent:
        places = [code.load(code.at(offsets, 8 * tap), LONG) for tap in range(across)]
    lanes = code.long(code.lanes)
    whole, rest = b.udiv(n, lanes), b.urem(n, lanes)
    mask = code.within(ir.Constant(_INT, 0), b.trunc(rest, _INT))

    def add_rows(count: int, index: ir.Value) -> None:
        at = b.add(x_rows, b.mul(b.mul(index, step), code.long(8)))
        xs = [code.load(code.at(at, 8 * t), LONG) for t in range(down + count - 1)]
        at = b.add(dy_rows, b.mul(index, code.long(8)))
        ys = [code.load(code.at(at, 8 * r), LONG) for r in range(count)]

        def add_vectors(distance: ir.Value, mask: ir.Value | None) -> None:
            code.add(
                [b.add(row, distance) for row in xs],
                places,
                [b.add(row, distance) for row in ys],
                mask,
            )

        with cgutils.for_range(b, whole) as loop:
            add_vectors(b.mul(loop.index, code.long(code.bytes)), None)
        with b.if_then(b.icmp_unsigned("!=", rest, code.long(0))):
            add_vectors(b.mul(whole, code.long(code.bytes)), mask)

    count = code.long(_ROWS)
    shared = b.icmp_unsigned("==", step, code.long(1))
    blocks = b.select(shared, b.udiv(rows, count), code.long(0))
    with cgutils.for_range(b, blocks) as loop:
        add_rows(_ROWS, b.mul(loop.index, count))
    with cgutils.for_range(b, rows, start=b.mul(blocks, count)) as loop:
        add_rows(1, loop.index)
    code.finish(total, pitch)


class _Buffers(NamedTuple):
    """Addresses in a task's memory (see `WEIGHT_GRADIENT_PARAMS`)."""

    x: Any  # the row buffer: row y of the padded image is in slot y % slots
    fill: Any
    dy: Any
    x_rows: Any
    dy_rows: Any


@inner
def _lay_out(params, memory):
    """Lay out a task's memory, and write the row of the fill value."""
    start = round_up(memory, LINE_BYTES)
    fill = start + params.fill_row
    repeat_number(params.x_source + FILL, fill, params.pitch, params.size)
    return _Buffers(
        start, fill, start + params.dy_buffer, start + params.x_rows, start + params.dy_rows
    )


@inner
def _list_x_rows(params, buffers, image, column, in_place, first, n):
    """Write the addresses of the rows of pixels that `n` rows of outputs from `first` on read.

    Rows of outputs are a dilation apart, so that they share rows of pixels; with a stride each has
    p rows of pixels of its own.
    """
    p, stride, dilation = params.p, params.stride_y, params.dilation_y
    rows, row_stride, size = params.rows, params.x_row_stride, params.size
    slots, row_bytes = params.slots, params.pitch * params.size
    for k in range(n + p - 1 if stride == 1 else n * p):
        if stride == 1:
            y = first + k * dilation
        else:
            y = (first + k // p) * stride + k % p * dilation
        if not in_place:
            store_int(buffers.x_rows, k, buffers.x + y % slots * row_bytes)
        else:
            row = load_int(rows, y)
            start = image + row * row_stride + column * size
            store_int(buffers.x_rows, k, buffers.fill if row < 0 else start)


@inner
def _list_dy_rows(params, buffers, dy, column, first, n):
    """Write the addresses of `n` rows of outputs from `first` on, a dilation apart."""
    row_step = params.dilation_y if params.stride_y == 1 else 1
    for k in range(n):
        y = first + k * row_step
        if params.read_dy:
            place = y % params.rows_at_once
            store_int(buffers.dy_rows, k, buffers.dy + place * params.strip * params.size)
        else:
            store_int(buffers.dy_rows, k, dy + y * params.dy_row_stride + column * params.size)


@inner
def _add_groups(params, buffers, rows, n, total):
    """Add the dot products of listed rows to a task's sums, one group of taps after another."""
    step, q = 1 if params.stride_y == 1 else params.p, params.q
    for g in range(params.group_count):
        group = tap_group(params.groups + g * _GROUP_BYTES)
        a, b = group.row, group.column
        call(
            group.add_dots, buffers.x_rows + 8 * a, buffers.dy_rows, rows, step, n,
            params.tap_offsets + 8 * b, total + 8 * (a * q + b), 8 * q,
        )  # fmt: skip


@inner
def _add_strip(params, buffers, image, dy, first, last, j0, total):
    """Add the products of output rows ``first`` to ``last - 1`` in the strip at column `j0`."""
    n = min(params.s - j0, params.strip)
    stride, dilation, span = params.stride_y, params.dilation_y, params.span_x
    column = j0 - params.left
    in_place = params.x_in_place != 0 and column >= 0 and column + n + span - 1 <= params.width
    phases = dilation if stride == 1 else 1
    read = 0  # rows of pixels before this one are in the row buffer
    for i in range(first, last, params.rows_at_once):
        count = min(params.rows_at_once, last - i)
        if not in_place:
            end = (i + count - 1) * stride + (params.p - 1) * dilation + 1
            call(
                params.read_x, params.x_source, image, max(read, i * stride), end,
                j0 * params.stride_x, (n - 1) * params.stride_x + span, buffers.x, params.pitch,
            )  # fmt: skip
            read = end
        if params.read_dy:
            call(
                params.read_dy, params.dy_source, dy, i, i + count, j0, n, buffers.dy, params.strip
            )
        for phase in range(min(phases, count)):
            rows = (count - phase + phases - 1) // phases
            _list_x_rows(params, buffers, image, column, in_place, i + phase, rows)
            _list_dy_rows(params, buffers, dy, j0, i + phase, rows)
            _add_groups(params, buffers, rows, n, total)


def _task(address, task, x, dy, units, begins, ends, partial):
    """Sum the units of a task to its part of `partial`."""
    params = weight_gradient_params(address)
    memory = allocate(params.task_bytes)
    if memory == 0:
        count_up(address + FAILED, 0)
        return
    buffers = _lay_out(params, memory)
    total = partial + task * params.p * params.q * 8
    for number in range(load_int(begins, task), load_int(ends, task)):
        unit = work_unit(units + number * _UNIT_BYTES)
        image = x + load_int(params.x_offsets, unit.image)
        outputs = dy + load_int(params.dy_offsets, unit.image)
        for j0 in range(0, params.s, params.strip):
            _add_strip(params, buffers, image, outputs, unit.first, unit.last, j0, total)
    release(memory)


def _group_sides(n: int) -> list[int]:
    """Divide `n` taps evenly into sides of groups whose sums fit the registers."""
    count = -(-n // (5 if vector_bytes() == 64 else 3))
    return [n // count + (i < n % count) for i in range(count)]


@cache
def _add_dots_function(acc: str, down: int, across: int, adjacent: bool) -> int:
    """Return the address of the jit function that adds the dot products of a group of taps."""
    name = f"dots_{acc}_{down}x{across}{'' if adjacent else '_any'}"
    return compile_emitted(name, _emit_add_dots, acc, down, across, adjacent)


def tap_groups(acc: str, p: int, q: int, adjacent: bool) -> Array:
    """Return the groups of p x q taps, an array of TAP_GROUP.

    `adjacent` says that columns of taps are next to each other in memory.
    """
    found, a = [], 0
    for down in _group_sides(p):
        b = 0
        for across in _group_sides(q):
            found.append((_add_dots_function(acc, down, across, adjacent), a, b))
            b += across
        a += down
    return np.array(found, TAP_GROUP)


@cache
def task_function() -> int:
    """Return the address of the jit function that sums one task."""
    return compile_function(_task, "gradient_task")


def _gradient(address, x, dy, units, begins, ends, partial, count):
    task = weight_gradient_params(address).task
    for number in prange(count):
        call(task, address, number, x, dy, units, begins, ends, partial)


gradient_serial, gradient_parallel = variants(_gradient)
