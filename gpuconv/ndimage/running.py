"""Running the passes of a filter: in one array and in slabs, or as a chain of new arrays.

A pass along one axis changes each line on its own. So where it overwrites what it reads, or its
sums need another dtype before they are stored, it goes slab by slab, in working memory of a
cache's size.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ..core import arrays
from ..core.casting import cast
from ..core.streams import use_stream_of
from .images import Image, Target, read_target
from .passes import Pass, prepare
from .slabs import cut
from .stores import Store

__all__ = ["SLAB", "run"]

# Elements of a slab on the host, a share of its cache, and on a device, enough for all processors.
SLAB, _DEVICE_SLAB = 1 << 18, 1 << 24


def run(image: Image, passes: Sequence[Pass], output: Any) -> Any:
    """Filter an image with one pass after the other; without any it is copied."""
    complex_sums = image.is_complex or any("complex" in str(p.weights.dtype) for p in passes)
    target = read_target(output, image, complex_sums)
    if image.deferred and target.array is None:
        return _run_deferred(image, passes, target.dtype)
    with use_stream_of(image.original, target.array):
        return _run_eagerly(image, passes, target)


def _run_eagerly(image: Image, passes: Sequence[Pass], target: Target) -> Any:
    source = arrays.read(image.original, "input", swapped=True)
    if target.array is None:
        result = arrays.empty(image.shape, target.dtype, source.device, source)
    else:
        result = arrays.read_out(target.array, image.shape, source.device).array
    if result.size:
        pixels, pixels_out = _with_rows(source.array), _with_rows(result)
        if arrays.may_share_memory(pixels, pixels_out) and not _is_same(pixels, pixels_out):
            pixels = pixels.copy()
        x_dtype = source.dtype
        if not passes:
            pixels_out[...] = pixels
        for one in passes:
            _run_pass(one, pixels, x_dtype, pixels_out, target.dtype)
            pixels, x_dtype = pixels_out, target.dtype
    return arrays.wrap(result, target.dtype, source) if target.array is None else target.array


def _with_rows(array: Any) -> Any:
    """View an array of fewer dimensions than two with two."""
    return array.reshape((1,) * (2 - array.ndim) + array.shape) if array.ndim < 2 else array


def _is_same(a: Any, b: Any) -> bool:
    """Whether two arrays are the same elements of memory in the same order."""
    same = a.shape == b.shape and a.strides == b.strides and a.dtype == b.dtype
    return same and _address(a) == _address(b)


def _address(array: Any) -> int:
    return int(array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr)


def _run_pass(one: Pass, source: Any, x_dtype: str, target: Any, dtype: str) -> None:
    """Run a pass that reads an array and writes it to another, or to the same."""
    one, source, target = _join_axes(one, source, target)
    one, store = prepare(one, x_dtype, dtype)
    overwrites = _is_same(source, target)
    if store.is_plain and not overwrites:
        one.correlate(source, out=target)
        return
    host = isinstance(target, np.ndarray)
    xp = np if host else sys.modules["cupy"]
    whole = [one.reaches_along(axis) for axis in range(-source.ndim, 0)]
    if overwrites and sum(whole) > 1:
        source = source.copy()
    sums_dtype = target.dtype if store.is_plain else store.sums_dtype()
    memory = None
    for slab in cut(target.shape, whole, SLAB if host else _DEVICE_SLAB):
        part = target[slab]
        if memory is None or memory.size < part.size:  # the first is the largest
            memory = xp.empty(part.size, sums_dtype)
        sums = memory[: part.size].reshape(part.shape)
        one.correlate(source[slab], out=sums)
        if store.is_plain:
            part[...] = sums
        else:
            store.write(sums, part, xp)


def _join_axes(one: Pass, source: Any, target: Any) -> tuple[Pass, Any, Any]:
    """View arrays with the axes before, and after, the one that a pass goes along as one.

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
    if after == 1:
        one = replace(one, weights=weights[None, :], axes=(-2, -1), pad=((0, 0), pad))
    else:
        one = replace(one, weights=weights[:, None], axes=(-2, -1), pad=(pad, (0, 0)))
    return one, lines.reshape(shape), lines_out.reshape(shape)


def _run_deferred(image: Image, passes: Sequence[Pass], dtype: str) -> Any:
    result, x_dtype = image.original, image.dtype
    missing = max(0, 2 - image.ndim)
    result = result.reshape((1,) * missing + image.shape) if missing else result
    if not passes:
        result = cast(result, dtype)
    for one in passes:
        result = _correlate_deferred(*prepare(one, x_dtype, dtype), result)
        x_dtype = dtype
    return result.reshape(image.shape) if missing else result


def _correlate_deferred(one: Pass, store: Store, image: Any) -> Any:
    if store.is_plain:
        return one.correlate(image, dtype=store.dtype)
    sums = one.correlate(image)
    if arrays.is_instance_of(image, "dask.array", "Array"):
        return sums.map_blocks(
            partial(_store_block, store), dtype=store.dtype, meta=sums._meta.astype(store.dtype)
        )
    return cast(sums / store.divisor, store.dtype)


def _store_block(store: Store, sums: Any) -> Any:
    xp = np if isinstance(sums, np.ndarray) else sys.modules["cupy"]
    target = xp.empty(sums.shape, store.dtype)
    store.write(sums.astype(store.sums_dtype()), target, xp)  # a copy: Dask may keep the sums
    return target
