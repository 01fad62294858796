"""What it costs to examine weights: a count of operations, with a limit.

The unit is an operation of NumPy on one element of float64 or int64, which takes
`costs.seconds_per_operation()`.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from ..core import dtypes

# Remarks: why there are no factors that are worth having.
TOO_LONG = "to learn the kernel's rank would take too long"
ABOVE_LIMIT = "the kernel's rank is above the limit"
NOT_FINITE = "the weights are not finite"
CANCELS = "products of columns and rows would cancel each other, which costs accuracy"
# Remarks of `rank.search_compiled` when it decides nothing: a kernel has a higher rank, or only the
# search by NumPy can tell.
MORE = "a kernel is not one product"
UNDECIDED = "undecided"


class NotWorthwhile(Exception):
    """The weights have no factors worth having; the message is one of the remarks above."""


# From the smallest of many timings for 3x3 to 121x121 elements: the fixed cost of a call of NumPy;
# an operation on long doubles, on complex numbers, and on complex long doubles; a singular value
# decomposition, for each element and singular value, and its fixed cost in calls.
_CALL = 1500
_WIDE, _COMPLEX, _WIDE_COMPLEX = 10, 3, 30
_SVD, _SVD_CALLS = 4, 60
BANK_CALLS = 9  # in addition to those for each kernel
# Of the compiled search for one cross; of that for several, and of each element of each cross.
COMPILED, COMPILED_CROSSES, COMPILED_CROSS = 6500, 5000, 28
# With this many elements an operation on each takes twice as long, because they leave the nearest
# caches; with twice as many or more, three times.
_NEAR = 1 << 13


class Operations:
    """A count of operations, and how many there may be."""

    def __init__(self, most: float = math.inf) -> None:
        self.most = most
        self.count = 0

    def take(self, calls: int, elements: int = 0) -> None:
        """Count calls of NumPy and their operations on elements, or refuse them."""
        count = self.count + calls * _CALL + elements
        if count > self.most:
            raise NotWorthwhile(TOO_LONG)
        self.count = count


def least_operations(kernels: int, p: int, q: int, acc: str) -> int:
    """Operations without which `separate_within` finds nothing, whatever the weights."""
    work = Operations()
    work.take(BANK_CALLS)
    take_values(work, kernels, p * q)
    if dtypes.is_integer(acc):
        take_integer_product(work, kernels, p, q)
    else:
        take_product(work, kernels, p * q, acc)
    return work.count


def least_compiled(kernels: int, p: int, q: int, k_dtype: str, acc: str) -> int:
    """Operations without which `rank.search_compiled` finds nothing."""
    work = Operations()
    work.take(0, COMPILED + kernels * (5 * p * q // 2 + 8 * (p + q) + 250))
    if exact_dtype(k_dtype, acc) is None:
        work.take(2)
        take_values(work, 1, kernels * p * q)
    return work.count


def take_values(work: Operations, kernels: int, elements: int) -> None:
    """Count the conversion of kernels to the dtype in which they are examined."""
    work.take(5 * kernels, 3 * kernels * elements)


def _on_all(elements: int, each: int) -> int:
    """Operations on all elements, which take longer where these leave the nearest caches."""
    return elements * each * (_NEAR + min(elements, 2 * _NEAR)) // _NEAR


def take_product(work: Operations, kernels: int, elements: int, acc: str) -> None:
    """Count the test whether kernels of floats have rank one."""
    each = 10 * _COMPLEX + 2 * _WIDE_COMPLEX if dtypes.is_complex(acc) else 10
    work.take(22 * kernels, kernels * _on_all(elements, each))


def take_comparison(work: Operations, elements: int) -> None:
    """Count the test whether anything of a kernel is left."""
    work.take(12, _on_all(elements, 5 * _WIDE))


def take_cross(work: Operations, elements: int, acc: str) -> None:
    """Count the subtraction of one cross from a kernel."""
    each = 4 * _WIDE + 8 * _WIDE_COMPLEX if dtypes.is_complex(acc) else 12 * _WIDE
    work.take(30, _on_all(elements, each))


def take_check(work: Operations, elements: int, acc: str, rank: int) -> None:
    """Count the test whether factors are as accurate as direct sums."""
    each = _COMPLEX if dtypes.is_complex(acc) else 1
    work.take(20 + 10 * rank, elements * (6 + 5 * rank) * each)


def take_singular_values(work: Operations, p: int, q: int) -> None:
    """Count the singular values of a kernel."""
    work.take(_SVD_CALLS, _SVD * p * q * min(p, q))


def take_integer_product(work: Operations, kernels: int, p: int, q: int) -> None:
    """Count the test whether kernels of integers have rank one."""
    # A common divisor takes as long as many other operations.
    work.take(17 * kernels, kernels * (5 * p * q + p + 100 * q))


def take_pivot(work: Operations, elements: int) -> None:
    """Count the search for a pivot."""
    work.take(12, 4 * elements)


@cache
def exact_dtype(k_dtype: str, acc: str) -> np.dtype[Any] | None:
    """Return the dtype in which NumPy copies weights as exactly as they are summed, or None."""
    if dtypes.is_integer(acc):
        return np.dtype(acc)
    if not dtypes.is_in_numpy(k_dtype):
        return None
    whole = "bool", "uint8", "int8", "uint16", "int16"
    exact = acc == "float64" or k_dtype in (acc, *whole) or dtypes.is_half(k_dtype)
    return np.dtype("float64") if exact else None
