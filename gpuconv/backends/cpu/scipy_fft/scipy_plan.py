"""Tiles of SciPy's transforms, up to the whole image: which of them cost least."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from ....core import dtypes
from ....core.problem import Problem, restate_for_tables, tables_are_gathered
from .. import fft_spectra
from ..costs import scipy_factor

# Work in the unit of `fft_plan.work`, before `scipy_factor`: of a forward and an inverse transform,
# for each element and each power of two in their size, and this much more for powers beyond the
# caches; of everything else, for each element; and the fixed work of a chunk of tiles. Some of it
# runs on one thread, however many there are.
_WORK, _FAR_WORK, _ELEMENT_WORK, _CHUNK_WORK = 0.2, 1.6, 3.5, 3e5
# The fixed work of a call.
_CALL_WORK = 1.5e5
# Powers of two of the size of a transform that the caches hold.
_NEAR_BITS = 20
# Bytes of tiles transformed at once.
CHUNK_BYTES = 4 << 20
# The most elements of a tile: this many, or this many times the pixels that the kernel covers. The
# workspace is a few times this, or a chunk of tiles. With larger tiles, up to one that holds the
# image, calls would not cost less.
_TILE_MOST, _TILE_MOST_SPANS = 1 << 23, 40


@dataclass(frozen=True)
class AxisTiles:
    """Tiles along one axis.

    Attributes
    ----------
    side, kept, count : int
        Pixels of a tile, outputs of a tile, and how many tiles there are.
    span, stride : int
        Pixels that the kernel covers, and the stride.
    transformed : bool
        Whether tiles are transformed along this axis.
    left_out : int
        Pixels beyond the tile that its outputs read, too. They are zero, as are equally many at the
        beginning of the tile, which the transform's wrap-around puts in their place.
    """

    side: int
    kept: int
    count: int
    span: int
    stride: int
    transformed: bool
    left_out: int = 0

    @property
    def sums(self) -> slice:
        """Places of the outputs in a tile."""
        return slice(0, self.kept * self.stride if self.transformed else self.kept, self.spacing)

    @property
    def spacing(self) -> int:
        """Distance in a tile from one output to the next."""
        return self.stride if self.transformed else 1


@dataclass(frozen=True)
class _Extent:
    """The padded pixels that outputs read along one axis."""

    outputs: int
    span: int
    stride: int
    length: int  # pixels, padding included
    zeros: int  # how many of these a transform of the whole may leave out, since they are zeros


def plan_axes(problem: Problem) -> tuple[AxisTiles, AxisTiles]:
    """Return the tiles down and across that cost least."""
    return _plan(problem)[0]


def work(problem: Problem) -> float:
    """Work of all tiles and of the spectra that are not kept, in the unit of `fft_plan.work`."""
    return _plan(problem)[1]


def rows_of_pixels(problem: Problem, down: AxisTiles) -> slice:
    """Return the rows of a tile that may hold anything but zeros."""
    extent = _extent(problem, 0)
    if down.count > 1:
        return slice(0, down.side)
    last = extent.length
    if not _zero_padding(problem, 0):
        return slice(0, min(down.side, last))
    before = min(problem.pad[0][0], last)
    return slice(before, min(down.side, last, before + problem.h))


def _zero_padding(problem: Problem, axis: int) -> bool:
    """Whether the padding is zeros, and read from the first to the last pixel."""
    zero = problem.boundary == "constant" and not problem.fillvalue
    return zero and not tables_are_gathered(problem)[axis]


def _extent(problem: Problem, axis: int) -> _Extent:
    laid = restate_for_tables(problem)
    span, stride = laid.span[axis], laid.stride[axis]
    outputs = max(1, laid.out_shape[axis - 2])  # without outputs nothing is computed
    length, zeros = (outputs - 1) * stride + span, 0
    if _zero_padding(problem, axis):
        before = laid.pad[axis][0]
        after = length - before - laid.x_shape[axis - 2]
        # An output that begins in what is left out would be lost.
        zeros = max(0, min(before, after, span - 1))
    return _Extent(outputs, span, stride, length, zeros)


def fast_length(least: int) -> int:
    """Return ``scipy.fft.next_fast_len(least, real=True)``: the next product of 2s, 3s and 5s.

    Choosing a method needs this, and importing SciPy's transforms takes longer than a small call.
    """
    best = 1 << (least - 1).bit_length()
    fives = 1
    while fives < best:
        odd = fives
        while odd < best:
            best = min(best, odd << (-(-least // odd) - 1).bit_length())
            odd *= 3
        fives *= 5
    return best


def _tilings(extent: _Extent, most: int) -> Iterator[AxisTiles]:
    """Yield tiles of sides that transform fast, from the kernel's to the whole image's."""
    span, stride, outputs = extent.span, extent.stride, extent.outputs
    whole = fast_length(max(span, extent.length - extent.zeros))
    side = 64
    while side < whole and side <= most:
        for n in (side, side * 3 // 2):
            if span <= n < whole:
                kept = min(outputs, (n - span) // stride + 1)
                yield AxisTiles(n, kept, -(-outputs // kept), span, stride, True)
        side *= 2
    if whole <= most:
        yield AxisTiles(whole, outputs, 1, span, stride, True, max(0, extent.length - whole))


@lru_cache(maxsize=256)
def _plan(problem: Problem) -> tuple[tuple[AxisTiles, AxisTiles], float]:
    transformed = [span > 1 for span in restate_for_tables(problem).span]
    transformed[1] |= not any(transformed)
    item = dtypes.storage(problem.acc_dtype).itemsize
    extents = [_extent(problem, axis) for axis in range(2)]
    spans = math.prod(
        extent.span for extent, taken in zip(extents, transformed, strict=True) if taken
    )
    choices: list[list[AxisTiles]] = []
    for extent, taken in zip(extents, transformed, strict=True):
        most = max(_TILE_MOST, _TILE_MOST_SPANS * extent.span)
        whole = AxisTiles(extent.outputs, extent.outputs, 1, extent.span, extent.stride, False)
        choices.append(list(_tilings(extent, most)) if taken else [whole])
    # If even the smallest tile has more elements than allowed, it is taken.
    smallest = math.prod(
        min(axis.side for axis in options) for options in choices if options[0].transformed
    )
    most = max(_TILE_MOST, _TILE_MOST_SPANS * spans, smallest)
    best, least = None, math.inf
    for pair in itertools.product(*choices):
        size = math.prod(axis.side for axis in pair if axis.transformed)
        if size > most:
            continue
        down, across = (_blocked(axis, other, item) for axis, other in (pair, pair[::-1]))
        cost = _work_of_tiles(problem, down, across, size, item)
        if cost < least:
            best, least = (down, across), cost
    assert best is not None  # the smallest tile is always one
    return best, least


def _work_of_tiles(
    problem: Problem, down: AxisTiles, across: AxisTiles, size: int, item: int
) -> float:
    """Work of tiles, with transforms of `size` elements of `item` bytes."""
    area = down.side * across.side
    tiles = problem.n * down.count * across.count
    chunks = down.count * max(1.0, problem.n * across.count * area * item / CHUNK_BYTES)
    kernels = math.prod(problem.k_shape[:-2])
    spectra = 0.0 if fft_spectra.are_kept(kernels, size * item) else 0.5 * kernels
    bits = math.log2(size)
    each = _WORK * bits + _FAR_WORK * max(0.0, bits - _NEAR_BITS) + _ELEMENT_WORK
    found = (tiles * area + spectra * size) * each + chunks * _CHUNK_WORK
    return found * scipy_factor() + _CALL_WORK


def _blocked(axis: AxisTiles, other: AxisTiles, item: int) -> AxisTiles:
    """Cut an axis that is not transformed into tiles that do not take too much memory."""
    if axis.transformed:
        return axis
    most = min(axis.side, max(1, CHUNK_BYTES // (other.side * item)))
    count = -(-axis.side // most)
    side = -(-axis.side // count)
    return AxisTiles(side, side, count, axis.span, axis.stride, False)
