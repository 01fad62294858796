"""The range of the pixels that are not missing: one pass, with extremes in registers (llvmlite).

Numba's own loops would compare one pixel after the other, because the order of comparisons may not
change, and each waits for the one before.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from ..conversion import load_run, make_tag
from ..drivers import inner, variants
from ..functions import compile_function
from ..intrinsics import call, elements, reader
from ..params import COUNTED_PIXELS, RANGE_PARAMS
from ..vectors import LONG, Vectors

counted_pixels = reader(COUNTED_PIXELS)
range_params = reader(RANGE_PARAMS)

_COUNTED_BYTES = COUNTED_PIXELS.itemsize

_INT = ir.IntType(32)
# Vectors of pixels at once, so that none waits for the one before it.
_AT_ONCE = 4
# Lanes of the widest vectors there are, and numbers in the memory of the extremes: the extremes of
# each lane, and the count of NaN.
_LANES = 16
EXTREMES = 2 * _LANES + 2
# Pixels that are converted at a time, and numbers in the memory that `find_range` needs: these
# pixels, their counts, and their extremes.
_RUN = 512
RANGE_NUMBERS = 2 * _RUN + EXTREMES

# Bound to other values in every compiled function: tags (see `conversion`) of what is stored, of
# sums and of counts, whether the first two are the same, and which counts there are ("mask",
# "weights" or none).
TAG = ACC = COUNTS = SAME = COUNTED = None


class _Extremes:
    """Emits the code that keeps the least and the greatest pixel and counts NaN, lane by lane."""

    def __init__(self, v: Vectors) -> None:
        self.v = v
        self.counter = ir.VectorType(ir.IntType(8 * v.size), v.lanes)
        # Lanes hold the least and the greatest number so far, and minus the NaN that were found.
        self.low, self.high = (self._variables(v.kind) for _ in range(2))
        self.nan = self._variables(self.counter)

    def _variables(self, kind: ir.Type) -> list[ir.Value]:
        return [cgutils.alloca_once(self.v.builder, kind) for _ in range(_AT_ONCE)]

    def begin(self, low: ir.Value, high: ir.Value) -> None:
        """Begin with the extremes of earlier pixels."""
        b = self.v.builder
        for i in range(_AT_ONCE):
            b.store(low, self.low[i])
            b.store(high, self.high[i])
            b.store(ir.Constant(self.counter, [0] * self.v.lanes), self.nan[i])

    def take(self, i: int, x: ir.Value, there: ir.Value | None = None) -> None:
        """Take a vector of pixels; lanes outside the mask `there` (None: no mask) hold no pixel."""
        b = self.v.builder
        # Comparisons with NaN are false, which leaves NaN out.
        for place, sign in ((self.low[i], "<"), (self.high[i], ">")):
            found = b.load(place)
            b.store(b.select(b.fcmp_ordered(sign, x, found), x, found), place)
        nan = b.fcmp_unordered("uno", x, x)
        if there is not None:
            nan = b.and_(nan, there)
        b.store(b.add(b.load(self.nan[i]), b.sext(nan, self.counter)), self.nan[i])

    def end(self) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Return the least and the greatest number of each lane, and how many NaN there were."""
        b = self.v.builder
        low, high, nan = (b.load(places[0]) for places in (self.low, self.high, self.nan))
        for i in range(1, _AT_ONCE):
            other_low, other_high = b.load(self.low[i]), b.load(self.high[i])
            low = b.select(b.fcmp_ordered("<", other_low, low), other_low, low)
            high = b.select(b.fcmp_ordered(">", other_high, high), other_high, high)
            nan = b.add(nan, b.load(self.nan[i]))
        count = ir.Constant(LONG, 0)
        for lane in range(self.v.lanes):
            count = b.sub(count, b.sext(b.extract_element(nan, ir.Constant(_INT, lane)), LONG))
        return low, high, count


@intrinsic
def update_extremes(typingctx, kind, pixels, n, extremes):
    """Update extremes by `n` contiguous pixels at an address; only NaN is missing.

    `kind` is an array of their dtype. `extremes` is the address of memory that `begin_extremes`
    prepares and `end_extremes` reads.
    """

    def codegen(context, builder, signature, args):
        _emit_update(str(kind.dtype), builder, *args[1:])
        return context.get_dummy_value()

    return types.void(kind, types.int64, types.int64, types.int64), codegen


def _emit_update(
    dtype: str, b: ir.IRBuilder, pixels: ir.Value, n: ir.Value, extremes: ir.Value
) -> None:
    v = Vectors(b, dtype)
    found = _Extremes(v)
    second, count_at = (v.at(extremes, k * _LANES * v.size) for k in (1, 2))
    found.begin(v.load(extremes), v.load(second))
    wide = v.long(_AT_ONCE * v.lanes)
    blocks = b.udiv(n, wide)
    with cgutils.for_range(b, blocks) as loop:
        start = b.add(pixels, b.mul(loop.index, v.long(_AT_ONCE * v.bytes)))
        for i in range(_AT_ONCE):
            found.take(i, v.load(v.at(start, i * v.bytes)))
    first = b.mul(blocks, wide)
    rest = b.udiv(b.add(b.sub(n, first), v.long(v.lanes - 1)), v.long(v.lanes))
    with cgutils.for_range(b, rest) as loop:
        column = b.add(first, b.mul(loop.index, v.long(v.lanes)))
        there = v.within(b.trunc(column, _INT), b.trunc(n, _INT))
        at = b.add(pixels, b.mul(column, v.long(v.size)))
        found.take(0, v.load_masked(at, there, v.constant(np.nan)), there)
    low, high, count = found.end()
    v.store(low, extremes)
    v.store(high, second)
    total = b.inttoptr(count_at, LONG.as_pointer())
    b.store(b.add(b.load(total), count), total)


@inner
def begin_extremes(kind, extremes):
    """Prepare memory for extremes, EXTREMES numbers of a dtype, before any pixels."""
    lines = elements(kind, extremes, (2, _LANES))
    for j in range(_LANES):
        lines[0, j] = np.inf
        lines[1, j] = -np.inf
    elements(np.int64, extremes + 2 * _LANES * kind.itemsize, 1)[0] = 0


@inner
def end_extremes(kind, extremes):
    """Return the least and the greatest pixel of all updates, and how many were NaN."""
    lines = elements(kind, extremes, (2, _LANES))
    low, high = lines[0, 0], lines[1, 0]
    for j in range(1, _LANES):
        low = lines[0, j] if lines[0, j] < low else low
        high = lines[1, j] if lines[1, j] > high else high
    return low, high, elements(np.int64, extremes + 2 * _LANES * kind.itemsize, 1)[0]


def _find_range(image, rows, columns, row_stride, column_stride, memory, found, counted_address):
    """Find the least and the greatest pixel that is not missing, and count those that are.

    The three numbers are written to `found`; `memory` is for RANGE_NUMBERS numbers. The last
    argument is the address of COUNTED_PIXELS, if there are counts.
    """
    counted = counted_pixels(counted_address)
    row, weight = elements(ACC, memory, _RUN), elements(ACC, memory + _RUN * ACC.itemsize, _RUN)
    extremes = memory + 2 * _RUN * ACC.itemsize
    begin_extremes(ACC, extremes)
    as_they_are = SAME and COUNTED == "" and column_stride == ACC.itemsize
    width = columns if as_they_are else _RUN
    for i in range(rows):
        for first in range(0, columns, width):
            n = min(width, columns - first)
            start = image + i * row_stride + first * column_stride
            if as_they_are:
                update_extremes(ACC, start, n, extremes)
                continue
            load_run(TAG, start, column_stride, row[:n])
            if COUNTED != "":
                at = counted.counts + i * counted.row_stride + first * counted.column_stride
                load_run(COUNTS, at, counted.column_stride, weight[:n])
                for j in range(n):
                    there = weight[j] == 0 if COUNTED == "mask" else weight[j] != 0
                    row[j] = row[j] if there else np.nan
            update_extremes(ACC, memory, n, extremes)
    result = elements(np.float64, found, 3)
    result[0], result[1], result[2] = end_extremes(ACC, extremes)


@inner
def _find_part(address, part):
    """Find the range of the pixels of some rows."""
    params = range_params(address)
    first, last = part * params.rows // params.parts, (part + 1) * params.rows // params.parts
    counted = params.counted + part * _COUNTED_BYTES if params.counted else 0
    call(
        params.find, params.image + first * params.row_stride, last - first, params.columns,
        params.row_stride, params.column_stride, params.memory + part * params.memory_bytes,
        params.found + part * 24, counted,
    )  # fmt: skip


def _parts(address):
    for part in prange(range_params(address).parts):
        _find_part(address, np.int64(part))  # the loop's index is unsigned in threads


range_serial, range_parallel = variants(_parts)


@cache
def find_range(dtype: str, acc: str, counted: str) -> int:
    """Return the address of the jit function that finds the range of pixels of a dtype."""
    return compile_function(
        _find_range,
        f"find_range_{dtype}_{acc}_{counted}",
        TAG=make_tag(dtype),
        ACC=make_tag(acc),
        COUNTS=make_tag("bool" if counted == "mask" else acc),
        COUNTED=counted,
        SAME=dtype == acc,
    )
