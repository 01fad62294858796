"""Sums of weights where few pixels are missing: when they pay, and how weights are laid out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...core.array_types import Array
from ...core.problem import Problem
from .addresses import address, line_start
from .jit.params import LINE_BYTES

__all__ = ["RowSums", "aligned_weights", "few_missing", "missing_sums_layout"]

# Nanoseconds of one thread. Where the weights on missing pixels are summed: to add a vector of
# weights, for the rest of the work on a missing pixel, and to search a vector of pixels. Where the
# weights on all other pixels are summed, for a vector of pixels: a tap of a kernel, or of a factor,
# and transforms.
_ADDED, _FOUND, _LOOKED_FOR = 0.75, 3.0, 3.5
_DIRECT_TAP, _SEPARABLE_TAP, _TRANSFORMED = 0.17, 0.4, 14.5


def few_missing(problem: Problem, acc: np.dtype[Any], method: str) -> float:
    """Return the most missing pixels for which it is faster to sum the weights on them.

    With more, summing the weights on all other pixels by this method is faster (see
    `jit.means.missing_sums`).
    """
    from .jit import vectors

    lanes, (p, q) = vectors.lanes(acc.name), problem.k_shape[-2:]
    taps = {
        "direct": _DIRECT_TAP * p * q,
        "separable": _SEPARABLE_TAP * (p + q),
        "fft": _TRANSFORMED,
    }
    saved = (taps[method] - _LOOKED_FOR) / lanes
    each = _ADDED * p * _vectors_in_a_row(q, lanes) + _FOUND
    return max(0.0, math.prod(problem.x_shape[-2:]) * saved / each)


@dataclass(frozen=True)
class RowSums:
    """Sums of weights, many of whose rows are the same.

    Attributes
    ----------
    rows : array, shape (..., n, s)
        Contiguous rows in the sums' dtype.
    index : array of int64, shape (r,)
        Which of them belongs to each row of results.
    """

    rows: Array
    index: Array

    @cached_property
    def addresses(self) -> Array:
        """For each row of results, the address of its row of sums; of a single kernel."""
        return address(self.rows) + self.rows.strides[0] * self.index


def aligned_weights(kernel: Array) -> Array:
    """Lay out a kernel (p, q) for sums over missing pixels (see `jit.means.missing_sums`).

    Returns an array (lanes, p, columns): the rows of weights from last to first, as they lie in
    vectors if they begin in one lane of the first vector or another.
    """
    from .jit import vectors

    (p, q), lanes = kernel.shape, vectors.lanes(kernel.dtype.name)
    found = _aligned_zeros((lanes, p, _vectors_in_a_row(q, lanes) * lanes), kernel.dtype)
    for first, weights in enumerate(found):
        weights[:, first : first + q] = kernel[:, ::-1]
    return found


def missing_sums_layout(q: int, columns: int, acc: np.dtype[Any]) -> tuple[int, int]:
    """Return the bytes of a row of missing sums, and of the places of an input row's pixels.

    The sums are for so many columns of outputs, and a kernel with `q` columns.
    """
    from .jit import vectors
    from .jit.drivers import odd_lines
    from .jit.means.missing_sums import PLACES_BEYOND

    lanes, widest = vectors.lanes(acc.name), columns + q - 1
    pitch = odd_lines((widest + _vectors_in_a_row(q, lanes) * lanes) * acc.itemsize)
    return pitch, (widest + PLACES_BEYOND) * 4


def _vectors_in_a_row(q: int, lanes: int) -> int:
    """Count the vectors in which a row of weights lies, whichever lane it begins in."""
    return -(-(q + lanes - 1) // lanes)


def _aligned_zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Allocate zeros from the beginning of a cache line on."""
    nbytes = math.prod(shape) * dtype.itemsize
    memory = np.zeros(nbytes + LINE_BYTES, np.int8)
    first = line_start(memory) - address(memory)
    return memory[first : first + nbytes].view(dtype).reshape(shape)
