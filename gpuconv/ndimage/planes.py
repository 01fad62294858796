"""Passes of 2-D kernels over planes that are too large for working memory, in strips of rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ..core import arrays, blocks
from ..core.array_types import Array
from ..core.axes import move_to_last
from ..core.overlap import may_share_memory
from ..plans import plan
from .passes import Pass
from .stores import Store

__all__ = ["run_in_strips", "with_method_of_whole"]

# Sums by these methods have the same bits whatever else is summed in a call.
_OF_EACH_PLACE = ("direct", "separable")


def with_method_of_whole(one: Pass, store: Store, source: Array, x_dtype: str) -> Pass:
    """Choose the method by all pixels, so that results of parts have the bits of the whole."""
    if one.method != "auto" or not isinstance(source, np.ndarray) or one.weights.dtype.kind == "i":
        return one
    chosen = plan(
        source.shape, one.weights.shape, x_dtype=x_dtype, kernel=one.weights, axes=one.axes,
        mode=one.pad, dtype=store.dtype if store.is_plain else store.sums_dtype,
        **one.keywords(),
    )  # fmt: skip
    return replace(one, method=chosen.method)


def run_in_strips(
    one: Pass, store: Store, source: Array, target: Array, parts: Iterable[Array], most: int
) -> None:
    """Run a pass on one part after the other, each of whole planes, in strips of rows.

    Strips have about `most` elements, more where kernels are high, and are summed with the rows
    around them. `target` may be the same elements as `source` in the same order.
    """
    overwrites = may_share_memory(source, target)
    for part in parts:
        pixels, results = (move_to_last(array[part], one.axes) for array in (source, target))
        if overwrites and one.method not in _OF_EACH_PLACE and store.is_plain:
            pixels = pixels.copy()
        _run_on_planes(replace(one, axes=(-2, -1)), store, pixels, results, most)


def _run_on_planes(one: Pass, store: Store, source: Array, target: Array, most: int) -> None:
    xp = arrays.array_module(target)
    height, width = target.shape[-2:]
    taps = one.weights.shape[0]
    axis = blocks.Axis(height, height, taps, 1, one.pad[0], one.boundary)
    columns = blocks.BlockInput(((0, width),), None, one.pad[1], width)
    # Where bits depend on the strips, these must not depend on how planes lie in memory.
    size = target.size if one.method in _OF_EACH_PLACE else height * width
    count = _rows_of_a_strip(taps, most * height // size)
    rows_read = _OriginalRows(source, taps if may_share_memory(source, target) else 0)
    dtype = dict(dtype=store.dtype) if store.is_plain else {}
    for top in range(0, height, count):
        bottom = min(top + count, height)
        if count >= height:
            sums = one.correlate(source, **dtype)
        else:
            rows = axis.block_input(top, bottom)
            tiles = [[tile] for ends in rows.ranges for tile in rows_read.between(*ends)]
            sums = blocks.run_block(
                one.call, tiles, one.weights, rows, columns, **one.keywords(), **dtype
            )
        rows_read.keep_before(bottom)
        if store.is_plain:
            target[..., top:bottom, :] = sums
        else:
            sums = sums.astype(store.sums_dtype, copy=False)
            store.write(sums, target[..., top:bottom, :], xp)


def _rows_of_a_strip(taps: int, usual: int) -> int:
    """Return how many rows a strip has: few of them should be read for two strips."""
    return max(usual, min(8 * taps, 4 * usual), 2 * taps, 1)


class _OriginalRows:
    """Rows as they were before an array is overwritten from the top, as far as they are read.

    Windows reach `reach` rows up, to the first rows, and from the last rows back into the image.
    With 0 nothing is overwritten.
    """

    def __init__(self, array: Array, reach: int) -> None:
        self._array, self._reach, self._top = array, reach, 0
        self._first = array[..., :reach, :].copy()
        self._before = array[..., :0, :]

    def between(self, first: int, last: int) -> list[Array]:
        """Return the rows from `first` to before `last`, in pieces."""
        pieces, top = [], self._top
        kept = (0, self._first), (top - self._before.shape[-2], self._before)
        for start, rows in (*kept, (top, self._array[..., top:, :])):
            end = min(last, start + rows.shape[-2])
            if start <= first < end:
                pieces.append(rows[..., first - start : end - start, :])
                first = end
        return pieces

    def keep_before(self, bottom: int) -> None:
        """Keep what is read of the rows before `bottom`, which are overwritten next."""
        if self._reach:
            start = max(self._top, bottom - 2 * self._reach)
            self._before = self._array[..., start:bottom, :].copy()
            self._top = bottom
