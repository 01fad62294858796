"""Similarities to windows of integers, whose sums are found in the same pass.

Sums of integers lose nothing, so the next window's are those of the one before, with the pixels
that it gains and without those that it loses: first down the columns, then along the rows.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from .....core.array_types import Array
from ..conversion import make_tag
from ..drivers import inner, max_of, min_of, odd_lines
from ..functions import compile_function
from ..intrinsics import elements
from .similarity_rows import SQDIFF_NORMED, ZNCC, finish_row, row_of, task_of, window_params

__all__ = ["finish_integer_windows", "integer_scratch_bytes"]

# Bound to another value in every compiled function: a tag (see `conversion`) of pixels.
KIND = None

# Rows of scratch memory, the last of which is of integers.
_LINES = 9


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


def integer_scratch_bytes(q: int, width: int) -> int:
    """Bytes of scratch memory for tasks of up to so many columns of results."""
    return _LINES * int(odd_lines(8 * (width + q)))


def _finish_integer_windows(
    address: int, task: int, scratch: int, unused: int, unused2: int, unused3: int, unused4: int,
    unused5: int,
) -> None:  # fmt: skip
    """Turn the correlations of a task, integers of 64 bits, into similarities in their place."""
    params, (rows, columns) = window_params(address), task_of(address, task)
    p, q, method, centre = params.p, params.q, params.method, params.centre
    shape = params.templates, params.rows, params.columns
    integers = elements(np.int64, params.cross, shape)
    cross = elements(np.float64, params.cross, shape)
    of_templates = elements(np.float64, params.of_templates, (params.templates, 3))
    marks = elements(np.bool_, params.marks, (params.rows, params.columns))
    extremes = elements(np.float64, params.extremes + 16 * task, 2)
    (left, right), kind = columns, KIND
    width, count, place = right - left + q - 1, right - left, (params.pixels, params.row_bytes)
    length = odd_lines(8 * (width + 1)) // 8
    lines = elements(np.float64, scratch, (_LINES - 1, length))
    steps = elements(np.int64, scratch + 8 * (_LINES - 1) * length, count)
    values, squares = lines[4, :width], lines[5, :width]
    first, second = lines[6, :count], lines[7, :count]
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


@cache
def finish_integer_windows(dtype: str) -> int:
    """Return the address of the jit function for pixels of a dtype."""
    name = f"finish_integer_windows_{dtype}"
    return compile_function(_finish_integer_windows, name, KIND=make_tag(dtype))
