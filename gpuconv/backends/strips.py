"""Cutting a problem into strips: for host arrays on the GPU, and for copies of rows on the CPU.

A strip is a range of output rows of a part of the batch: many whole images where they are small, a
few rows of one where it is large. (The strips of `cpu.tasks` are ranges of columns.) Nothing here
touches arrays, a GPU or CuPy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ..core import dtypes
from ..core.array_types import Array
from ..core.blocks import even_length
from ..core.boundary import sources
from ..core.problem import (
    Index,
    Pair,
    Problem,
    build_axis_tables,
    slice_batch_shape,
    tables_are_gathered,
)

# Strips in progress at the same time: one uploaded, one computed, one downloaded.
LANES = 3
# Large enough for transfers at full speed, and small enough for page-locked buffers. There should
# be at least `STRIPS` of them, because nothing overlaps the first upload and the last download.
STRIP_BYTES = 64 << 20
STRIP_BYTES_LEAST = 16 << 20
STRIPS = 8
# Device memory is allocated in multiples of this.
ALLOCATION = 512
# Relative time of a call by lanes, where transfers take most of it.
_SLOWER = {3: 1.0, 2: 1.5, 1: 3.0}


class RowRun(NamedTuple):
    """Consecutive rows of the image, or one row that fills several rows of a strip."""

    rows: slice  # with step 1 or -1
    number: int  # rows of the strip


@dataclass(frozen=True)
class Strip:
    """Rows ``first`` to ``last - 1`` of the output images at `index` of the batch."""

    index: Index
    first: int
    last: int
    runs: tuple[RowRun, ...]  # the rows of the image that it reads, in order
    problem: Problem


@dataclass(frozen=True)
class StripLayout:
    """How a problem is cut into strips, and the device memory that `lanes` strips take."""

    # The batch is cut along one axis. A strip has one index of each axis before it and the whole of
    # each axis after it.
    axis: int
    count: int  # indices of that axis in a strip
    height: int  # rows of output in a strip
    whole: bool  # strips are whole images, whose border is left to the kernels
    lanes: int = 1
    x_bytes: int = 0
    out_bytes: int = 0
    workspace: int = 0  # bytes that computing a strip takes besides its buffers

    @property
    def device_bytes(self) -> int:
        """Device memory of the buffers of all lanes and of the workspace of one."""
        buffers = _allocated_bytes(self.x_bytes) + _allocated_bytes(self.out_bytes)
        return self.lanes * buffers + _allocated_bytes(self.workspace)

    def count_strips(self, problem: Problem) -> int:
        """Count the strips."""
        batch, axis = problem.batch, self.axis
        parts = -(-batch[axis] // self.count) if axis < len(batch) else 1
        return math.prod(batch[:axis]) * parts * -(-problem.r // self.height)


def _allocated_bytes(nbytes: int) -> int:
    """Return the bytes that an allocation of `nbytes` occupies."""
    return -(-nbytes // ALLOCATION) * ALLOCATION


def _is_gathered(problem: Problem) -> bool:
    """Whether strips hold the rows of each window, one window after the other (`AxisTable`).

    A constant border stays padding in a strip, so that its windows cannot be gathered.
    """
    return problem.boundary != "constant" and tables_are_gathered(problem)[0]


def row_steps(problem: Problem, height: int) -> Pair:
    """Return the vertical stride and dilation of windows in strips of `height` output rows.

    A row of taps reads a run of rows. Where these runs lie far apart in the image, they are closer
    in a strip, which has no row that nothing reads. The dilation stays the same modulo the stride,
    on which the order of sums may depend.

    Examples
    --------
    >>> from gpuconv.core.problem import make_problem
    >>> far = make_problem((9000, 80), (3, 3), "float32", "float32", dilation=(1000, 1))
    >>> row_steps(far, 2000), row_steps(far, 16)
    ((1, 1000), (1, 16))
    """
    if _is_gathered(problem):
        return problem.p, 1
    stride, dilation = problem.stride[0], problem.dilation[0]
    run = max(2, (height - 1) * stride + 1)  # with a dilation of 1 there may be another order
    return stride, min(dilation, run + (dilation - run) % stride)


def _padded_rows(problem: Problem, height: int) -> int:
    """Count the rows, padding included, of a strip of `height` output rows."""
    stride, dilation = row_steps(problem, height)
    return (height - 1) * stride + (problem.p - 1) * dilation + 1


def _input_rows(problem: Problem, height: int) -> int:
    """Count the rows of the image in a strip of `height` output rows, at most."""
    rows = _padded_rows(problem, height)
    return min(rows, problem.h) if problem.boundary == "constant" else rows


def _largest_height(problem: Problem, budget: int, x_row: int, out_row: int) -> int:
    """Return the most output rows, at least 1, whose strip takes at most `budget` bytes."""
    stride, p = problem.stride[0], problem.p
    if _is_gathered(problem):
        fit = budget // (p * x_row + out_row)
    else:
        # If the rows of all taps are contiguous in the image; if each row of taps has its own; and
        # if all rows of the image are in every strip.
        joined = (budget - (problem.span[0] - stride) * x_row) // (stride * x_row + out_row)
        apart = (budget - x_row) // (p * stride * x_row + out_row)
        fit = max(joined, apart)
        if problem.boundary == "constant":
            fit = max(fit, (budget - problem.h * x_row) // out_row)
    return max(1, min(fit, problem.r))


def _cut(problem: Problem, x_lead: tuple[int, ...], budget: int) -> StripLayout:
    """Cut into strips whose buffers take at most `budget` bytes, or else into the smallest ones."""
    x_row = problem.w * dtypes.storage(problem.x_dtype).itemsize
    out_row = problem.s * dtypes.storage(problem.out_dtype).itemsize
    x_image, out_image = problem.h * x_row, problem.r * out_row
    batch = problem.batch
    axis, count = len(batch), 1
    if x_image + out_image <= budget:
        x_bytes, out_bytes = x_image, out_image
        for a in reversed(range(len(batch))):
            # An image that is broadcast along the axis is uploaded once for all its indices.
            if x_lead[a] == 1:
                fit = (budget - x_bytes) // out_bytes
            else:
                fit = budget // (x_bytes + out_bytes)
            axis, count = a, even_length(batch[a], max(1, min(fit, batch[a])))
            x_bytes *= min(count, x_lead[a])
            out_bytes *= count
            if count < batch[a]:
                break
        return StripLayout(axis, count, problem.r, whole=True, x_bytes=x_bytes, out_bytes=out_bytes)

    def height(kernels: int) -> int:
        return even_length(problem.r, _largest_height(problem, budget, x_row, kernels * out_row))

    def is_lower_than_halo(kernels: int) -> bool:
        rows = height(kernels)
        stride, _ = row_steps(problem, rows)
        return _input_rows(problem, rows) > (2 * rows - 1) * stride

    if batch and x_lead[-1] == 1 < batch[-1]:
        # Several kernels share the image. A strip has as many of them as leave it higher than its
        # halo, which is uploaded again for every strip.
        count = batch[-1]
        while count > 1 and is_lower_than_halo(count):
            count = -(-count // 2)
        axis -= count > 1
    rows = height(count)
    return StripLayout(
        axis,
        count,
        rows,
        whole=False,
        x_bytes=_input_rows(problem, rows) * x_row,
        out_bytes=count * rows * out_row,
    )


def _batch_indices(batch: tuple[int, ...], layout: StripLayout) -> Iterator[Index]:
    """Iterate over the parts of the batch."""
    axis = layout.axis
    for outer in np.ndindex(batch[:axis]):
        if axis == len(batch):
            yield outer
            continue
        for start in range(0, batch[axis], layout.count):
            stop = min(batch[axis], start + layout.count)
            yield (*outer, slice(start, stop), *(slice(0, n) for n in batch[axis + 1 :]))


@lru_cache(maxsize=64)
def _restate(
    problem: Problem,
    x_shape: tuple[int, ...],
    k_shape: tuple[int, ...],
    out_shape: tuple[int, ...],
    pad: Pair,
    steps: Pair,
) -> Problem:
    return replace(
        problem,
        x_shape=x_shape,
        k_shape=k_shape,
        out_shape=out_shape,
        pad=(pad, problem.pad[1]),
        stride=(steps[0], problem.stride[1]),
        dilation=(steps[1], problem.dilation[1]),
    )


def _restate_part(
    problem: Problem, index: Index, x_rows: int, out_rows: int, pad: Pair, steps: Pair
) -> Problem:
    """State the problem of some rows of a part of the batch; `steps`: vertical stride, dilation."""
    x_lead = slice_batch_shape(problem.x_shape[:-2], index)
    k_lead = slice_batch_shape(problem.k_shape[:-2], index)
    out_lead = slice_batch_shape(problem.batch, index)
    return _restate(
        problem,
        (*x_lead, x_rows, problem.w),
        (*k_lead, problem.p, problem.q),
        (*out_lead, out_rows, problem.s),
        pad,
        steps,
    )


def _largest_problems(problem: Problem, layout: StripLayout) -> Iterator[Problem]:
    """State the problems of strips that may take the most memory."""
    index = next(_batch_indices(problem.batch, layout))
    if layout.whole:
        yield _restate_images(problem, index)
        return
    steps, rows = row_steps(problem, layout.height), _input_rows(problem, layout.height)
    below = _padded_rows(problem, layout.height) - rows
    yield _restate_part(problem, index, rows, layout.height, (0, below), steps)
    if problem.boundary == "constant" and any(problem.pad[0]):
        # Windows in the padding may be laid out in another way than those in the image.
        yield _restate_part(problem, index, 1, layout.height, (rows + below, 0), steps)


def _restate_images(problem: Problem, index: Index) -> Problem:
    """State the problem of whole images at an index of the batch."""
    steps = problem.stride[0], problem.dilation[0]
    return _restate_part(problem, index, problem.h, problem.r, problem.pad[0], steps)


def plan_strips(
    problem: Problem, workspace: Callable[[Problem], int], bound: int
) -> tuple[StripLayout | None, int]:
    """Return the fastest layout within `bound` bytes, and the bytes of the smallest layout.

    The layout is None if even the smallest takes more than `bound`.
    """
    batch = problem.batch
    lead = problem.x_shape[:-2]
    x_lead = (1,) * (len(batch) - len(lead)) + lead
    total = math.prod(problem.x_shape) * dtypes.storage(problem.x_dtype).itemsize
    total += math.prod(problem.out_shape) * dtypes.storage(problem.out_dtype).itemsize
    target = min(max(total // STRIPS, STRIP_BYTES_LEAST), STRIP_BYTES)
    best, least, price = None, 0, math.inf
    for lanes in range(LANES, 0, -1):
        budget = min(target, bound // lanes)
        while True:
            layout = _cut(problem, x_lead, budget)
            work = max(map(workspace, _largest_problems(problem, layout)))
            used = min(lanes, layout.count_strips(problem))
            layout = replace(layout, lanes=used, workspace=work)
            if layout.device_bytes <= bound or not budget:
                break
            fit = (bound - _allocated_bytes(work)) // lanes - 2 * (ALLOCATION - 1)
            budget = fit if budget // 2 < fit < budget else budget // 2
        least = layout.device_bytes
        rows = layout.height * row_steps(problem, layout.height)[0]
        halo = 1.0 if layout.whole else _input_rows(problem, layout.height) / rows
        if least <= bound and halo * _SLOWER[lanes] < price:
            best, price = layout, halo * _SLOWER[lanes]
    return best, least


def cut_strips(problem: Problem, layout: StripLayout) -> Iterator[Strip]:
    """Cut the problem into strips: index by index of the batch, from top to bottom.

    A strip holds the rows of a border as copies of the image's rows. A constant border stays
    padding, because the image's dtype may not be able to hold the fill value.
    """
    if layout.whole:
        everything = (RowRun(slice(0, problem.h), problem.h),)
        for index in _batch_indices(problem.batch, layout):
            yield Strip(index, 0, problem.r, everything, _restate_images(problem, index))
        return
    steps = row_steps(problem, layout.height)
    starts = range(0, problem.r, layout.height)
    for index, first in itertools.product(_batch_indices(problem.batch, layout), starts):
        last = min(problem.r, first + layout.height)
        rows, pad = _find_rows(problem, first, last, steps)
        part = _restate_part(problem, index, len(rows), last - first, pad, steps)
        yield Strip(index, first, last, _find_runs(rows), part)


def _find_rows(problem: Problem, first: int, last: int, steps: Pair) -> tuple[Array, Pair]:
    """Return the rows of the image that a strip reads, and its padding above and below."""
    if _is_gathered(problem):
        return build_axis_tables(problem)[0].part(first, last, problem.p), (0, 0)
    runs = list(_runs_of_taps(problem, first, last, steps))
    if problem.boundary != "constant":
        positions = np.concatenate([np.arange(*run) for run in runs])
        return sources(positions, problem.h, problem.boundary), (0, 0)
    # Runs are in rising order, so that padding is before all rows of the image and after them.
    h = problem.h
    above = sum(max(0, min(high, 0) - low) for low, high in runs)
    below = sum(max(0, high - max(low, h)) for low, high in runs)
    rows = np.concatenate([np.arange(max(low, 0), min(high, h)) for low, high in runs])
    if not rows.size:
        # The strip reads padding only. It needs a row of the image, which lies below its windows.
        return np.zeros(1, np.int64), (above + below, 0)
    return rows, (above, below)


def _runs_of_taps(problem: Problem, first: int, last: int, steps: Pair) -> Iterator[Pair]:
    """Yield the ranges of positions, the image's first row being 0, that a strip is made of."""
    low, (stride, dilation) = first * problem.stride[0] - problem.pad[0][0], steps
    if dilation == problem.dilation[0]:
        yield low, low + (last - first - 1) * stride + problem.span[0]
        return
    for tap in range(problem.p - 1):
        at = low + tap * problem.dilation[0]
        yield at, at + dilation
    at = low + (problem.p - 1) * problem.dilation[0]
    yield at, at + (last - first - 1) * stride + 1


def rows_before(problem: Problem, strip: Strip) -> int:
    """Count the rows of the result from its first one on that are complete before this strip."""
    image = 0
    for n, i in zip(problem.batch, strip.index, strict=True):
        image = image * n + (i.start if isinstance(i, slice) else i)
    return image * problem.r + strip.first


def rows_up_to(problem: Problem, strip: Strip) -> int:
    """Count the rows of the result from its first one on that are complete after this strip."""
    if strip.last == problem.r:  # of all its images
        return rows_before(problem, strip) - strip.first + strip.problem.n * problem.r
    return rows_before(problem, strip) - strip.first + strip.last


def _find_runs(rows: Array) -> tuple[RowRun, ...]:
    """Split rows into few runs, each rising or falling by one, or a single row repeated."""
    runs = []
    steps = np.diff(rows)
    breaks = np.flatnonzero(np.diff(steps)) + 1
    start = 0
    while start < len(rows):
        if start == len(rows) - 1:
            step, count = 1, 1
        else:
            step = int(steps[start])
            later = breaks[np.searchsorted(breaks, start, "right") :]
            count = (int(later[0]) if later.size else len(steps)) - start + 1
            if abs(step) > 1:
                step, count = 1, 1
        at = int(rows[start])
        if step < 0:
            stop = at - count
            runs.append(RowRun(slice(at, stop if stop >= 0 else None, -1), count))
        else:
            runs.append(RowRun(slice(at, at + (count if step else 1)), count))
        start += count
    return tuple(runs)
