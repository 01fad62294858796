"""Similarities to windows of floating-point pixels, whose sums are found in the same pass.

Windows are summed as method "box" sums them (see `methods.box`): down the columns, then along the
rows. Each sum is that of the pixels up to the end of a group, as many as in a window, plus that of
the pixels behind it. A group serves one window more than it has pixels: the last one begins where
the group ends. So each sum holds only its own window's pixels.
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

__all__ = ["finish_float_windows", "float_scratch_bytes"]

# Bound to another value in every compiled function: a tag (see `conversion`) of pixels and of
# correlations.
KIND = None

# Rows of scratch memory besides the tails of groups.
_LINES = 12


@inner
def _sum_rows(columns: Array, q: int, count: int, tails: Array, sums: Array) -> None:
    """Sum `count` runs of q neighbours."""
    for first in range(0, count, q + 1):
        group, next_group = columns[first : first + q], columns[first + q :]
        tail, sum_ = tails[: q + 1], sums[first : min(first + q + 1, count)]
        tail[q] = total = 0.0
        for back in range(q):
            j = np.uint64(q - 1 - back)  # unsigned: no index is counted from the end
            total += group[j]
            tail[j] = total
        sum_[0] = total
        head = 0.0
        for j in range(1, len(sum_)):
            head += next_group[j - 1]
            sum_[j] = tail[j] + head


@inner
def _sum_two_rows(
    columns1: Array, columns2: Array, q: int, count: int, tails1: Array, tails2: Array,
    sums1: Array, sums2: Array,
) -> None:  # fmt: skip
    """`_sum_rows` of two rows in turns, because an addition waits for the one before."""
    for first in range(0, count, q + 1):
        last = min(first + q + 1, count)
        group1, next1 = columns1[first : first + q], columns1[first + q :]
        group2, next2 = columns2[first : first + q], columns2[first + q :]
        tail1, tail2 = tails1[: q + 1], tails2[: q + 1]
        sum1, sum2 = sums1[first:last], sums2[first:last]
        tail1[q] = tail2[q] = total1 = total2 = 0.0
        for back in range(q):
            j = np.uint64(q - 1 - back)  # unsigned: no index is counted from the end
            total1 += group1[j]
            total2 += group2[j]
            tail1[j] = total1
            tail2[j] = total2
        sum1[0] = total1
        sum2[0] = total2
        head1 = head2 = 0.0
        for j in range(1, len(sum1)):
            head1 += next1[j - 1]
            head2 += next2[j - 1]
            sum1[j] = tail1[j] + head1
            sum2[j] = tail2[j] + head2


@inner
def _add_pixels(pixels: Array, centre: float, raw: bool, before: Array, after: Array) -> None:
    """Add a row of pixels less the centre, or with `raw` of their squares."""
    if raw:
        for j in range(len(after)):
            value = np.float64(pixels[j])
            after[j] = before[j] + value * value
    else:
        for j in range(len(after)):
            after[j] = before[j] + (np.float64(pixels[j]) - centre)


@inner
def _add_squares(pixels: Array, centre: float, before: Array, after: Array) -> None:
    """Add the squares of a row of pixels less the centre."""
    for j in range(len(after)):
        value = np.float64(pixels[j]) - centre
        after[j] = before[j] + value * value


@inner
def _add(a: Array, b: Array, sums: Array) -> None:
    for j in range(len(sums)):
        sums[j] = a[j] + b[j]


@inner
def _sum_tails(
    kind: Array, place: tuple[int, int], centre: float, raw: bool, top: int, left: int, width: int,
    tails: Array,
) -> None:  # fmt: skip
    """Add up each row of a group and all below it, from the last one upwards."""
    p = len(tails) // 2 - 1
    tails[p, :width] = 0.0
    tails[2 * p + 1, :width] = 0.0
    for i in range(p - 1, -1, -1):
        pixels, j = row_of(kind, place, top + i, left, width), p + 1 + i
        _add_pixels(pixels, centre, raw, tails[i + 1, :width], tails[i, :width])
        _add_squares(pixels, centre, tails[j + 1, :width], tails[j, :width])


def float_scratch_bytes(p: int, q: int, width: int) -> int:
    """Bytes of scratch memory for tasks of up to so many columns of results."""
    return (2 * p + 2 + _LINES) * int(odd_lines(8 * (width + q)))


def _finish_float_windows(
    address: int, task: int, scratch: int, unused: int, unused2: int, unused3: int, unused4: int,
    unused5: int,
) -> None:  # fmt: skip
    """Turn the correlations of a task into similarities, in place.

    Scratch memory has 2 p + 2 rows for the tails of groups, and `_LINES` more.
    """
    params, (rows, columns) = window_params(address), task_of(address, task)
    p, q, method, centre = params.p, params.q, params.method, params.centre
    shape = params.templates, params.rows, params.columns
    cross = elements(KIND, params.cross, shape)
    of_templates = elements(np.float64, params.of_templates, (params.templates, 3))
    marks = elements(np.bool_, params.marks, (params.rows, params.columns))
    extremes = elements(np.float64, params.extremes + 16 * task, 2)
    (left, right), raw, kind = columns, method == SQDIFF_NORMED, KIND
    width, count, place = right - left + q - 1, right - left, (params.pixels, params.row_bytes)
    length = odd_lines(8 * (width + 1)) // 8
    tails = elements(np.float64, scratch, (2 * p + 2, length))
    lines = elements(np.float64, scratch + 8 * (2 * p + 2) * length, (_LINES, length))
    sums1, sums2, head1, head2 = (
        lines[4, :width],
        lines[5, :width],
        lines[6, :width],
        lines[7, :width],
    )
    first, second = lines[8, :count], lines[9, :count]
    row_tails, other_row_tails = lines[10, : width + 1], lines[11, : width + 1]
    lines[0, :] = np.inf
    lines[1, :] = 0.0
    first[:] = 0.0  # where no method sums it
    for group in range(rows[0], rows[1], p + 1):
        _sum_tails(kind, place, centre, raw, group, left, width, tails)
        head1[:] = 0.0
        head2[:] = 0.0
        for i in range(min(p + 1, rows[1] - group)):
            if i:
                pixels = row_of(kind, place, group + p - 1 + i, left, width)
                _add_pixels(pixels, centre, raw, head1, head1)
                _add_squares(pixels, centre, head2, head2)
            _add(tails[i, :width], head1, sums1)
            _add(tails[p + 1 + i, :width], head2, sums2)
            if method == ZNCC or raw:
                _sum_two_rows(sums1, sums2, q, count, row_tails, other_row_tails, first, second)
            else:
                _sum_rows(sums2, q, count, row_tails, second)
            finish_row(
                method, p * q, first, second, 0.0, of_templates, cross, cross, group + i, left,
                marks, lines,
            )  # fmt: skip
    extremes[0], extremes[1] = min_of(lines[0]), max_of(lines[1])


@cache
def finish_float_windows(dtype: str) -> int:
    """Return the address of the jit function for pixels and correlations of a dtype."""
    name = f"finish_float_windows_{dtype}"
    return compile_function(_finish_float_windows, name, KIND=make_tag(dtype))
