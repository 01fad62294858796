"""Pure planning of host arrays in parts, through the GPU mostly: what makes a strip, its memory.

A strip is a part of the batch times a range of output rows: many whole images where they are small,
some rows of one where it is large. Nothing here needs a GPU or CuPy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..core import dtypes
from ..core.boundary import sources
from ..core.problem import Index, Problem, gathered, part_of_shape, tables

# Strips at a time: one coming, one computed, one going.
LANES = 3
# Large enough for transfers at full speed, small enough to be page-locked without thought; and
# enough of them that the first one in and the last one out are a small part of the whole.
STRIP_BYTES = 64 << 20
STRIP_BYTES_LEAST = 16 << 20
STRIPS = 8
# Device memory is given out in multiples of this.
ALLOCATION = 512
# How much longer a call takes with fewer lanes, where transfers take longest.
_SLOWER = {3: 1.0, 2: 1.5, 1: 3.0}


class Run(NamedTuple):
    """Rows of the image, forwards or backwards; a single one may fill several rows of a strip."""

    rows: slice
    number: int


@dataclass(frozen=True)
class Strip:
    """One part of the work: rows ``first..last`` of the output images at `index` of the batch."""

    index: Index
    first: int
    last: int
    runs: tuple[Run, ...]  # the rows of the image it is made from, in order
    problem: Problem


@dataclass(frozen=True)
class Layout:
    """How a problem is cut, and what of the device each of `lanes` strips on their way takes."""

    # The batch is cut along one axis; those before it go one by one, those behind it whole.
    axis: int
    count: int
    height: int  # rows of output
    whole: bool  # images go whole, with their border left to the kernels
    lanes: int
    x_bytes: int
    out_bytes: int
    workspace: int  # what computing a strip takes beside the buffers

    @property
    def device_bytes(self) -> int:
        """Device memory of all lanes, and of the one strip that is being computed."""
        buffers = rounded(self.x_bytes) + rounded(self.out_bytes)
        return self.lanes * buffers + rounded(self.workspace)

    def number(self, problem: Problem) -> int:
        """Strips in all."""
        batch, axis = problem.batch, self.axis
        parts = -(-batch[axis] // self.count) if axis < len(batch) else 1
        return math.prod(batch[:axis]) * parts * -(-problem.r // self.height)


def rounded(nbytes: int) -> int:
    """Bytes that an allocation of `nbytes` takes."""
    return -(-nbytes // ALLOCATION) * ALLOCATION


def vertical(problem: Problem) -> tuple[int, int, int]:
    """Stride, dilation and rows of a window in the rows that a strip is made from.

    Those of the problem, or of its table where a border of pixels would repeat rows without need.
    A constant border is padding in a strip, too, and takes no rows.
    """
    if problem.boundary != "constant" and gathered(problem)[0]:
        return problem.p, 1, problem.p
    return problem.stride[0], problem.dilation[0], problem.span[0]


def _rows_of(problem: Problem, height: int) -> int:
    stride, _, span = vertical(problem)
    return (height - 1) * stride + span


def _even(length: int, most: int) -> int:
    """Length of as many parts as parts of `most` would be, but nearly equal ones."""
    return -(-length // -(-length // most))


def _cut(problem: Problem, x_lead: tuple[int, ...], budget: int) -> Layout:
    """Cut into strips whose buffers take at most `budget` bytes, or the smallest there are."""
    x_row = problem.w * dtypes.storage(problem.x_dtype).itemsize
    out_row = problem.s * dtypes.storage(problem.out_dtype).itemsize
    x_image, out_image = problem.h * x_row, problem.r * out_row
    batch = problem.batch
    axis, count = len(batch), 1
    if x_image + out_image <= budget:
        x_bytes, out_bytes = x_image, out_image
        for a in reversed(range(len(batch))):
            # An image that all of the axis shares is uploaded once for all of it.
            if x_lead[a] == 1:
                fit = (budget - x_bytes) // out_bytes
            else:
                fit = budget // (x_bytes + out_bytes)
            axis, count = a, _even(batch[a], max(1, min(fit, batch[a])))
            x_bytes *= min(count, x_lead[a])
            out_bytes *= count
            if count < batch[a]:
                break
        return Layout(axis, count, problem.r, True, 1, x_bytes, out_bytes, 0)

    sy, _, span = vertical(problem)

    def height(kernels: int) -> int:
        rows = (budget - (span - sy) * x_row) // (sy * x_row + kernels * out_row)
        return _even(problem.r, max(1, min(int(rows), problem.r)))

    if batch and x_lead[-1] == 1 < batch[-1]:
        # Several kernels share the image: as many at once as leave strips higher than their halo.
        count = batch[-1]
        while count > 1 and height(count) * sy < span:
            count = -(-count // 2)
        axis -= count > 1
    rows = height(count)
    return Layout(
        axis, count, rows, False, 1, _rows_of(problem, rows) * x_row, count * rows * out_row, 0
    )


def _index(batch: tuple[int, ...], layout: Layout) -> Iterator[Index]:
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
    pad: tuple[int, int],
    steps: tuple[int, int],
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


def _part(
    problem: Problem,
    index: Index,
    x_rows: int,
    out_rows: int,
    pad: tuple[int, int],
    steps: tuple[int, int],
) -> Problem:
    """State the problem of a part of the batch and of the rows, `steps` apart."""
    x_lead = part_of_shape(problem.x_shape[:-2], index)
    k_lead = part_of_shape(problem.k_shape[:-2], index)
    out_lead = part_of_shape(problem.batch, index)
    return _restate(
        problem,
        (*x_lead, x_rows, problem.w),
        (*k_lead, problem.p, problem.q),
        (*out_lead, out_rows, problem.s),
        pad,
        steps,
    )


def _largest(problem: Problem, layout: Layout) -> Problem:
    index = next(_index(problem.batch, layout))
    if layout.whole:
        return _whole(problem, index)
    rows, steps = _rows_of(problem, layout.height), vertical(problem)[:2]
    return _part(problem, index, rows, layout.height, (0, 0), steps)


def _whole(problem: Problem, index: Index) -> Problem:
    steps = problem.stride[0], problem.dilation[0]
    return _part(problem, index, problem.h, problem.r, problem.pad[0], steps)


def plan_strips(
    problem: Problem, workspace: Callable[[Problem], int], bound: int
) -> tuple[Layout | None, int]:
    """Return the layout that costs least within `bound` bytes of device memory.

    Where there is none, None and the bytes that the least one needs.
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
            work = workspace(_largest(problem, layout))
            used = min(lanes, layout.number(problem))
            layout = replace(layout, lanes=used, workspace=work)
            if layout.device_bytes <= bound or not budget:
                break
            fit = (bound - rounded(work)) // lanes - 2 * (ALLOCATION - 1)
            budget = fit if budget // 2 < fit < budget else budget // 2
        least = layout.device_bytes
        rows = layout.height * vertical(problem)[0]
        halo = 1.0 if layout.whole else _rows_of(problem, layout.height) / rows
        if least <= bound and halo * _SLOWER[lanes] < price:
            best, price = layout, halo * _SLOWER[lanes]
    return best, least


def strips(problem: Problem, layout: Layout) -> Iterator[Strip]:
    """Cut the problem into strips; rows within images, images within the batch.

    Borders other than constant are made by naming rows twice; a constant one stays padding, because
    the fill value may not fit the image's dtype.
    """
    if layout.whole:
        everything = (Run(slice(0, problem.h), problem.h),)
        for index in _index(problem.batch, layout):
            yield Strip(index, 0, problem.r, everything, _whole(problem, index))
        return
    steps = vertical(problem)[:2]
    starts = range(0, problem.r, layout.height)
    for index, first in itertools.product(_index(problem.batch, layout), starts):
        last = min(problem.r, first + layout.height)
        rows, pad = _needed(problem, first, last)
        part = _part(problem, index, len(rows), last - first, pad, steps)
        yield Strip(index, first, last, _runs(rows), part)


def _needed(problem: Problem, first: int, last: int) -> tuple[Any, tuple[int, int]]:
    """Rows of the image that a strip is made from, in order, and its padding above and below."""
    if problem.boundary != "constant" and gathered(problem)[0]:
        return tables(problem)[0].part(first, last, problem.p), (0, 0)
    low = first * problem.stride[0] - problem.pad[0][0]
    high = low + _rows_of(problem, last - first)
    if problem.boundary != "constant":
        return sources(np.arange(low, high), problem.h, problem.boundary), (0, 0)
    inside = np.arange(max(low, 0), min(high, problem.h))
    if not inside.size:
        # All fill: one row of the image below everything that is read.
        return np.zeros(1, np.int64), (high - low, 0)
    return inside, (max(0, -low), max(0, high - problem.h))


def rows_before(problem: Problem, strip: Strip) -> int:
    """Rows of the result, counted from its first one on, that the strips before this one make."""
    image = 0
    for n, i in zip(problem.batch, strip.index, strict=True):
        image = image * n + (i.start if isinstance(i, slice) else i)
    return image * problem.r + strip.first


def rows_up_to(problem: Problem, strip: Strip) -> int:
    """Rows of the result, counted from its first one on, that the strips up to this one make."""
    if strip.last == problem.r:  # of all its images
        return rows_before(problem, strip) - strip.first + strip.problem.n * problem.r
    return rows_before(problem, strip) - strip.first + strip.last


def _runs(rows: Any) -> tuple[Run, ...]:
    """Rows as the fewest slices, each rising or falling by one, or a single row repeated."""
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
            runs.append(Run(slice(at, stop if stop >= 0 else None, -1), count))
        else:
            runs.append(Run(slice(at, at + (count if step else 1)), count))
        start += count
    return tuple(runs)
