"""Jobs for the Numba sweeps: a problem, its layout and its weights as 64-bit integers."""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np

from ...core import dtypes
from ...core.errors import with_rows
from ...core.layout import byte_offsets, kernel_index, lead_strides
from ...core.problem import Problem, gathered, laid_out, tables
from .jit import fields as F
from .jit.params import ROW_SOURCE, fill_bytes, record
from .threads import max_threads

# Rows of pixels that a band's blocks read should stay in the second-level cache.
_WINDOW_BYTES = 512 * 1024
# Results that no cache would hold are written past them: their old content need not be read first.
# Only by vectors of a whole line of cache: shorter ones take several times as long that way, even
# where they fill the lines in pairs (AMD Zen 3).
_STREAMED_BYTES = 16 << 20
_LINE_BYTES = 64
# In short rows the waiting at their ends costs more than that saves.
_STREAMED_ROW = 4096
# An image with a border is read in place if it is this many times wider than the border.
_NARROW = 32
# Nanoseconds of one thread for an output and for a tap of it, and the time below which starting
# threads costs more than it saves.
_OUTPUT, _TAP, _SERIAL = 0.17, 0.018, 8000
# Nanoseconds of a call that is long enough to be cut into slices of so much, and of a task of it:
# far below what a person waits for after Ctrl-C, because other machines and dtypes are slower.
LONG, LONG_TASK = 1e8, 1e7
# What a task of the sweeps needs memory for.
LINES = "rows of pixels for each thread"
_SLOWER = {"float32": 1.0, "float64": 2.0, "int64": 16.0, "uint64": 16.0}


def tap_offsets(
    problem: Problem, strip: int, lanes: int, size: int, ordered: bool = True
) -> tuple[int, Any, Any]:
    """Pixels of a line, byte offsets of the tap columns in it, and the order to take them in.

    They are taken as they come unless `ordered`, as they lie in memory. That order is the one of
    the stride and dilation asked for, however columns are laid out.
    """
    taps = np.arange(problem.q, dtype=np.int64)
    sx, reach = problem.stride[1], taps * problem.dilation[1]
    order = np.lexsort((reach // sx, reach % sx)) if ordered else taps
    laid = laid_out(problem)
    sx, reach = laid.stride[1], taps * laid.dilation[1]
    phase = max(strip, lanes) + (laid.span[1] - 1) // sx + 1
    offsets = reach % sx * phase + reach // sx
    return phase * sx, offsets[order] * size, order


@lru_cache(maxsize=512)
def template(
    problem: Problem,
    acc: str,
    rank: int,
    x_strides: tuple[int, ...],
    out_strides: tuple[int, ...],
    summed: bool = True,
    by_rows: bool = True,
    mirror: tuple[bool, bool] = (False, False),
) -> tuple[int, Any, bool, tuple[Any, ...], Any, bool]:
    """A job for all arrays of this layout: its address, order of tap columns, whether serial.

    `mirror` says whether columns and rows of taps are summed in mirrored order (see `taps`); those
    of direct sums only where there is one of them.
    Without `summed` it only reads and writes: what sums directly is not compiled. Without `by_rows`
    its PART can be called for any columns, which a narrow image's whole rows otherwise take away.

    The order is None where columns are taken as they come. The fourth item keeps alive what the
    job's integers point to, and holds the job first. The others are a view of how often memory
    could not be had, and whether the call is long enough for slices.
    """
    from .jit import direct_driver, micro_kernel, narrow_images, row_buffer, vectors

    x_size = dtypes.storage(problem.x_dtype).itemsize
    out_size = dtypes.storage(problem.out_dtype).itemsize
    size, lanes, block = np.dtype(acc).itemsize, vectors.lanes(acc), micro_kernel.ROWS
    laid = laid_out(problem)
    (sy, sx), (dy, dx), span = laid.stride, laid.dilation, laid.span
    window = (problem.p + block) * dy * size
    strip = min(problem.s, max(512, _WINDOW_BYTES // (window * sx)))
    pitch, offsets, order = tap_offsets(problem, strip, lanes, size, ordered=not mirror[1])
    strips = -(-problem.s // strip)
    readable = _readable(problem, acc) and x_strides[-1] == x_size
    each = per_output(problem, rank)
    time = math.prod(problem.out_shape) * each
    band = _band(problem, strips, 16 if readable else max(16, span[0]))
    # Strides skip outputs but not columns of taps; windows beyond the caches wait for memory.
    factor = _SLOWER[acc] * (sx if rank else min(sy, 2))
    factor *= 8 if span[0] * strip * sx * size > 8 * _WINDOW_BYTES else 1
    slow = time * factor
    long = slow >= LONG * max_threads()
    if long:  # bits do not depend on where a task ends
        some = int(LONG_TASK / (strip * each * factor))
        band = min(band, max(some, block * dy if sy == 1 else 1))
    rows, columns = tables(problem)
    left, width = run_of_columns(problem)
    batch = problem.batch
    keep: tuple[Any, ...] = (
        rows.pixels, columns.pixels, offsets, kernel_index(problem),
        byte_offsets(batch, lead_strides(problem.x_shape, x_strides, batch)),
        byte_offsets(batch, out_strides[:-2]),
    )  # fmt: skip
    addresses = [address(array) for array in keep]
    unit = sx == 1 and dx == 1
    down = problem.p if rank == 0 else rank
    in_place = problem.out_dtype == acc and out_strides[-1] == out_size
    large = math.prod(problem.out_shape) * out_size >= _STREAMED_BYTES
    taps_across = problem.q if rank == 0 else 1
    beside = unit or rank > 0
    wide = problem.s * out_size >= _STREAMED_ROW
    whole_lines = vectors.vector_bytes() == _LINE_BYTES and out_strides[-2] % _LINE_BYTES == 0
    stream = in_place and large and wide and whole_lines
    # Rows of separable sums are summed apart; strided ones are not next to each other.
    edge = lanes if readable and rank == 0 and sy == 1 and any(problem.pad[1]) else 0
    whole_rows = (
        in_place
        and problem.unit
        and rank == 0
        and problem.x_dtype == acc
        and x_strides[-1] == x_size
        and (problem.boundary == "constant" or not any(problem.pad[1]))
        and narrow_images.fits(acc, problem.s, problem.w, problem.p, problem.q, left)
    )
    slots = (2 * block + problem.p) * dy if sy == 1 else (problem.p - 1) * dy + 1 + sy
    fill = fill_bytes(problem.fillvalue, acc)
    source = record(
        ROW_SOURCE,
        rows=addresses[0],
        columns=addresses[1],
        column_count=len(columns.pixels),
        left=left,
        width=width,
        row_stride=x_strides[-2],
        column_stride=x_strides[-1],
        step=sx,
        slots=slots,
        fill=fill,
    )
    keep = (*keep, source)
    job = np.zeros(F.COUNT, np.int64)
    for place, value in (
        (F.SOURCE, address(source)),
        (F.ROWS, addresses[0]),
        (F.COLUMNS, addresses[1]),
        (F.OFFSETS, addresses[2]),
        (F.WHICH, addresses[3]),
        (F.X_OFFSETS, addresses[4]),
        (F.OUT_OFFSETS, addresses[5]),
        (F.COLUMNS_COUNT, len(columns.pixels)),
        (F.LEFT, left),
        (F.WIDTH, width),
        (F.X_ROW, x_strides[-2]),
        (F.X_COLUMN, x_strides[-1]),
        (F.OUT_ROW, out_strides[-2]),
        (F.OUT_COLUMN, out_strides[-1]),
        (F.WEIGHTS_SIZE, down * problem.q * size),
        (F.RANK, rank),
        (F.VERTICAL_SIZE, rank * problem.p * size),
        (F.R, problem.r),
        (F.S, problem.s),
        (F.P, problem.p),
        (F.Q, problem.q),
        (F.STRIDE_Y, sy),
        (F.STRIDE_X, sx),
        (F.DILATION_Y, dy),
        (F.DILATION_X, dx),
        (F.SPAN_X, span[1]),
        (F.IMAGES, problem.n),
        (F.BANDS, -(-problem.r // band)),
        (F.BAND, band),
        (F.STRIPS, strips),
        (F.STRIP, strip),
        (F.SIZE, size),
        (F.LANES, lanes),
        (F.PITCH, pitch),
        (F.SLOTS, slots),
        (F.BLOCK, block),
        (F.PLACE_IN, readable),
        (F.PLACE_OUT, in_place),
        (F.LOAD, row_buffer.load(problem.x_dtype, acc)),
        (F.STORE, row_buffer.store(acc, problem.out_dtype, _exact(problem, acc))),
    ):
        job[place] = value
    job[F.FILL] = fill.view(np.int64)[0]
    if summed and by_rows and whole_rows:
        # What rows above and below the image hold.
        line = np.full(problem.w, problem.fillvalue, acc)
        keep = (*keep, line)
        job[F.LINE] = address(line)
        job[F.TASK] = narrow_images.task(acc, problem.s, problem.p, problem.q, left)
        job[F.STRIPS], job[F.STRIP] = 1, problem.s
    elif summed:
        lone = mirror[0] if rank else any(mirror)
        sums = partial(micro_kernel.sums, acc, p=problem.p, mirrored=lone)
        across = partial(micro_kernel.sums, acc, 1, rank, problem.q, unit, mirrored=mirror[1])
        for place, value in (
            (F.SUMS, sums(block, q=taps_across, unit=beside, stream=stream and not rank)),
            (F.SUMS_ONE, sums(1, q=taps_across, unit=beside)),
            (F.PART, direct_driver.part()),
            (F.EDGE_MOST, edge),
            (F.LOAD_TURNED, row_buffer.load_turned(problem.x_dtype, acc) if edge else 0),
            (F.EDGE, sums(1, q=1, unit=True) if edge else 0),
            (F.EDGE_PART, direct_driver.edge() if edge else 0),
            (F.TASK, direct_driver.task()),
            (F.ACROSS, across() if rank else 0),
            (F.ACROSS_OUT, across(stream=stream) if rank else 0),
        ):
            job[place] = value
    serial = not long and (max_threads() == 1 or time < _SERIAL)
    if serial:
        job[F.BANDS], job[F.BAND] = 1, problem.r
    job[F.LAST] = job[F.IMAGES] * job[F.BANDS] * job[F.STRIPS]
    failures = job.data[F.FAILED : F.FAILED + 1]
    natural = bool((np.diff(order) == 1).all())
    return address(job), None if natural else order, serial, (job, *keep), failures, long


def run_of_columns(problem: Problem) -> tuple[int, int]:
    """Position and length of the run of the image's columns, 0 and 0 where they do not form one."""
    return (0, 0) if gathered(problem)[1] else (problem.pad[1][0], problem.w)


def per_output(problem: Problem, rank: int) -> float:
    """Nanoseconds of one thread for an output, in float32."""
    taps = problem.p * problem.q if rank == 0 else 2 * rank * (problem.p + problem.q)
    return _OUTPUT + taps * _TAP


def no_memory(what: str) -> MemoryError:
    """The error for memory that compiled code could not have."""
    return MemoryError(f"no memory for {what}; work in parts, or with fewer threads")


def retried(
    work: Callable[[int, int], Any],
    alone: Callable[[int, int], Any],
    failed: Any,
    what: str,
    rows: Callable[[int], int],
) -> Callable[[int, int], None]:
    """Give `work` on a range of tasks that does them again one by one where some had no memory.

    `failed` counts those. `alone` does tasks on one thread, which needs the least; where even that
    fails the error says that the `rows` of the result before the task are complete.
    """

    def part(first: int, last: int) -> None:
        before = failed[0]
        work(first, last)
        if failed[0] == before:
            return
        for task in range(first, last):
            before = failed[0]
            alone(task, task + 1)
            if failed[0] != before:
                raise with_rows(no_memory(what), rows(task))

    return part


def rows_before_task(task: int, bands: int, strips: int, band: int, r: int) -> int:
    """Complete rows where tasks (images by bands of rows by strips of columns) are done up to one.

    Examples
    --------
    >>> rows_before_task(13, bands=3, strips=2, band=4, r=10)
    20
    """
    image, rest = divmod(task, bands * strips)
    return image * r + rest // strips * band


def _band(problem: Problem, strips: int, least: int) -> int:
    """Rows of a task: two tasks for each thread, or one where rows are few.

    More would repeat the rows where bands meet for nothing.
    """
    tasks, threads = max(1, problem.n * strips), max_threads()
    band = -(-problem.r // -(-2 * threads // tasks))
    if band < 2 * least:
        band = -(-problem.r // -(-threads // tasks))
    return max(least, band)


def _readable(problem: Problem, acc: str) -> bool:
    """Whether pixels are summed where they are."""
    # The columns beside the border are summed apart; in a narrow image copying all is cheaper.
    narrow = problem.s < _NARROW * sum(problem.pad[1])
    one_run = not gathered(problem)[1]
    return problem.x_dtype == acc and problem.stride[1] == 1 and not narrow and one_run


def _exact(problem: Problem, acc: str) -> bool:
    """Whether sums are whole numbers that the output's dtype is sure to hold."""
    whole = dtypes.is_integer(problem.acc_dtype)
    return whole and acc != problem.acc_dtype and problem.out_dtype == problem.acc_dtype


def _interface_address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def _struct_address(array: Any) -> int:
    return ctypes.c_void_p.from_address(id(array) + _HEAD).value or 0


# NumPy's array object begins with the address of its elements, after what every object begins
# with. Reading it there takes a quarter of the microsecond that the attribute takes; where arrays
# are laid out otherwise, as the check finds, the attribute is read.
_HEAD = object.__basicsize__
address = _interface_address
if sys.implementation.name == "cpython":
    _samples = [np.zeros(9), np.zeros(9)[3:], np.zeros((4, 5), np.uint8)[::-1, ::-1]]
    if all(_struct_address(a) == _interface_address(a) for a in _samples):
        address = _struct_address
