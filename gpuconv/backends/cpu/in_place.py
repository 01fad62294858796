"""Whether direct and separable sums read pixels and write results in place or through a buffer.

Rows that are read in place need no row buffer, and sums that are written in place are not stored
from one. The answers decide how `planning` makes a plan.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ...core import dtypes
from ...core.problem import Problem, restate_for_tables, tables_are_gathered
from .image_layout import is_contiguous, run_of_columns
from .jit.params import LINE_BYTES
from .tasks import Tasks

__all__ = [
    "STEP_MOST",
    "Places",
    "converts_in_place",
    "decide_places",
    "edge_most",
    "reads_in_place",
    "restate_with_all_columns",
    "sides_of_rows",
    "sums_all_columns",
]

# Results that no cache would hold are written past the caches, so that their old content is not
# read first. Only with vectors as long as a cache line: shorter ones take several times as long
# that way, even where pairs of them fill the lines (AMD Zen 3).
_STREAMED_BYTES = 16 << 20
# In rows of fewer bytes, waiting at their ends costs more than that saves.
_STREAMED_ROW = 4096
# An image with a border is read in place if it is this many times wider than the border, and for
# separable sums if its rows have more bytes than this: columns beside the border are summed
# separately.
_NARROW, _SHORT_ROW = 32, 4096
# Rows whose addresses differ by a multiple of _CACHE_WAY bytes compete for one set of the
# first-level cache. At most this many such rows are read in place by separable sums, and by direct
# sums with a single column of taps. With more columns a row is read several times while it is
# cached; then copying rows gains nothing if they are further apart than _NEAR_ROW bytes.
_CACHE_WAY, _ROWS_OF_A_SET, _COLUMN_ROWS_OF_A_SET, _NEAR_ROW = 4096, 10, 18, 8192
# Rows of an image that no cache would hold are copied by direct sums with a number of rows of taps
# in this range, if they are further apart than _FAR_ROW bytes and do not begin at the same place of
# a page. A processor prefetches fewer rows at a time than a block of sums reads; with still more
# taps reading takes the smaller part of the time. Only with vectors as long as a cache line, whose
# sums wait for memory.
_FOLLOWED_LEAST, _FOLLOWED_MOST, _FAR_ROW, _PAGE = 6, 24, 14_000, 4096
# Nanoseconds of laying out a row of pixels phase by phase; of a pixel of it, if the row could be
# read in place instead; and of a pixel, if whole vectors cannot be de-interleaved at this stride.
_LAID_ROW, _LAID_PIXEL, _LAID_ALONE = 130, 0.2, 0.29
# If sums that the stride skips are computed too: nanoseconds of a tap of them, where rows of
# outputs share pixels and where not, and of picking out a sum that is kept.
_SKIPPED_TAP, _SKIPPED_TAP_ALONE, _KEPT = 0.025, 0.048, 0.15
# For columns of taps no further apart than this, micro-kernels are unrolled tap by tap.
STEP_MOST = 4


@dataclass(frozen=True)
class Places:
    """Where the sums of a plan read pixels and write results.

    Attributes
    ----------
    x_in_place : bool
        Pixels are read in place, at least those far from the border.
    as_they_are, converted : bool
        Sums are written in place: as they are, or converted in registers.
    past_caches : bool
        They are written past the caches.
    whole_rows : bool
        Whole rows of a narrow image are summed at once.
    few_columns : bool
        Some columns are summed separately: fewer than a vector's, or beside the border.
    loads : bool
        Some rows are read into a row buffer.
    """

    x_in_place: bool
    as_they_are: bool
    converted: bool
    past_caches: bool
    whole_rows: bool
    few_columns: bool
    loads: bool

    @property
    def out_in_place(self) -> bool:
        """Whether sums are written to the result in place."""
        return self.as_they_are or self.converted

    @property
    def stores(self) -> bool:
        """Whether some sums go to memory first, and are written to the result from there."""
        return self.few_columns or not self.out_in_place


def decide_places(
    problem: Problem, acc: str, rank: int, x_strides: tuple[int, ...],
    out_strides: tuple[int, ...], tasks: Tasks, divisor: int, *, x_in_place: bool,
    all_written: bool, for_columns: bool,
) -> Places:  # fmt: skip
    """Decide where sums in a dtype, times the divisor, are read and written.

    `all_written` says whether every sum is a result, and `for_columns` whether the plan is for a
    caller of its `sum_columns` (see `planning.plan_sums`).
    """
    from .jit import vectors

    as_they_are = all_written and _writes_in_place(problem, acc, out_strides, divisor)
    converted = all_written and converts_in_place(problem, acc, out_strides)
    whole_rows = not for_columns and as_they_are and _sums_whole_rows(problem, acc, rank, x_strides)
    lanes = vectors.lanes(dtypes.part(acc))
    return Places(
        x_in_place=x_in_place,
        as_they_are=as_they_are,
        converted=converted,
        past_caches=as_they_are and _streams_results(problem, out_strides),
        whole_rows=whole_rows,
        few_columns=for_columns or _sums_few_columns(problem, tasks, lanes, x_in_place),
        loads=not whole_rows
        and (for_columns or not x_in_place or _buffers_columns(problem, acc, rank, tasks)),
    )


def _writes_in_place(
    problem: Problem, acc: str, out_strides: tuple[int, ...], divisor: int
) -> bool:  # fmt: skip
    """Whether sums of a dtype, times the divisor, may be written to the result as they are."""
    return (
        problem.out_dtype == acc == dtypes.part(acc)
        and out_strides[-1] == dtypes.storage(problem.out_dtype).itemsize
        and divisor == 1
    )


def converts_in_place(problem: Problem, acc: str, out_strides: tuple[int, ...]) -> bool:
    """Whether sums are converted in registers and written to the result in place."""
    from .jit import saturated_results

    return (
        problem.out_dtype in saturated_results.DTYPES.get(acc, ())
        and out_strides[-1] == dtypes.storage(problem.out_dtype).itemsize
    )


def _sums_few_columns(problem: Problem, tasks: Tasks, lanes: int, x_in_place: bool) -> bool:
    """Whether some columns are summed separately: fewer than a vector's, or beside the border."""
    rest = problem.s % tasks.strip if tasks.strip else 0
    return problem.s < lanes or 0 < rest < lanes or (x_in_place and any(problem.pad[1]))


def edge_most(problem: Problem, acc: str, rank: int) -> int:
    """The most columns beside the border that are summed transposed."""
    from .jit import vectors

    # Rows of separable sums are summed by themselves.
    return vectors.lanes(acc) if not rank and any(problem.pad[1]) else 0


def _buffers_columns(problem: Problem, acc: str, rank: int, tasks: Tasks) -> bool:
    """Whether any columns are read into the row buffer although pixels are read in place.

    `direct_driver._sum_task` decides so by the same rule. It is worth knowing before, because
    compiling the function that loads rows takes a quarter of a first call.
    """
    from .jit import vectors

    left, width = run_of_columns(problem)
    last = left + width - restate_for_tables(problem).span[1] + 1
    lanes, most = vectors.lanes(acc), edge_most(problem, acc, rank)
    for first in range(0, problem.s, tasks.strip):
        end = min(problem.s, first + tasks.strip)
        low, high = max(first, left), min(end, last)
        if high - low < lanes:
            low = high = end
        if max(low - first, end - high) > most:
            return True
    return False


def _sums_whole_rows(problem: Problem, acc: str, rank: int, x_strides: tuple[int, ...]) -> bool:
    """Whether whole rows of a narrow image, whose sums are written in place, are summed at once."""
    from .jit.direct import narrow_images

    size, sides = (problem.s, problem.w, problem.p, problem.q), sides_of_rows(problem)
    return (
        problem.unit
        and rank == 0
        and problem.x_dtype == acc
        and is_contiguous(problem, x_strides)
        and not tables_are_gathered(problem)[1]
        and narrow_images.fits(acc, *size, *sides)
    )


def sides_of_rows(problem: Problem) -> tuple[int, int | None]:
    """Return the columns of the border left and right of a row, as `narrow_images` takes them."""
    left, right = problem.pad[1]
    return left, None if problem.boundary == "constant" or not left + right else right


def _streams_results(problem: Problem, out_strides: tuple[int, ...]) -> bool:
    """Whether a result is written past the caches, by non-temporal stores."""
    from .jit import vectors

    size = dtypes.storage(problem.out_dtype).itemsize
    large = math.prod(problem.out_shape) * size >= _STREAMED_BYTES
    wide = problem.s * size >= _STREAMED_ROW
    whole_lines = vectors.vector_bytes() == LINE_BYTES and out_strides[-2] % LINE_BYTES == 0
    return large and wide and whole_lines


def _rows_collide(problem: Problem, rank: int, row_stride: int) -> bool:
    """Whether the rows of a column of taps evict each other from the first-level cache."""
    from .jit.direct import micro_kernel

    distance = abs(row_stride) * problem.dilation[0]  # of the rows that are summed
    # With a stride outputs share no rows, so a copy would be read only once.
    if not rank and (problem.q > 1 or problem.stride[0] > 1 or distance > _NEAR_ROW):
        return False
    most = _ROWS_OF_A_SET if rank else _COLUMN_ROWS_OF_A_SET
    sets = _CACHE_WAY // math.gcd(distance, _CACHE_WAY) if distance else problem.p
    return problem.p + micro_kernel.ROWS - 1 > most * sets


def reads_in_place(problem: Problem, acc: str, rank: int, x_strides: tuple[int, ...]) -> bool:
    """Whether pixels are read in place, at least those far from the border."""
    return (
        _readable(problem, acc, rank)
        and is_contiguous(problem, x_strides)
        and not _rows_collide(problem, rank, x_strides[-2])
        and not _rows_are_far(problem, rank, x_strides[-2])
    )


def _rows_are_far(problem: Problem, rank: int, row_stride: int) -> bool:
    """Whether reading the rows of a block from memory would wait for one after the other."""
    from .jit import vectors

    nbytes = math.prod(problem.x_shape) * dtypes.storage(problem.x_dtype).itemsize
    return (
        rank == 0
        and problem.unit
        and _FOLLOWED_LEAST <= problem.p <= _FOLLOWED_MOST
        and abs(row_stride) > _FAR_ROW
        and row_stride % _PAGE != 0
        and nbytes > _STREAMED_BYTES
        and vectors.vector_bytes() == LINE_BYTES
    )


def _readable(problem: Problem, acc: str, rank: int) -> bool:
    """Whether pixels are read in place if they are contiguous."""
    # The columns beside the border are summed separately; in a narrow image copying all is cheaper.
    border = sum(problem.pad[1])
    short = rank > 0 and border > 0 and problem.s * np.dtype(acc).itemsize <= _SHORT_ROW
    narrow = short or problem.s < _NARROW * border
    one_run = not tables_are_gathered(problem)[1]
    real = acc == dtypes.part(acc)
    return problem.x_dtype == acc and real and problem.stride[1] == 1 and not narrow and one_run


def sums_all_columns(problem: Problem, acc: str, rank: int, x_strides: tuple[int, ...]) -> bool:
    """Whether the columns that a stride skips are summed, too, and then not written.

    With few taps, or in short rows, that takes less time than laying out rows phase by phase.
    """
    from .jit import row_buffer
    from .jit.direct import micro_kernel

    (sy, sx), taps = problem.stride, problem.p * problem.q
    if sx == 1 or rank:
        return False
    tap = _SKIPPED_TAP if sy == 1 else _SKIPPED_TAP_ALONE
    skipped = problem.s * ((sx - 1) * taps * tap + _KEPT)
    in_place = _readable(restate_with_all_columns(problem), acc, rank)
    pixel = in_place * _LAID_PIXEL + (sx not in row_buffer.TAKEN_APART) * _LAID_ALONE
    laid_out = min(sx, problem.span[1]) / sx * problem.w  # pixels of a row
    return (
        skipped <= min(sy, problem.p) * (_LAID_ROW + laid_out * pixel)
        and acc == dtypes.part(acc)
        and acc not in ("uint16", "int16")  # these have writers of their own
        and problem.dilation[1] <= STEP_MOST
        and micro_kernel.writes_out(acc, problem.q)
        and is_contiguous(problem, x_strides)
        and restate_for_tables(problem) == problem  # so no column of the padding is left out
    )


def restate_with_all_columns(problem: Problem) -> Problem:
    """Restate the problem without its column stride."""
    columns = problem.w + sum(problem.pad[1]) - problem.span[1] + 1
    return replace(
        problem,
        stride=(problem.stride[0], 1),
        out_shape=(*problem.out_shape[:-1], columns),
    )
