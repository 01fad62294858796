"""The five borders as index maps: which pixel stands at each position of the padded image.

Every backend pads by these maps while it reads, so no padded copy of the image is ever made and
the border rule is written once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import unknown_name

__all__ = ["ALIASES", "BOUNDARIES", "canonical", "index_map"]

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
