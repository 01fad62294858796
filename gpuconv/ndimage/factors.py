"""Weights along more than two axes as a product: of lines along single axes, and of one plane."""

from __future__ import annotations

import math

import numpy as np

from ..core.array_types import Array
from ..methods.rank import separate_within

__all__ = ["split_into_lines"]

# Larger integers are factored as floats.
_LARGEST_INTEGER = 2.0**31


def split_into_lines(weights: Array) -> tuple[dict[int, Array], Array] | None:
    """Return lines of weights by their axes, and what is left, along two axes at most.

    The product of all is the weights, to rounding errors. None if they are no such product.

    Examples
    --------
    >>> lines, plane = split_into_lines(np.full((3, 2, 2), 6.0))
    >>> list(lines), plane.shape
    ([0], (1, 2, 2))
    >>> bool((lines[0][:, None, None] * plane == 6).all())
    True
    """
    lines: dict[int, Array] = {}
    left = weights
    for axis, length in enumerate(weights.shape):
        if sum(n > 1 for n in left.shape) <= 2:
            break
        if length == 1:
            continue
        moved = np.moveaxis(left, axis, 0)
        found = _product(moved.reshape(length, -1))
        if found is not None:
            lines[axis], rest = found
            left = np.moveaxis(rest.reshape(1, *moved.shape[1:]), 0, axis)
    return (lines, left) if sum(n > 1 for n in left.shape) <= 2 else None


def _product(matrix: Array) -> tuple[Array, Array] | None:
    """Return the column and the row of which a matrix is the product; integers where it is."""
    whole = matrix.dtype.kind == "f" and bool((matrix == np.rint(matrix)).all())
    if whole and (np.abs(matrix) < _LARGEST_INTEGER).all():
        found = separate_within(matrix.astype(np.int64)[None], "int64", "int64", 1, math.inf)
        if found.factors is not None and found.rank == 1:
            column, row = (part[0, 0].astype(np.float64) for part in found.factors[:2])
            if np.array_equal(np.outer(column, row), matrix):
                return column, row
    dtype = matrix.dtype.name
    found = separate_within(np.ascontiguousarray(matrix)[None], dtype, dtype, 1, math.inf)
    if found.factors is None or found.rank != 1:
        return None
    return found.factors.u[0, 0], found.factors.v[0, 0]
