"""Rows of similarities, from the sums of windows and a correlation.

In this folder `first` holds the windows' sums of pixels less a centre, and `second` those of the
squares of these. For SQDIFF_NORMED `first` holds the sums of the squares of the pixels as they are
(`raw_squares`).
"""

from __future__ import annotations

import numpy as np

from .....core.array_types import Array
from ..drivers import inner
from ..intrinsics import elements, reader, smaller
from ..params import WINDOW_PARAMS

__all__ = [
    "METHODS",
    "SQDIFF_NORMED",
    "ZNCC",
    "finish_row",
    "row_of",
    "task_of",
    "window_params",
]

window_params = reader(WINDOW_PARAMS)

ZNCC, NCC, SQDIFF, SQDIFF_NORMED = range(4)
METHODS = {"zncc": ZNCC, "ncc": NCC, "sqdiff": SQDIFF, "sqdiff_normed": SQDIFF_NORMED}
# A window's squared deviations nearly cancel where they are at most this share of its squares: see
# `imaging.faint_windows`.
_LEAST_SHARE = 1e-9


@inner
def task_of(address: int, task: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the first row of a task and the one after the last, and the same of columns."""
    params = window_params(address)
    top, left = task // params.across * params.height, task % params.across * params.width
    rows = top, smaller(top + params.height, params.rows)
    return rows, (left, smaller(left + params.width, params.columns))


@inner
def row_of(kind: Array, place: tuple[int, int], i: int, left: int, width: int) -> Array:
    """Return pixels of row `i` of an image from column `left` on.

    The image is passed by its place, which is an address and the bytes of a row, and an array of
    its dtype, so that code is compiled once for read-only images and others.
    """
    return elements(kind, place[0] + i * place[1] + left * kind.itemsize, width)


@inner
def _subtract_means(n: int, first: Array, second: Array, square: Array) -> None:
    """Turn sums of n pixels into means, and sums of their squares into squared deviations."""
    for j in range(len(square)):
        mean = first[j] / n
        square[j] = second[j] - first[j] * mean
        first[j] = mean


@inner
def _mark(second: Array, square: Array, marks: Array) -> None:
    """Mark the windows whose deviations nearly cancel."""
    for j in range(len(marks)):
        value, own = second[j], square[j]
        marks[j] = (own <= _LEAST_SHARE * (value - own)) & (value > 0)


@inner
def _update_extremes(
    divisors: Array, second: Array, marks: Array, least: Array, largest: Array
) -> None:  # fmt: skip
    """Update the least divisor and the largest sum of squares of each column by a row.

    Such loops are vectorised; one with a single result for all columns would not be.
    """
    for j in range(len(least)):
        value, old = divisors[j], least[j]
        value = value if (value > 0) & (marks[j] == 0) else np.inf
        least[j] = value if value < old else old
    for j in range(len(largest)):
        value, old = second[j], largest[j]
        value = value if value < np.inf else 0.0
        largest[j] = value if value > old else old


@inner
def _coefficients(
    found: Array, first: Array, square: Array, shift: float, of_template: Array, marks: Array
) -> None:
    """Compute the coefficients of a row; those of marked windows are not divided by deviations."""
    total, factor = of_template[0], of_template[2]
    for j in range(len(found)):
        value = (found[j] - (first[j] + shift) * total) * factor
        ratio = value / np.sqrt(square[j]) if square[j] != 0 else 0.0
        ratio = 1.0 if ratio > 1 else ratio
        ratio = -1.0 if ratio < -1 else ratio
        found[j] = value if marks[j] else ratio


@inner
def _difference(
    found: Array, raw_squares: Array, second: Array, of_template: Array, normed: bool
) -> None:  # fmt: skip
    """Compute the squared differences of a row; `raw_squares` are read if they are `normed`."""
    square, factor = of_template[1], of_template[2]  # a factor of 0: a template of zeros
    for j in range(len(found)):
        value = second[j] - 2 * found[j] + square
        value = 0.0 if value < 0 else value
        found[j] = np.inf if second[j] == np.inf else value
    if normed:
        for j in range(len(found)):
            # One after the other: a product of sums of squares may leave the range of float64.
            scale = np.sqrt(raw_squares[j])
            if (scale != 0) & (factor != 0):
                found[j] = found[j] / scale * factor
            elif found[j] != 0:
                found[j] = np.inf


@inner
def finish_row(
    method: int, n: int, first: Array, second: Array, shift: float, of_templates: Array,
    correlations: Array, results: Array, row: int, left: int, marks: Array, lines: Array,
) -> None:  # fmt: skip
    """Turn a row of every template's correlations, from column `left` on, into similarities.

    Parameters
    ----------
    method : int
        From `METHODS`.
    n : int
        Pixels of a window.
    first, second : array, shape (columns,), float64
        Sums of the windows' pixels less a centre, and of the squares of these. For SQDIFF_NORMED
        `first` holds the sums of the squares of the pixels as they are.
    shift : float
        What is added to the means of pixels less the centre, as they are correlated.
    of_templates : array, shape (templates, 3), float64
        The total, sum of squares and factor of each template.
    correlations, results : array, shape (templates, rows, columns)
        They may be the same memory.
    row, left : int
        Where in them the row begins.
    marks : array, shape (rows, columns), bool
        Set for windows whose deviations nearly cancel.
    lines : array, shape (4, columns) or more, float64
        The first two are updated: the least positive sum of squares that results are divided by (of
        deviations, for ZNCC), without marked windows, and the largest sum of squares. The next
        two are used.
    """
    right, count = left + len(second), len(second)
    # Rows are cut out of whole arrays here, so that Numba knows that they are contiguous.
    marked = marks[row, left:right]
    least, largest, square, found = (
        lines[0, :count],
        lines[1, :count],
        lines[2, :count],
        lines[3, :count],
    )
    if method == ZNCC:
        _subtract_means(n, first, second, square)
        _mark(second, square, marked)
    else:
        # An assignment to a slice would compile messages about shapes, which takes seconds.
        for j in range(len(square)):
            square[j] = second[j]
    divisors = first if method == SQDIFF_NORMED else square
    _update_extremes(divisors, second, marked, least, largest)
    for template in range(len(results)):
        correlation = correlations[template, row, left:right]
        result, of_template = results[template, row, left:right], of_templates[template]
        for j in range(len(found)):
            found[j] = correlation[j]
        if method in (ZNCC, NCC):
            _coefficients(found, first, square, shift, of_template, marked)
        else:
            _difference(found, first, second, of_template, method == SQDIFF_NORMED)
        for j in range(len(found)):
            result[j] = found[j]
