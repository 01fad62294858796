"""Similarities to windows of integers, whose sums are found in the same pass.

Sums of integers lose nothing, so the next window's are those of the one before, with the pixels
that it gains and without those that it loses: first down the columns, then along the rows.
"""

from __future__ import annotations

import numpy as np

from .....core.array_types import Array
from ..drivers import compiled, inner, max_of, min_of, unowned
from .similarity_rows import SQDIFF_NORMED, ZNCC, finish_row, row_of

__all__ = ["finish_integer_windows"]


@inner
def _add_row(pixels: Array, centre: float, values: Array, squares: Array) -> None:
    """Add a row of pixels less the centre to sums down the columns, and their squares."""
    for j in range(len(pixels)):
        value = np.float64(pixels[j]) - centre
        values[j] += value
        squares[j] += value * value


@inner
def _exchange_rows(
    gained: Array, lost: Array, centre: float, values: Array, squares: Array
) -> None:  # fmt: skip
    """`_add_row` of a row of pixels, and subtract another."""
    for j in range(len(gained)):
        new, old = np.float64(gained[j]) - centre, np.float64(lost[j]) - centre
        values[j] += new - old
        squares[j] += new * new - old * old


@inner
def _find_steps(columns: Array, q: int, steps: Array) -> int:
    """Compute by how much windows' sums exceed those before them; return the first sum."""
    gained, later = columns[q:], steps[1:]
    for j in range(len(later)):
        later[j] = np.int64(gained[j] - columns[j])
    steps[0] = 0
    total = 0
    for j in range(q):
        total += np.int64(columns[j])
    return total


@inner
def _sum_along(columns: Array, q: int, steps: Array, sums: Array) -> None:
    """Sum q neighbours each.

    The sums are integers, because a processor adds one to the sum before in a cycle, and a float in
    four.
    """
    total = _find_steps(columns, q, steps)
    for j in range(len(steps)):
        total += steps[j]
        steps[j] = total
    for j in range(len(sums)):
        sums[j] = steps[j]


def _finish_integer_windows(
    kind: Array, place: tuple[int, int], centre: float, shape: tuple[int, int], method: int,
    integers: Array, cross: Array, of_templates: Array, rows: tuple[int, int],
    columns: tuple[int, int], lines: Array, steps: Array, marks: Array, extremes: Array,
) -> None:  # fmt: skip
    """Turn some rows and columns of correlations into similarities.

    The image is passed as to `row_of`. `integers`, the correlations, and `cross`, the results, are
    the same memory. `extremes` receives the least sum of squares and the largest one; these,
    `of_templates` and `marks` are described in `finish_row`. `lines` has 8 rows of float64, as wide
    as the pixels that are read, and `steps` is one of int64.
    """
    integers, cross, marks = unowned(integers), unowned(cross), unowned(marks)
    of_templates, lines = unowned(of_templates), unowned(lines)
    (p, q), (left, right) = shape, columns
    width, count = right - left + q - 1, right - left
    values, squares = lines[4, :width], lines[5, :width]
    first, second, steps = lines[6, :count], lines[7, :count], unowned(steps)[:count]
    lines[0, :] = np.inf
    lines[1, :] = 0.0
    values[:] = 0.0
    squares[:] = 0.0
    first[:] = 0.0  # where no method sums it
    for i in range(rows[0], rows[0] + p):
        _add_row(row_of(kind, place, i, left, width), centre, values, squares)
    for i in range(rows[0], rows[1]):
        if i > rows[0]:
            gained = row_of(kind, place, i + p - 1, left, width)
            lost = row_of(kind, place, i - 1, left, width)
            _exchange_rows(gained, lost, centre, values, squares)
        _sum_along(squares, q, steps, second)
        if method == ZNCC:
            _sum_along(values, q, steps, first)
        elif method == SQDIFF_NORMED:  # without a centre: its windows have one sum of squares
            for j in range(count):
                first[j] = second[j]
        finish_row(
            method, p * q, first, second, centre, of_templates, integers, cross, i, left, marks,
            lines,
        )  # fmt: skip
    extremes[0], extremes[1] = min_of(lines[0]), max_of(lines[1])


finish_integer_windows = compiled(_finish_integer_windows)
