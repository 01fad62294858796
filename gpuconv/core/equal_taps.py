"""Taps that read the same pixel in every output, where a kernel is many times longer than an image.

With a border that repeats the image, taps a period apart are equal; with "edge" or "constant", all
taps beyond the image are. One tap with the sum of their weights stands for them, so that the cost
depends on the size of the image and not of the kernel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from . import dtypes
from .arguments import Pair
from .array_types import Array
from .boundary import alike_from, period_of
from .problem import Problem, rows_and_columns

__all__ = ["EqualTaps", "find_equal_taps"]

# Taps are merged where there are at least this many, and this many times as many as different ones.
# In smaller kernels every weight is multiplied separately, so that no bits depend on the image's
# size.
_TAPS_LEAST, _TIMES_FEWER = 1024, 4


@dataclass(frozen=True, eq=False)
class EqualTaps:
    """The problem with one tap for all equal ones, and which of its taps stands for each."""

    problem: Problem
    rows: Array  # int64, for each row of taps
    columns: Array

    def merge(self, k: Array, k_dtype: str) -> Array:
        """Return the weights of the smaller problem: sums of those of equal taps."""
        acc = self.problem.k_dtype
        wide = acc if dtypes.is_integer(acc) else np.result_type(acc, np.float64).name
        with np.errstate(all="ignore"):
            sums = dtypes.widen(k, k_dtype, wide)
            for axis, classes in ((-2, self.rows), (-1, self.columns)):
                order = np.argsort(classes, kind="stable")
                starts = np.searchsorted(classes[order], np.arange(classes.max() + 1))
                sums = np.add.reduceat(np.take(sums, order, axis), starts, axis=axis)
            return sums.astype(acc)

    def spread(self, gradient: Array) -> Array:
        """Return the gradient of all weights, given that of the merged ones; equal taps share one.

        It is the adjoint of `merge`.
        """
        return gradient[..., self.rows[:, None], self.columns]


def _classes(
    n: int, taps: int, outputs: int, stride: int, dilation: int, pad: Pair, boundary: str
) -> tuple[Array, Pair]:
    """Number the different taps along an axis; return each tap's number and their padding."""
    before, reach = pad[0], (outputs - 1) * stride
    period = period_of(n, boundary)
    if not period:
        beyond = alike_from(boundary)
        # Up to `first` and from `last` on, the windows of all outputs are beyond the image.
        first = min(max((before - reach - beyond) // dilation, 0), taps - 1)
        last = -(-(n - 1 + beyond + before) // dilation)
        last = max(min(last, taps - 1), first)
        classes = np.clip(np.arange(taps), first, last) - first
        before -= first * dilation
    else:
        classes = np.arange(taps) % (period // math.gcd(period, dilation))
        before %= period
    if int(classes.max()) == taps - 1:
        return classes, pad
    after = reach + int(classes.max()) * dilation + 1 - before - n
    return classes, (before, max(0, after))


@lru_cache(maxsize=128)
def find_equal_taps(problem: Problem) -> EqualTaps | None:
    """Find the taps that can be merged; None if too few can.

    Padding with zeros is left to `core.reach`; beside padding that is not finite nothing is merged.

    Examples
    --------
    >>> from gpuconv.core.problem import make_problem
    >>> long = make_problem((1, 3), (1, 3000), "uint8", "uint8", mode="same", boundary="wrap")
    >>> found = find_equal_taps(long)
    >>> found.columns.tolist()[:5], found.merge(np.ones((1, 3000), np.uint8), "uint8").tolist()
    ([0, 1, 2, 0, 1], [[1000, 1000, 1000]])
    """
    taps = problem.p * problem.q
    border = problem.boundary
    if taps < _TAPS_LEAST or 0 in problem.x_shape or 0 in problem.out_shape:
        return None
    if border == "constant" and (not problem.fillvalue or not np.isfinite(problem.fillvalue)):
        return None
    (rows, down), (columns, across) = (
        _classes(*axis, border) for axis in rows_and_columns(problem)
    )
    p, q = int(rows.max()) + 1, int(columns.max()) + 1
    if p * q * _TIMES_FEWER > taps:
        return None
    acc = problem.acc_dtype
    smaller = replace(
        problem,
        k_shape=(*problem.k_shape[:-2], p, q),
        k_dtype=acc if dtypes.is_complex(problem.k_dtype) else dtypes.part(acc),
        pad=(down, across),
    )
    return EqualTaps(smaller, rows, columns)
