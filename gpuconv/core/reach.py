"""Which taps and outputs meet a pixel at all, where constant padding of zeros is wide.

A tap that meets only padding adds zeros to every sum, and an output whose window holds only padding
is zero. With both left out, the cost of a call depends on the pixels there are, however far the
kernel reaches: a dilated kernel beside a small image, a kernel many times longer than the image, a
result that is mostly padding.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from .arguments import Pair
from .problem import Problem, rows_and_columns

__all__ = ["Part", "blocks_of_few_taps", "parts_with_pixels", "reaching_taps"]

# A smaller result is computed in one part: each has a fixed cost.
_SPLIT_LEAST = 1 << 14
# The most parts along an axis, and the fewest outputs between two of them.
_PARTS_MOST, _GAP_LEAST = 64, 16
# Taps are left out if at least one in this many can be.
_CROPPED_LEAST = 8
# Blocks of outputs are summed apart where all of them together have so many times fewer taps: so
# many blocks, or so many along each axis.
_TIMES_FEWER, _BLOCKS_MOST, _BLOCKS_MOST_OF_BOTH = 4, 64, 12


@dataclass(frozen=True)
class Part:
    """A rectangle of outputs and the taps that meet pixels in it."""

    problem: Problem
    outputs: tuple[slice, slice]  # rows and columns
    taps: tuple[slice, slice]


@dataclass(frozen=True)
class _PaddedAxis:
    """One axis of a problem with constant padding."""

    n: int  # pixels
    taps: int
    outputs: int
    stride: int
    dilation: int
    pad: Pair

    def restrict(self, first: int, last: int) -> _PaddedAxis:
        """Return the axis with the outputs ``first`` to ``last - 1`` alone.

        No window of it may begin within the image.
        """
        before = self.pad[0] - first * self.stride
        span = (self.taps - 1) * self.dilation + 1
        after = max(0, (last - first - 1) * self.stride + span - before - self.n)
        return replace(self, outputs=last - first, pad=(before, after))

    def reach(self) -> slice:
        """Return the taps from the first to the last that meet a pixel; at least one.

        No more are left out at either end than the padding there allows, so that no pixels need be
        cut off. The first tap kept has the same phase of the stride as the first of all, because
        the order of sums depends on it.
        """
        (before, after), d, s = self.pad, self.dilation, self.stride
        start = max(0, -(-(before - (self.outputs - 1) * s) // d))
        start = min(start, before // d, self.taps - 1)
        start -= start % self.phase_step()
        stop = min(self.taps, (self.n - 1 + before) // d + 1)
        return slice(start, max(stop, self.taps - after // d, start + 1))

    def phase_step(self) -> int:
        """Return the number of taps after which the phase of the stride repeats."""
        return self.stride // math.gcd(self.stride, self.dilation)

    def centre(self, kept: slice) -> slice:
        """Extend a range of taps until equally many are left out at both ends."""
        fewer = min(kept.start, self.taps - kept.stop)
        fewer -= fewer % self.phase_step()
        return slice(fewer, self.taps - fewer)

    def extend(self, kept: slice) -> slice:
        """Extend a range that holds one of several taps to hold two."""
        if kept.stop < self.taps:
            return slice(kept.start, kept.stop + 1)
        return slice(kept.start - self.phase_step(), kept.stop)

    def crop(self, kept: slice) -> _PaddedAxis:
        """Return the axis with some of its taps alone."""
        before, after = kept.start, self.taps - kept.stop
        pad = self.pad[0] - before * self.dilation, self.pad[1] - after * self.dilation
        return replace(self, taps=kept.stop - kept.start, pad=pad)

    def split(self) -> list[Pair]:
        """Return ranges of outputs; no output outside them meets a pixel."""
        whole = [(0, self.outputs)]
        if 2 * self.taps * (self.n // self.stride + 2) > self.outputs:
            return whole
        meets = self.pad[0] - np.arange(self.taps - 1, -1, -1, dtype=np.int64) * self.dilation
        # Rounded outwards, so that no window of a range begins or ends within the image.
        first = np.clip(meets // self.stride, 0, self.outputs)
        last = np.clip(-(-(meets + self.n - 1) // self.stride) + 1, 0, self.outputs)
        ranges: list[Pair] = []
        for a, b in zip(first.tolist(), last.tolist(), strict=True):
            if a >= b:
                continue
            if ranges and a <= ranges[-1][1] + _GAP_LEAST:
                ranges[-1] = ranges[-1][0], max(ranges[-1][1], b)
            else:
                ranges.append((a, b))
        return ranges if 0 < len(ranges) <= _PARTS_MOST else whole

    def split_into_blocks(self, most: int) -> list[Pair]:
        """Return at most so many ranges of all outputs, which meet pixels by different taps.

        No window of any but the last begins within the image, and of any but the first ends there.
        """
        span = (self.taps - 1) * self.dilation + 1
        first = max(0, -(-(self.n + self.pad[0] - span) // self.stride) + 1)
        last = min(self.pad[0] // self.stride, self.outputs)
        length = max(self.n // self.stride + 1, -(-self.outputs // most))
        cuts = [n for n in range(length, last + 1, length) if n >= first and n < self.outputs]
        return list(itertools.pairwise([0, *cuts, self.outputs]))


def _axes(problem: Problem) -> tuple[_PaddedAxis, _PaddedAxis]:
    rows, columns = (_PaddedAxis(*axis) for axis in rows_and_columns(problem))
    return rows, columns


def _restate(problem: Problem, axes: tuple[_PaddedAxis, _PaddedAxis]) -> Problem:
    rows, columns = axes
    return replace(
        problem,
        k_shape=(*problem.k_shape[:-2], rows.taps, columns.taps),
        out_shape=(*problem.out_shape[:-2], rows.outputs, columns.outputs),
        pad=(rows.pad, columns.pad),
    )


def _is_zero_padded(problem: Problem) -> bool:
    """Whether there is constant padding of zeros around pixels, and something to compute."""
    empty = 0 in problem.x_shape or 0 in problem.out_shape or 0 in problem.k_shape
    return problem.boundary == "constant" and problem.fillvalue == 0 and not empty


def _crop(
    axes: tuple[_PaddedAxis, _PaddedAxis], mirrored: bool, ordered: bool = False
) -> tuple[slice, slice]:
    """Return the taps to be kept: all of them, where few could be left out.

    Mirrored rows and columns of taps are summed from both ends at once, so they keep their middle.
    A single row or column is summed in another order than several are, so several stay several.
    `ordered` is for one that is known to be summed from its first tap to its last.
    """
    rows, columns = (axis.reach() for axis in axes)
    single = 1 in (axes[0].taps, axes[1].taps)
    if mirrored or (single and not ordered):
        rows, columns = axes[0].centre(rows), axes[1].centre(columns)
    elif not single:
        counts = rows.stop - rows.start, columns.stop - columns.start
        if counts[0] == 1 < counts[1]:
            rows = axes[0].extend(rows)
        elif counts[1] == 1 < counts[0]:
            columns = axes[1].extend(columns)
    kept = (rows.stop - rows.start) * (columns.stop - columns.start)
    taps = axes[0].taps * axes[1].taps
    if (taps - kept) * _CROPPED_LEAST < taps:
        return slice(0, axes[0].taps), slice(0, axes[1].taps)
    return rows, columns


@lru_cache(maxsize=512)
def reaching_taps(problem: Problem, mirrored: bool = False) -> Part | None:
    """Return the problem with only those taps that meet a pixel in some output.

    None if that is all of them, or most.
    """
    if not _is_zero_padded(problem):
        return None
    axes = _axes(problem)
    taps = _crop(axes, mirrored)
    rows, columns = (axis.crop(kept) for axis, kept in zip(axes, taps, strict=True))
    if (rows, columns) == axes:
        return None
    outputs = slice(0, problem.r), slice(0, problem.s)
    return Part(_restate(problem, (rows, columns)), outputs, taps)


@lru_cache(maxsize=512)
def parts_with_pixels(problem: Problem, mirrored: bool = False) -> tuple[Part, ...]:
    """Split a problem into those parts of the result that meet pixels.

    With `mirrored`, equally many taps are left out at both ends of the kernel. All outputs outside
    the parts are zero times the sum of the weights. No parts are returned where nothing would be
    saved.

    Examples
    --------
    >>> from gpuconv.core.problem import make_problem
    >>> far = make_problem((8, 8), (3, 3), "float32", "float32", mode="same", dilation=10**9)
    >>> [(part.taps, part.problem.pad) for part in parts_with_pixels(far)]
    [((slice(1, 2, None), slice(1, 2, None)), ((0, 0), (0, 0)))]
    """
    if not _is_zero_padded(problem):
        return ()
    if problem.r * problem.s < _SPLIT_LEAST:
        part = reaching_taps(problem, mirrored)
        return () if part is None else (part,)
    rows, columns = _axes(problem)
    ranges = list(itertools.product(rows.split(), columns.split()))
    area = sum((b - a) * (d - c) for (a, b), (c, d) in ranges)
    if 2 * area > problem.r * problem.s:
        part = reaching_taps(problem, mirrored)
        return () if part is None else (part,)
    parts = []
    for down, across in ranges:
        restricted = rows.restrict(*down), columns.restrict(*across)
        piece = _restate(problem, restricted)
        part = reaching_taps(piece, mirrored)
        whole = slice(0, problem.p), slice(0, problem.q)
        parts.append(
            Part(
                piece if part is None else part.problem,
                (slice(*down), slice(*across)),
                whole if part is None else part.taps,
            )
        )
    return tuple(parts)


@lru_cache(maxsize=128)
def blocks_of_few_taps(problem: Problem) -> tuple[Part, ...]:
    """Split a problem into blocks of outputs, each with those taps that meet pixels in it.

    That is for kernels many times longer than the image, whose outputs meet pixels by different
    taps. Sums take their taps in the order of all of them, if a single row or column is summed from
    its first tap to its last, as those that are not mirrored are. No blocks are returned where
    little would be saved.

    Examples
    --------
    >>> from gpuconv.core.problem import make_problem
    >>> far = make_problem((3, 300), (1, 40001), "float32", "float32", mode="full")
    >>> blocks = blocks_of_few_taps(far)
    >>> len(blocks), max(block.problem.q for block in blocks)
    (64, 929)
    """
    if not _is_zero_padded(problem) or problem.r * problem.s < _SPLIT_LEAST:
        return ()
    rows, columns = _axes(problem)
    for most in (_BLOCKS_MOST, _BLOCKS_MOST_OF_BOTH):
        down, across = (axis.split_into_blocks(most) for axis in (rows, columns))
        if len(down) * len(across) <= _BLOCKS_MOST:
            break
    ranges = list(itertools.product(down, across))
    blocks, sums = [], 0
    for i, j in ranges if len(ranges) > 1 else ():
        axes = rows.restrict(*i), columns.restrict(*j)
        taps = _crop(axes, mirrored=False, ordered=True)
        kept = axes[0].crop(taps[0]), axes[1].crop(taps[1])
        block = _restate(problem, kept)
        sums += block.r * block.s * block.p * block.q
        blocks.append(Part(block, (slice(*i), slice(*j)), taps))
    if not blocks or sums * _TIMES_FEWER > problem.r * problem.s * problem.p * problem.q:
        return ()
    return tuple(blocks)
