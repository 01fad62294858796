"""Plans of direct and separable sums: the params of compiled code for a problem and its layout."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import numpy as np

from ...core import dtypes
from ...core.array_types import Array
from ...core.problem import Problem, restate_for_tables
from .addresses import address
from .call_times import CallTimes
from .costs import vector_bytes
from .image_layout import (
    ImageLayout,
    describe_images,
    find_store,
    geometry_fields,
)
from .in_place import (
    decide_places,
    reads_in_place,
    restate_with_all_columns,
    sums_all_columns,
)
from .jit.params import DIRECT_PARAMS, LINE_BYTES, record
from .numba_threads import max_threads
from .sums_functions import find_functions, find_means_functions, find_narrow_functions
from .tasks import TaskPlan, Tasks

# Rows of pixels that a band's blocks read should stay in the second-level cache.
_WINDOW_BYTES = 512 * 1024
# Where taps are so far apart that the row buffer of a task would have more bytes than
# _BUFFER_BYTES, it holds the rows of one window after the other. Larger memory is mapped anew for
# every task, and its page faults take longer than the sums. Rows are then loaded several times;
# that pays where the buffer would have more than _BUFFER_BYTES_EACH for each time (measured).
_BUFFER_BYTES, _BUFFER_BYTES_EACH = 32 << 20, 8 << 20
# Nanoseconds of one thread for an output and for a tap of it, and of starting threads: a call for
# which more threads would save less than that runs on one.
_OUTPUT, _TAP, START = 0.17, 0.018, 14000
# Output rows and vectors of columns that are summed together (see `micro_kernel`). The vectors left
# over go by two or one, and both take as long as _LATENCY vectors of one row do in a full block,
# because the multiply-adds of a sum wait for each other. Fewer rows than a block's go one by one,
# _ROW_VECTORS at a time, each of which takes _ROW_ALONE times as long as in a block.
_BLOCK_ROWS, _BLOCK_VECTORS, _LATENCY = 4, 3, 8
_ROW_VECTORS, _ROW_ALONE = 4, 2.4
# Kernels of no more taps than this fill vectors whatever the image's width (see `Places`).
_FEW_TAPS = 32
# In a single row of taps, those beyond this many take longer, because no block of rows shares their
# vectors of pixels: twice as long, but only a quarter longer where some of these are cut out of
# others (see `register_block`).
_ROW_TAPS, _LOADED_TAP, _CUT_TAP = 8, 1.0, 0.25
# Its rows of outputs are summed one by one, each of which takes as long as this many multiply-adds.
_ROW_CALL = 4500
# In a column or row of a separable kernel, taps beyond this many take one and a half times as
# long: their pixels do not stay in the nearest caches. With vectors as long as a cache line, which
# are cut out of others, they take no longer than the first ones.
_NEAR_TAPS, _FAR_TAP = 48, 0.5
# A call that takes each thread LONG nanoseconds or more runs in slices, and each of its tasks takes
# LONG_TASK. Both are far less than a person would wait after Ctrl-C: other machines are slower.
LONG, LONG_TASK = 1e8, 1e7
# Nanoseconds below which a call is short.
SHORT = 2e6
# Time of sums relative to float32.
_SLOWER = {
    "uint16": 1.0, "int16": 1.0, "float32": 1.0,
    "float64": 2.0, "int64": 16.0, "uint64": 16.0, "complex64": 4.0,
    "complex128": 8.0,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class SumsPlan(TaskPlan):
    """The plan of direct or separable sums for all arrays of one layout.

    Attributes
    ----------
    params : numpy.ndarray
        The DIRECT_PARAMS.
    order : numpy.ndarray or None
        The order in which columns of weights are summed; None: from left to right.
    layout : ImageLayout
        The images and results.
    tap_offsets, tap_order, fill_row : numpy.ndarray or None
        Further arrays that the params point to.
    """

    order: Array
    layout: ImageLayout
    tap_offsets: Array
    tap_order: Array
    fill_row: Array


def tap_offsets(
    problem: Problem, strip: int, lanes: int, size: int, ordered: bool = True
) -> tuple[int, Array, Array]:
    """Lay out a row of the row buffer for a strip of columns.

    Returns the pixels of a row, the byte offset in it of each column of taps, and the order in
    which columns of taps are summed. With `ordered` that is the order of `order_of_taps`, which
    depends only on the stride and dilation asked for; otherwise they are summed from left to right.
    """
    from .jit.direct.micro_kernel import order_of_taps
    from .jit.drivers import odd_lines

    taps = np.arange(problem.q, dtype=np.int64)
    order = order_of_taps(problem.q, problem.stride[1], problem.dilation[1]) if ordered else taps
    laid = restate_for_tables(problem)
    sx, reach = laid.stride[1], taps * laid.dilation[1]
    phase = max(strip, lanes) + (laid.span[1] - 1) // sx + 1
    if sx == 1:
        phase = odd_lines(phase * size) // size
    offsets = reach % sx * phase + reach // sx
    return phase * sx, offsets[order] * size, order


def per_output(problem: Problem, rank: int) -> float:
    """Nanoseconds of one thread for an output, in float32."""
    if rank:
        taps = 2.0 * rank * (problem.p + problem.q)
    else:
        taps = problem.p * problem.q + _unshared_taps(problem)
    return _OUTPUT + taps * _TAP


def _unshared_taps(problem: Problem) -> float:
    """Count the taps that take as long as those of a single row of taps take longer."""
    return _unshared_tap() * max(0, problem.q - _ROW_TAPS) if problem.p == 1 else 0.0


@cache
def _unshared_tap() -> float:
    """Return how much longer a tap takes whose pixels no block of rows shares."""
    return _CUT_TAP if vector_bytes() == LINE_BYTES else _LOADED_TAP


@cache
def _far_tap() -> float:
    """Return how much longer a tap of a separable kernel takes whose pixels are far."""
    return 0.0 if vector_bytes() == LINE_BYTES else _FAR_TAP


def direct_work(problem: Problem) -> float:
    """Multiply-adds of direct sums; other work counts as those that take as long.

    Prices need this before compiled code is loaded; it depends on the width of vectors at most.
    """
    lanes = LINE_BYTES // dtypes.storage(dtypes.part(problem.acc_dtype)).itemsize
    vectors = -(-problem.s // lanes)
    taps = float(problem.p * problem.q)
    columns = problem.s if taps <= _FEW_TAPS else vectors * lanes
    if problem.stride[0] > 1:
        taps *= 2  # output rows share too few input rows to be summed together
    elif problem.p == 1:
        taps += _unshared_taps(problem) + _ROW_CALL / max(1, columns)
    elif taps > _FEW_TAPS and not dtypes.is_complex(problem.acc_dtype):
        return problem.n * _vectors_of_sums(problem.r, problem.s, lanes) * lanes * taps
    return problem.n * problem.r * columns * taps


def _vectors_of_sums(rows: int, columns: int, lanes: int) -> float:
    """Return the vectors that full blocks sum in the time of these rows and columns of outputs."""
    if rows < _BLOCK_ROWS:
        vectors = -(-columns // lanes)
        if vectors < _ROW_VECTORS:
            return rows * vectors * _LATENCY
        return rows * -(-vectors // _ROW_VECTORS) * _ROW_VECTORS * _ROW_ALONE
    full, left = divmod(columns, _BLOCK_VECTORS * lanes)
    together = 2 * lanes if columns >= 2 * lanes else lanes
    blocks = -(-rows // _BLOCK_ROWS)  # the last may overlap the one before
    return blocks * (full * _BLOCK_ROWS * _BLOCK_VECTORS + -(-left // together) * _LATENCY)


@lru_cache(maxsize=512)
def plan_sums(
    problem: Problem,
    acc: str,
    rank: int,
    x_strides: tuple[int, ...],
    out_strides: tuple[int, ...],
    *,
    mirror: tuple[bool, bool] = (False, False),
    columns: int = 0,
    divisor: int = 1,
    missing: str = "",
    counted: str = "",
) -> SumsPlan:
    """Plan the sums of a problem in a dtype, by kernels of a rank (0: direct sums).

    `mirror` says whether columns and rows of weights are summed in mirrored order (see
    `micro_kernel`); for direct sums only a single column or row may be. With `columns` the plan is
    for a caller of its `sum_columns`, on up to that many columns, not of its tasks. Sums are of
    weights times the divisor. With `missing` ("none", "few" or "many") the plan is for means of
    the pixels that are not missing, and `counted` is the name of their counts (see `Means`). The
    address of the MEANS is still to be put into the params.
    """
    from .jit import vectors
    from .jit.direct import micro_kernel
    from .jit.means import means as jit_means

    every = 1  # every `every`-th column of sums is written
    if not (columns or missing) and sums_all_columns(problem, acc, rank, x_strides):
        every = problem.stride[1]
        problem = restate_with_all_columns(problem)
    part = dtypes.part(acc)
    weight_parts, summed = 1 if part == acc else 2, 2 if missing == "many" else 1
    size, lanes, parts = np.dtype(part).itemsize, vectors.lanes(part), max(weight_parts, summed)
    x_in_place = not missing and reads_in_place(problem, acc, rank, x_strides)
    planes = 2 if missing in ("few", "many") else 1
    tasks = _cut(problem, acc, rank, x_in_place, planes)
    plane_size = max(parts, planes) * size
    if not x_in_place and _gathers_rows(problem, max(tasks.strip, columns), lanes, plane_size):
        problem = replace(problem, gather_rows=True)
        tasks = _cut(problem, acc, rank, x_in_place, planes)
    slots, laid = _buffered_rows(problem), restate_for_tables(problem)
    pitch, offsets, order = tap_offsets(
        problem, max(tasks.strip, columns), lanes, size, ordered=not mirror[1]
    )
    places = decide_places(
        problem, acc, rank, x_strides, out_strides, tasks, divisor, x_in_place=x_in_place,
        all_written=not missing and every == 1, for_columns=columns > 0,
    )  # fmt: skip
    layout = describe_images(
        problem, acc, x_strides, out_strides, step=laid.stride[1], slots=slots, divisor=divisor,
        in_place=places.out_in_place, imaginary=slots * pitch * size, loads=places.loads,
        stores=places.stores and not (places.whole_rows or missing), every=every,
    )  # fmt: skip
    tap_order = fill_row = None
    if places.whole_rows:
        tasks = replace(tasks, strip=problem.s, strips=1)
        # Stands for the rows above and below the image.
        fill_row = np.full(problem.w, problem.fillvalue, acc)
        functions = find_narrow_functions(problem, acc) | {"fill_row": address(fill_row)}
    else:
        out = (problem.out_dtype, divisor) if places.converted else None
        functions = find_functions(problem, acc, rank, mirror, places, summed, every, out)
    if missing:
        functions |= find_means_functions(acc, missing, counted, laid.stride[1])
        layout = replace(layout, store=jit_means.store(acc, problem.out_dtype, missing))
    if "sum_edge" in functions:
        functions["store_edge"] = find_store(
            problem, acc, divisor, min(laid.stride[0], laid.span[0])
        )
        if every > 1 and not mirror[1]:
            tap_order = micro_kernel.order_of_taps(problem.q, every, problem.dilation[1])
            functions["tap_order"] = address(tap_order)
    params = record(
        DIRECT_PARAMS,
        **geometry_fields(problem, out_strides),
        **layout.fields(),
        **tasks.fields(problem.n),
        **functions,
        rank=rank,
        weight_bytes=weight_parts * size,
        weights_bytes=(rank or problem.p) * problem.q * weight_parts * size,
        column_weights_bytes=rank * problem.p * weight_parts * size,
        span_x=laid.span[1],
        tap_offsets=address(offsets),
        parts=parts,
        planes=max(parts, planes),
        size=size,
        lanes=lanes,
        pitch=pitch,
        block_rows=micro_kernel.ROWS,
        x_in_place=x_in_place,
        every=every,
    )
    natural = bool((np.diff(order) == 1).all())
    return SumsPlan(
        params=params,
        **TaskPlan.views(params),
        order=None if natural else order,
        serial=tasks.serial,
        long=tasks.long,
        times=CallTimes(tasks.short),
        layout=layout,
        tap_offsets=offsets,
        tap_order=tap_order,
        fill_row=fill_row,
    )


def separable_work(problem: Problem, rank: int) -> float:
    """Multiply-adds of separable sums; columns of taps are summed beside the outputs, too."""
    laid = restate_for_tables(problem)
    columns = (problem.s - 1) * laid.stride[1] + laid.span[1] if problem.s else 0
    p, q = (n + _far_tap() * max(0, n - _NEAR_TAPS) for n in (problem.p, problem.q))
    return float(problem.n * problem.r * rank * (columns * p + problem.s * q))


def _buffered_rows(problem: Problem) -> int:
    """Count the rows of the row buffer: those that a block of output rows reads, and the next."""
    from .jit.direct import micro_kernel

    laid = restate_for_tables(problem)
    step, dilation = laid.stride[0], laid.dilation[0]
    if step == 1:
        return (2 * micro_kernel.ROWS + problem.p) * dilation
    return (problem.p - 1) * dilation + 1 + step


def _gathers_rows(problem: Problem, strip: int, lanes: int, size: int) -> bool:
    """Whether the row buffer of a strip holds windows, because far taps would make it too large.

    `size` is the bytes of a number in it.
    """
    if restate_for_tables(problem).dilation[0] == 1:
        return False
    pitch, _, _ = tap_offsets(problem, strip, lanes, size, ordered=False)
    nbytes = _buffered_rows(problem) * pitch * size
    times = problem.r * problem.p / (problem.h + sum(problem.pad[0]))  # that a row is loaded
    return nbytes > max(_BUFFER_BYTES, times * _BUFFER_BYTES_EACH)


def _cut(problem: Problem, acc: str, rank: int, x_in_place: bool, planes: int) -> Tasks:
    """Cut an output into tasks."""
    from .jit.direct import micro_kernel

    size, block = planes * np.dtype(acc).itemsize, micro_kernel.ROWS
    laid = restate_for_tables(problem)
    (sy, sx), dy, span = laid.stride, laid.dilation[0], laid.span
    window = (problem.p + block) * dy * size
    strip = min(problem.s, max(512, _WINDOW_BYTES // (window * sx)))
    strips = -(-problem.s // strip)
    band = band_rows(problem, strips, 16 if x_in_place else max(16, span[0]))
    each = per_output(problem, rank)
    time = math.prod(problem.out_shape) * each
    # A stride skips outputs, but all columns of taps are summed. Windows that the caches cannot
    # hold wait for memory.
    factor = planes * _SLOWER[acc] * (sx if rank else min(sy, 2))
    factor *= 8 if span[0] * strip * sx * size > 8 * _WINDOW_BYTES else 1
    long = time * factor >= LONG * max_threads()
    if long:  # bits do not depend on where a task ends
        some = int(LONG_TASK / (strip * each * factor))
        band = min(band, max(some, block * dy if sy == 1 else 1))
    serial = not long and time * factor * (1 - 1 / max_threads()) <= START
    if serial:
        band = problem.r
    bands, short = 1 if serial else -(-problem.r // band), time * factor < SHORT
    return Tasks(strip, strips, band, bands, serial, long, short)


def band_rows(problem: Problem, strips: int, least: int) -> int:
    """Return the rows of a task: two tasks for each thread, or one where rows are few.

    With more tasks, more rows where two bands meet would be read twice.
    """
    tasks, threads = max(1, problem.n * strips), max_threads()
    band = -(-problem.r // -(-2 * threads // tasks))
    if band < 2 * least:
        band = -(-problem.r // -(-threads // tasks))
    return max(least, band)
