"""Means of the pixels of an image that are not NaN, in one pass over memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ...core.arrays import Array
from ...core.problem import Problem
from .addresses import address
from .jit.params import MEANS, record
from .sums import run_sums
from .threads import run_on_pool

# Pixels from which on several threads look at them.
_PARALLEL_LEAST = 1 << 16


@dataclass(frozen=True)
class PixelRange:
    """The least and the greatest pixel that is there, and how many are missing."""

    least: float
    greatest: float
    missing: int

    @property
    def nearest_to_zero(self) -> float:
        """The pixel nearest to zero if all are finite and have one sign, otherwise 0.

        Subtracted from them it makes none larger, so sums lose nothing; of equal pixels nothing is
        left, and the mean is the pixel itself.
        """
        if 0 < self.least < np.inf:
            return self.least
        return self.greatest if -np.inf < self.greatest < 0 else 0.0


@dataclass(frozen=True)
class RowSums:
    """Sums of weights of which many rows are the same.

    Attributes
    ----------
    rows : array, shape (n, s)
        Contiguous rows in the sums' dtype.
    index : array of int64, shape (r,)
        Which of them each row of results has.
    """

    rows: Array
    index: Array


def find_range(x: Array, dtype: str, acc: np.dtype[Any]) -> PixelRange:
    """Find the range of the pixels of an image (rows, columns), converted to the sums' dtype."""
    (function, room), run = _find_range(dtype, acc.name), _run_function()
    rows, columns = x.shape
    parts: list[Any] = []

    def look(first: int, last: int) -> None:
        lines, found = np.empty(room, acc), np.empty(3)
        run(
            function, address(x) + first * x.strides[0], last - first, columns, *x.strides,
            address(lines), address(found),
        )  # fmt: skip
        parts.append(found)

    run_on_pool(look, rows, x.size > _PARALLEL_LEAST)
    low, high, missing = np.transpose(parts)
    return PixelRange(float(low.min()), float(high.max()), int(missing.sum()))


@cache
def _find_range(dtype: str, acc: str) -> tuple[int, tuple[int, int]]:
    from .jit import means

    return means.find_range(dtype, acc), means.RANGE_LINES


@cache
def _run_function() -> Any:
    from .jit import means

    means.run_function.ready(*[0] * 8)
    return means.run_function.code


def find_means(
    problem: Problem, x: Array, weights: Array, columns: Array, out: Array, *, pivot: float,
    least: float, undefined: float, weight_sums: RowSums | None = None,
) -> None:  # fmt: skip
    """Fill `out` with means of pixels that are not NaN, by real weights.

    Weights and `columns` are those of `sums.run_sums`. The pivot is subtracted from the pixels and
    added to the means; where no weight is there, or less than `least`, the result is `undefined`.
    With `weight_sums`, which are those of an image of which nothing is missing, no pixel is NaN.
    """
    means = record(MEANS, pivot=pivot, least=least, undefined=undefined)
    table = None
    if weight_sums is not None:
        rows = weight_sums.rows
        table = address(rows) + rows.strides[0] * weight_sums.index
        means["weight_rows"] = address(table)
    run_sums(problem, x, weights, columns, out, means)
