"""Sums of the weights of windows that lie inside an image whose border is missing."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..backends.cpu.missing_sums import RowSums
from ..core.array_types import Array
from ..core.boundary import AxisShape

__all__ = ["least_inside", "sum_inside"]

# Dtypes in which weights are added.
_WIDER = {
    "float32": "float64", "complex64": "complex128",
    "float64": "longdouble", "complex128": "clongdouble",
}  # fmt: skip


def sum_inside(kernels: Array, down: AxisShape, across: AxisShape) -> RowSums:
    """Sum the weights that each window has inside the image.

    They are sums of parts of the kernel: of as many as there are different ones, which does not
    depend on the size of the image. It takes time in proportion to the kernel and to a row of sums.

    Parameters
    ----------
    kernels : array, shape (..., p, q)
        As they lie over the pixels.
    down, across : AxisShape
        The windows down the rows and across the columns.

    Examples
    --------
    >>> import numpy as np
    >>> axis = AxisShape(pixels=5, taps=3, outputs=5, stride=1, dilation=1, pad=(1, 1))
    >>> sums = sum_inside(np.ones((3, 3)), axis, axis)
    >>> sums.rows[sums.index]
    array([[4., 6., 6., 6., 4.],
           [6., 9., 9., 9., 6.],
           [6., 9., 9., 9., 6.],
           [6., 9., 9., 9., 6.],
           [4., 6., 6., 6., 4.]])
    """
    (row_runs, index), (column_runs, of_column) = _find_inside(down), _find_inside(across)
    # Added in a wider dtype where there is one, because a single row of sums may be that of many
    # windows.
    wide = kernels.astype(_WIDER.get(kernels.dtype.name, kernels.dtype))
    rows = _sum_runs(wide.swapaxes(-1, -2), *row_runs).swapaxes(-1, -2)
    sums = _sum_runs(rows, *column_runs).astype(kernels.dtype)
    return RowSums(sums.take(of_column, axis=-1), index)


def least_inside(kernel: Array, down: AxisShape, across: AxisShape) -> float:
    """Return the least of these sums, of a kernel without weights below 0.

    It is that of a window in one of the corners, which have the fewest taps inside.
    """
    rows, columns = (
        [_taps_inside(axis, output) for output in (0, axis.outputs - 1)] for axis in (down, across)
    )
    return float(min(kernel[i, j].sum(dtype=np.float64) for i in rows for j in columns))


def _taps_inside(axis: AxisShape, output: int) -> slice:
    """Return which taps of an output's window are inside."""
    start = axis.pad[0] - axis.stride * output
    first, end = (-(-edge // axis.dilation) for edge in (start, start + axis.pixels))
    return slice(max(0, first), max(0, end))


def _sum_runs(weights: Array, first: Array, end: Array) -> Array:
    """Sum the runs ``weights[..., first:end]``, given as arrays of both ends."""
    *lead, n = weights.shape
    before = np.zeros((*lead, n + 1), weights.dtype)
    before[..., 1:] = weights.cumsum(axis=-1)
    after = np.zeros_like(before)
    after[..., :-1] = weights[..., ::-1].cumsum(axis=-1)[..., ::-1]
    sums = np.where(first == 0, before.take(end, axis=-1), after.take(first, axis=-1))
    # Of an image that ends on both sides of a window. Differences of sums would lose digits.
    for run in np.flatnonzero((first > 0) & (end < n)):
        sums[..., run] = weights[..., first[run] : end[run]].sum(axis=-1)
    return sums


@lru_cache(maxsize=64)
def _find_inside(axis: AxisShape) -> tuple[tuple[Array, Array], Array]:
    """Return the different runs of taps inside (see `_sum_runs`), and which each window has."""
    start = axis.pad[0] - axis.stride * np.arange(axis.outputs)
    first, end = (
        np.clip(-(-edge // axis.dilation), 0, axis.taps) for edge in (start, start + axis.pixels)
    )
    _, of_each, index = np.unique(
        first * (axis.taps + 1) + end, return_index=True, return_inverse=True
    )
    return (first[of_each], end[of_each]), index.astype(np.int64)
