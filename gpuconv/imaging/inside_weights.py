"""Sums of the weights of windows that lie inside an image whose border is missing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..core.array_types import Array
from ..core.problem import Problem

__all__ = ["InsideSums", "WindowAxis", "axes_of_windows", "sum_inside"]


class WindowAxis(NamedTuple):
    """The windows along one axis.

    Attributes
    ----------
    pixels, pad : int
        Pixels of the image, and missing ones before them.
    outputs, taps : int
        Windows, and the weights of each.
    stride, dilation : int
        Pixels between windows, and between weights.
    """

    pixels: int
    pad: int
    outputs: int
    taps: int
    stride: int
    dilation: int

    def find_inside(self) -> tuple[list[tuple[int, int]], Array]:
        """Return the different runs of taps inside, as (first, end), and which each window has."""
        start = self.pad - self.stride * np.arange(self.outputs)
        first, end = (
            np.clip(-(-edge // self.dilation), 0, self.taps)
            for edge in (start, start + self.pixels)
        )
        _, of_each, index = np.unique(
            first * (self.taps + 1) + end, return_index=True, return_inverse=True
        )
        return list(zip(first[of_each].tolist(), end[of_each].tolist(), strict=True)), index


def axes_of_windows(problem: Problem) -> tuple[WindowAxis, WindowAxis]:
    """Return the windows of a problem down the rows and across the columns."""
    sides, pads, taps = problem.x_shape[-2:], problem.pad, (problem.p, problem.q)
    outputs, steps = problem.out_shape[-2:], (problem.stride, problem.dilation)
    down, across = (
        WindowAxis(sides[i], pads[i][0], outputs[i], taps[i], steps[0][i], steps[1][i])
        for i in range(2)
    )
    return down, across


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


def sum_inside(kernels: Array, down: WindowAxis, across: WindowAxis) -> InsideSums:
    """Sum the weights that each window has inside the image.

    They are sums of parts of the kernel: of as many as there are different ones, which does not
    depend on the size of the image.

    Parameters
    ----------
    kernels : array, shape (..., p, q)
        As they lie over the pixels.
    down, across : WindowAxis

    Examples
    --------
    >>> import numpy as np
    >>> axis = WindowAxis(pixels=5, pad=1, outputs=5, taps=3, stride=1, dilation=1)
    >>> sums = sum_inside(np.ones((3, 3)), axis, axis)
    >>> sums.rows[sums.index]
    array([[4., 6., 6., 6., 4.],
           [6., 9., 9., 9., 6.],
           [6., 9., 9., 9., 6.],
           [6., 9., 9., 9., 6.],
           [4., 6., 6., 6., 4.]])
    """
    (row_runs, index), (column_runs, of_column) = down.find_inside(), across.find_inside()
    rows = np.stack([kernels[..., first:end, :].sum(axis=-2) for first, end in row_runs], axis=-2)
    parts = [rows[..., first:end].sum(axis=-1) for first, end in column_runs]
    return InsideSums(np.stack(parts, axis=-1)[..., of_column], index.astype(np.int64))
