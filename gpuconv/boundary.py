"""The five borders as index maps: which pixel stands at each position of the padded image.

Every backend pads by these maps while it reads, so no padded copy of the image is ever made and
the border rule is written once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import unknown_name

__all__ = ["ALIASES", "BOUNDARIES", "canonical", "fold", "index_map"]

BOUNDARIES = ("constant", "edge", "reflect", "symmetric", "wrap")

# The names scipy.signal ("fill", "symm") and scipy.ndimage ("nearest", "mirror") use. ndimage's
# "reflect" is deliberately absent: it means our "symmetric", NumPy's "reflect" is ours.
ALIASES = {"fill": "constant", "symm": "symmetric", "nearest": "edge", "mirror": "reflect"}


def canonical(boundary: object) -> str:
    """Return the NumPy `pad` name of a border; ValueError with the allowed names otherwise."""
    if isinstance(boundary, str):
        if boundary in BOUNDARIES:
            return boundary
        if boundary in ALIASES:
            return ALIASES[boundary]
    raise unknown_name("boundary", boundary, (*BOUNDARIES, *ALIASES))


def index_map(
    n: int, before: int, after: int, boundary: str
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Index of the pixel that stands at each position of an axis padded by `before` and `after`.

    Parameters
    ----------
    n : int
        Length of the axis, at least 1.
    before, after : int
        Positions added on each side; either may exceed `n`, the pattern then repeats.
    boundary : str
        A name out of `BOUNDARIES`.

    Returns
    -------
    numpy.ndarray of int64, shape (before + n + after,)
        Values in ``0..n-1``; -1 stands for the fill value of a constant border.

    Examples
    --------
    >>> index_map(3, 2, 2, "reflect").tolist()
    [2, 1, 0, 1, 2, 1, 0]
    >>> index_map(3, 2, 2, "constant").tolist()
    [-1, -1, 0, 1, 2, -1, -1]
    """
    i = np.arange(-before, n + after, dtype=np.int64)
    if boundary == "constant":
        return np.where((i >= 0) & (i < n), i, np.int64(-1))
    if boundary == "edge":
        return np.clip(i, 0, n - 1)
    if boundary == "wrap":
        return i % n
    if boundary == "symmetric":
        i %= 2 * n
        return np.minimum(i, 2 * n - 1 - i)
    if boundary == "reflect":
        if n == 1:
            return np.zeros_like(i)
        i %= 2 * (n - 1)
        return np.minimum(i, 2 * (n - 1) - i)
    raise unknown_name("boundary", boundary, BOUNDARIES)


def fold(padded: Any, axis: int, n: int, before: int, after: int, boundary: str) -> Any:
    """Adjoint of padding: every padded position's value added to the pixel it was made of.

    Parameters
    ----------
    padded : array of shape (..., before + n + after, ...), NumPy or CuPy
        Values at the positions of the padded axis.
    axis : int
        The padded axis.
    n, before, after, boundary
        As for `index_map`.

    Returns
    -------
    array of shape (..., n, ...)
        New array, or a view of `padded` where nothing is folded; summed in a fixed order.

    Examples
    --------
    >>> fold(np.array([1, 10, 100, 1000, 10000]), 0, 3, 1, 1, "reflect").tolist()
    [10, 10101, 1000]
    """
    moved = padded.swapaxes(axis, -1)
    inside = moved[..., before : before + n]
    if boundary != "constant" and before + after:
        inside = inside.copy(order="K")  # in the layout it has: turning it costs more than all else
        targets = index_map(n, before, after, boundary)
        for first, last in ((0, before), (before + n, before + n + after)):
            while first < last:
                end, step = _run(targets, first, last)
                part = moved[..., first:end]
                start = int(targets[first])
                if step == 0:
                    inside[..., start] += part.sum(axis=-1)
                elif step == 1:
                    inside[..., start : start + end - first] += part
                else:
                    inside[..., start - (end - first) + 1 : start + 1] += part[..., ::-1]
                first = end
    return inside.swapaxes(axis, -1)


def _run(targets: Any, first: int, last: int) -> tuple[int, int]:
    """End of the longest run of targets from `first` on that are equal, rise or fall by one."""
    if first + 1 >= last:
        return last, 1
    step = int(targets[first + 1] - targets[first])
    if step not in (-1, 0, 1):
        return first + 1, 1
    steps = np.diff(targets[first:last])
    breaks = np.flatnonzero(steps != step)
    return first + (int(breaks[0]) + 1 if breaks.size else last - first), step
