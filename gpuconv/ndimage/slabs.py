"""Runs passes slab by slab, in working memory as large as a cache and not as the image.

A pass along one axis changes every line independently of the others. So the image can be cut into
slabs along axes that the passes leave alone. That is done for a pass that overwrites what it reads,
or whose sums need another dtype before they are stored, and for several passes. Threads take slabs
of their own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np

from ..backends.cpu.threads import run_on_pool, threads
from ..core import arrays
from ..core.array_types import Array
from ..core.overlap import may_share_memory
from ..core.scratch import Scratch
from .passes import Pass, prepare
from .planes import run_in_strips, with_method_of_whole
from .stores import Store

__all__ = ["SLAB", "cut", "join_axes", "run_passes"]

# Elements of a slab: on the host it fits into a share of the cache, on a device it keeps all
# multiprocessors busy.
SLAB, _DEVICE_SLAB = 1 << 18, 1 << 24
# Rows of up to this many pixels, such as the channels of a photo, are too short to be summed one by
# one.
_FEW = 16
# Elements of a cache line.
_LINE = 16


def cut(
    shape: Sequence[int], whole: Sequence[bool], most: int, innermost: int | None = None
) -> Iterator[tuple[slice, ...]]:
    """Cut an array into parts of at most `most` elements, along the axes that are not `whole`.

    The first axes are cut first. Where the axes that stay whole have more elements than that, each
    part is one line along them; along the `innermost` axis in memory it is `_LINE` elements, which
    are read together. No part is larger than the first. An array without elements has no parts.

    Examples
    --------
    >>> list(cut((4, 5), (False, True), 10))
    [(slice(0, 2, None), slice(0, 5, None)), (slice(2, 4, None), slice(0, 5, None))]
    """
    if 0 in shape:
        return iter(())
    lengths = list(shape)
    for axis, length in enumerate(shape):
        if not whole[axis]:
            least = min(length, _LINE) if axis == innermost else 1
            lengths[axis] = max(least, min(length, most * length // math.prod(lengths)))
    ranges = (
        [slice(start, min(start + part, n)) for start in range(0, n, part)]
        for n, part in zip(shape, lengths, strict=True)
    )
    return itertools.product(*ranges)


def run_passes(
    passes: Sequence[Pass], source: Array, x_dtype: str, target: Array, dtype: str
) -> None:
    """Run passes from one array to another, which may be the same elements in the same order."""
    overwrites = may_share_memory(source, target)
    for group in _groups(passes, target) if len(passes) > 1 else [list(passes)]:
        _run_group(group, source, x_dtype, target, dtype, overwrites)
        source, x_dtype, overwrites = target, dtype, True


def _run_group(
    group: list[Pass], source: Array, x_dtype: str, target: Array, dtype: str, overwrites: bool
) -> None:
    alone = len(group) == 1
    if alone and 1 in group[0].weights.shape:
        one, source, target = join_axes(group[0], source, target)
        group = [one]
    axes = range(-target.ndim, 0)
    whole = [any(one.reaches_along(axis) for one in group) for axis in axes]
    steps = [prepare(one, dtype if n else x_dtype, dtype) for n, one in enumerate(group)]
    first, store = steps[0]
    if alone and store.is_plain and not overwrites:
        first.correlate(source, out=target)
        return
    most = SLAB if arrays.array_module(target) is np else _DEVICE_SLAB
    planes = alone and sum(whole) == 2
    slabs = list(cut(target.shape, whole, most, _innermost(target) if planes else None))
    if planes:
        if len(slabs) > 1 or target.size > 2 * most:
            first = with_method_of_whole(first, store, source, x_dtype)
        if first.method == "fft" and overwrites and store.is_plain:  # its bits are of the whole
            first.correlate(source.copy(), out=target)
            return
        if target[slabs[0]].size > 2 * most:
            run_in_strips(first, store, source, target, slabs, most)
            return
        steps = [(first, store)]
    _run_in_slabs(_Chain(tuple(steps), source, target, overwrites), slabs)


def _innermost(array: Array) -> int:
    """Return the axis along which elements are next to each other in memory."""
    return min(reversed(range(array.ndim)), key=lambda axis: abs(array.strides[axis]))


def _run_in_slabs(chain: _Chain, slabs: list[tuple[slice, ...]]) -> None:
    xp = arrays.array_module(chain.target)
    failed: list[None] = []

    def work(first: int, last: int) -> None:
        scratch = Scratch(xp)
        alone = last - first == len(slabs)  # no other thread has any
        with nullcontext() if alone else threads(1):
            for slab in slabs[first:last]:
                if failed:
                    return
                chain.run(slab, scratch)

    try:
        run_on_pool(work, len(slabs), xp is np and len(slabs) > 1)
    except BaseException:
        failed.append(None)  # no other thread goes on writing to the caller's array
        raise


def _groups(passes: Sequence[Pass], target: Array) -> Iterator[list[Pass]]:
    """Group successive passes that leave the axis of the longest stride alone.

    What lies between them then stays in the cache.
    """
    outermost = max(range(-target.ndim, 0), key=lambda axis: abs(target.strides[axis]))
    is_small = math.prod(target.shape) // target.shape[outermost] <= 2 * SLAB

    def may_join(one: Pass) -> bool:
        return is_small and not one.reaches_along(outermost)

    for joined, group in itertools.groupby(passes, may_join):
        if joined:
            yield list(group)
        else:
            yield from ([one] for one in group)


@dataclass(frozen=True)
class _Chain:
    """Passes to run one after the other on each slab."""

    steps: tuple[tuple[Pass, Store], ...]
    source: Array
    target: Array
    overwrites: bool

    def run(self, slab: tuple[slice, ...], scratch: Scratch) -> None:
        """Run them on a slab; what lies between two of them is in `scratch`."""
        pixels, target = self.source[slab], self.target[slab]
        for number, (one, store) in enumerate(self.steps, 1):
            if number == len(self.steps):
                result = target
            else:
                result = scratch.take(f"result {number % 2}", target.shape, target.dtype)
            lines = result
            if len(self.steps) > 1:  # whoever runs one step has joined axes already
                one, pixels, lines = join_axes(one, pixels, result)
            if not store.is_plain:
                sums = scratch.take("sums", lines.shape, store.sums_dtype)
                one.correlate(pixels, out=sums)
                store.write(sums, lines, scratch.xp)
            elif self.overwrites and len(self.steps) == 1:
                lines[...] = one.correlate(
                    pixels, out=scratch.take("result", lines.shape, lines.dtype)
                )
            else:
                one.correlate(pixels, out=lines)
            pixels = result


def join_axes(one: Pass, source: Array, target: Array) -> tuple[Pass, Array, Array]:
    """Join the axes before the one that a pass goes along, and those after it, as views.

    Long rows are summed faster than short ones. Arrays that cannot be viewed so stay as they are.
    """
    along = [axis for axis in range(source.ndim) if one.reaches_along(axis - source.ndim)]
    if len(along) != 1:
        return one, source, target
    order = sorted(range(target.ndim), key=lambda axis: -abs(target.strides[axis]))
    lines, lines_out = source.transpose(order), target.transpose(order)
    if not (lines.flags.c_contiguous and lines_out.flags.c_contiguous):
        return one, source, target
    place = order.index(along[0])
    before, taps, after = (
        math.prod(lines.shape[part])
        for part in (slice(place), slice(place, place + 1), slice(place + 1, None))
    )
    shape = (before, taps) if after == 1 else (before, taps, after)
    weights, pad = one.weights.reshape(-1), one.pad[one.axes.index(along[0] - source.ndim)]
    if after <= _FEW:  # lines of pixels that take turns in memory, or of pixels alone
        at = (-2, -1) if after == 1 else (-3, -2)
        one = replace(one, weights=weights[None, :], axes=at, pad=((0, 0), pad))
    else:
        one = replace(one, weights=weights[:, None], axes=(-2, -1), pad=(pad, (0, 0)))
    return one, lines.reshape(shape), lines_out.reshape(shape)
