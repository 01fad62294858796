"""Whether kernels are products of a column and a row, as compiled code tells it in a microsecond.

This is on the way to a choice of method, where every call of NumPy counts.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from ...core.worker_thread import on_worker_thread
from . import threads

__all__ = [
    "CANCELS",
    "INFINITE",
    "MORE",
    "PRODUCTS",
    "UNKNOWN",
    "columns_and_rows",
    "find",
    "find_more",
]

# What is said of kernels, in the order of the numbers in `kernels.products`.
PRODUCTS = "all are products"
CANCELS = "one product is much larger than some elements"
MORE = "one product is not all of a kernel"
INFINITE = "some elements are not finite"
UNKNOWN = "to be asked of other arithmetic"
_SAID = PRODUCTS, CANCELS, MORE, INFINITE, UNKNOWN


def find(values: Any, acc: str) -> tuple[str, Any]:
    """Whether all kernels of shape (n, p, q) are products, and numbers for `columns_and_rows`.

    Values are contiguous float64, int64 or uint64. What is found is as `methods.weights` finds it
    with NumPy, to the bit, in the accumulator dtype.
    """
    compiled = _compiled(acc)
    if compiled is None:
        return UNKNOWN, None
    code, options, dtype = compiled
    n, p, q = values.shape
    if dtype.kind == "f":
        found = np.zeros(n * (p + q) + p)
    else:
        found = np.zeros(n * (p + q), np.int64)
        values = values.view(np.int64)
    return _SAID[code(values, n, p, q, *options, found) % 8], found


def columns_and_rows(found: Any, acc: str, n: int, rank: int, p: int, q: int) -> tuple[Any, Any]:
    """Factors from what was found of kernels."""
    u = np.ndarray((n, rank, p), acc, found)
    return u, np.ndarray((n, rank, q), acc, found, u.nbytes)


def find_more(kernel: Any, limit: int) -> tuple[str, int, Any]:
    """Whether a kernel has accurate factors for sums in float32, no more than `limit`.

    What is said of it, after how many crosses, and numbers for `columns_and_rows`.
    """
    code = _crosses()
    if code is None:
        return UNKNOWN, 0, None
    p, q = kernel.shape
    work, found = np.empty(4 * p * q + q + 2 * limit * (p + q)), np.zeros(limit * (p + q))
    arguments = kernel, p, q, limit, *_limits("float32"), _UNIT, work, found
    # What takes long is done where Ctrl-C need not wait for it.
    said = code(*arguments) if limit * p * q < _LONG else on_worker_thread(code, *arguments)
    return _SAID[said % 8], said // 8, found


_UNIT = float(np.finfo(np.longdouble).eps)
_LONG = 1 << 23  # elements, times crosses


@cache
def _limits(acc: str) -> tuple[float, float]:
    info = np.finfo(acc)
    return float(info.eps), float(info.tiny)


@cache
def _crosses() -> Any:
    if np.finfo(np.longdouble).nmant != 63:
        return None  # another number of digits than two floats are known to stand in for
    try:
        threads.import_numba()
    except ImportError:
        return None
    from .jit import rank_one

    floats = np.zeros((2, 2))
    rank_one.crosses.ready(floats, 2, 2, 1, *_limits("float32"), _UNIT, floats[0], floats[0])
    return rank_one.crosses.code


@cache
def _compiled(acc: str) -> tuple[Any, tuple[Any, ...], np.dtype[Any]] | None:
    """Compiled code for an accumulator dtype, what else it takes, and the dtype."""
    try:
        threads.import_numba()
    except ImportError:
        return None  # the backend says so where it is to compute
    from .jit import rank_one as rank_one

    dtype: np.dtype[Any] = np.dtype(acc)
    options: tuple[Any, ...]
    if dtype.kind == "f":
        more = np.finfo(np.longdouble).nmant - 52
        # From where on a long double is the middle between a float64 and the next, in its last
        # digit; nowhere, if it is a float64 itself.
        half = 0.5 - 2.0 ** -(more + 1) if more else 1.0
        options = *_limits(acc), half, dtype.itemsize
        rank_one.products.ready(np.zeros((1, 2, 2)), 1, 2, 2, *options, np.zeros(6))
        return rank_one.products.code, options, dtype
    options = (acc == "uint64",)
    values, found = np.zeros((1, 2, 2), np.int64), np.zeros(4, np.int64)
    rank_one.whole_products.ready(values, 1, 2, 2, *options, found)
    return rank_one.whole_products.code, options, dtype
