"""Sums of an image's windows and, in the same pass, similarities from these and a correlation.

Windows are summed as method "box" sums them (see `methods.box`): down the columns, then along the
rows. Each sum is that of the pixels up to the end of a group, as many as in a window, plus that of
the pixels behind it. A group serves one window more than it has pixels: the last one begins where
the group ends.
"""

from __future__ import annotations

import numpy as np

from ....core.array_types import Array
from .drivers import compiled, inner, max_of, min_of

__all__ = ["METHODS", "finish_windows"]

METHODS = {"zncc": 0, "ncc": 1, "sqdiff": 2, "sqdiff_normed": 3}
# A window's squared deviations nearly cancel where they are at most this share of its squares: see
# `imaging.faint_windows`.
_LEAST_SHARE = 1e-9


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
def _note(divisors: Array, second: Array, marks: Array, least: Array, largest: Array) -> None:
    """Update the least divisor and the largest sum of each column by a row.

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
    found: Array, first: Array, square: Array, shift: float, sums: Array, marks: Array
) -> None:
    """Compute the coefficients of a row; those of marked windows are not divided by deviations."""
    total, factor = sums[0], sums[2]
    for j in range(len(found)):
        value = (found[j] - (first[j] + shift) * total) * factor
        ratio = value / np.sqrt(square[j]) if square[j] != 0 else 0.0
        ratio = 1.0 if ratio > 1 else ratio
        ratio = -1.0 if ratio < -1 else ratio
        found[j] = value if marks[j] else ratio


@inner
def _difference(found: Array, first: Array, second: Array, sums: Array, normed: bool) -> None:
    """Compute the squared differences of a row."""
    template, norm = sums[1], sums[3]
    for j in range(len(found)):
        value = second[j] - 2 * found[j] + template
        value = 0.0 if value < 0 else value
        found[j] = np.inf if second[j] == np.inf else value
    if normed:
        for j in range(len(found)):
            scale = np.sqrt(first[j] * norm)
            if scale != 0:
                found[j] /= scale
            elif found[j] != 0:
                found[j] = np.inf


@inner
def _sum_tails(
    x: Array, centre: float, raw: bool, top: int, left: int, width: int, tails: Array
) -> None:  # fmt: skip
    """Add up each row of a group and all below it, from the last one upwards."""
    p = len(tails) // 2 - 1
    tails[p, :width] = 0.0
    tails[2 * p + 1, :width] = 0.0
    for i in range(p - 1, -1, -1):
        pixels, j = x[top + i, left : left + width], p + 1 + i
        _add_pixels(pixels, centre, raw, tails[i + 1, :width], tails[i, :width])
        _add_squares(pixels, centre, tails[j + 1, :width], tails[j, :width])


@inner
def _finish_row(
    method: int, cross: Array, integers: Array, at: int, left: int, first: Array, second: Array,
    square: Array, shift: float, sums: Array, marks: Array, found: Array,
) -> None:  # fmt: skip
    """Turn every template's row of correlations from column `left` on into similarities."""
    for template in range(len(cross)):
        row, each = cross[template, at, left : left + len(found)], sums[template]
        if len(integers):
            whole = integers[template, at, left : left + len(found)]
            for j in range(len(found)):
                found[j] = whole[j]
        else:
            for j in range(len(found)):
                found[j] = row[j]
        if method <= 1:
            _coefficients(found, first, square, shift, each, marks)
        else:
            _difference(found, first, second, each, method == 3)
        for j in range(len(found)):
            row[j] = found[j]


def _finish_windows(
    x: Array, centre: float, shape: tuple[int, int], method: int, cross: Array, integers: Array,
    shift: float, sums: Array, rows: Array, columns: Array, tails: Array, lines: Array,
    marks: Array, counts: Array,
) -> None:  # fmt: skip
    """Turn some rows and columns of correlations into similarities.

    Where the correlations are integers, `integers` is a view of the memory of `cross` that holds
    them; otherwise it is empty.

    `sums` holds the total, sum of squares, factor and norm of each template. `marks` are set for
    windows whose deviations nearly cancel. `counts` receives the least positive sum of squares that
    results are divided by (of deviations, for "zncc"), without marked windows, and the largest sum
    of squares. `tails` has 2 p + 2 rows and `lines` 12, wider by one than the pixels that are read.
    """
    (p, q), (left, right), raw = shape, columns, method == 3
    width, count = right - left + q - 1, right - left
    sums1, sums2, head1, head2 = (
        lines[0, :width],
        lines[1, :width],
        lines[2, :width],
        lines[3, :width],
    )
    along1, along2, square = lines[4, :count], lines[5, :count], lines[6, :count]
    found, least, largest = lines[7, :count], lines[8, :count], lines[9, :count]
    line, other_line = lines[10, : width + 1], lines[11, : width + 1]
    least[:] = np.inf
    largest[:] = 0.0
    along1[:] = 0.0  # where no method sums it
    for group in range(rows[0], rows[1], p + 1):
        _sum_tails(x, centre, raw, group, left, width, tails)
        head1[:] = 0.0
        head2[:] = 0.0
        for i in range(min(p + 1, rows[1] - group)):
            if i:
                pixels = x[group + p - 1 + i, left : left + width]
                _add_pixels(pixels, centre, raw, head1, head1)
                _add_squares(pixels, centre, head2, head2)
            _add(tails[i, :width], head1, sums1)
            _add(tails[p + 1 + i, :width], head2, sums2)
            marked = marks[group + i, left:right]
            if method == 0 or raw:
                _sum_two_rows(sums1, sums2, q, count, line, other_line, along1, along2)
            else:
                _sum_rows(sums2, q, count, line, along2)
            if method == 0:
                _subtract_means(p * q, along1, along2, square)
                _mark(along2, square, marked)
            else:
                # An assignment to a slice would compile messages about shapes, which takes seconds.
                for j in range(count):
                    square[j] = along2[j]
            _note(along1 if raw else square, along2, marked, least, largest)
            _finish_row(
                method, cross, integers, group + i, left, along1, along2, square, shift, sums,
                marked, found,
            )  # fmt: skip
    counts[0], counts[1] = min_of(least), max_of(largest)


finish_windows = compiled(_finish_windows)
