"""Sums of the weights of windows that lie inside an image whose border is missing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..core.array_types import Array
from ..core.boundary import AxisShape

__all__ = ["InsideSums", "sum_inside"]


class InsideSums(NamedTuple):
    """Sums of weights, many of whose rows are the same.

    Attributes
    ----------
    rows : array, shape (..., n, columns)
        The different ones.
    index : array of int64, shape (rows,)
        Which of them each row of windows has.
    """

    rows: Array
    index: Array


def sum_inside(kernels: Array, down: AxisShape, across: AxisShape) -> InsideSums:
    """Sum the weights that each window has inside the image.

    They are sums of parts of the kernel: of as many as there are different ones, which does not
    depend on the size of the image.

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
    rows = np.stack([kernels[..., first:end, :].sum(axis=-2) for first, end in row_runs], axis=-2)
    parts = [rows[..., first:end].sum(axis=-1) for first, end in column_runs]
    return InsideSums(np.stack(parts, axis=-1)[..., of_column], index.astype(np.int64))


def _find_inside(axis: AxisShape) -> tuple[list[tuple[int, int]], Array]:
    """Return the different runs of taps inside, as (first, end), and which each window has."""
    start = axis.pad[0] - axis.stride * np.arange(axis.outputs)
    first, end = (
        np.clip(-(-edge // axis.dilation), 0, axis.taps) for edge in (start, start + axis.pixels)
    )
    _, of_each, index = np.unique(
        first * (axis.taps + 1) + end, return_index=True, return_inverse=True
    )
    return list(zip(first[of_each].tolist(), end[of_each].tolist(), strict=True)), index
