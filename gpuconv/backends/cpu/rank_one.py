"""Calls the compiled search for factors of the weights, which takes a microsecond.

The choice of a method waits for it, so every call of NumPy counts.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from ...core import dtypes
from ...core.array_types import Array
from ...core.worker_thread import on_worker_thread
from . import numba_threads
from .jit.weights.verdict import LARGE, SMALL, Verdict

__all__ = [
    "LARGE", "SMALL", "Verdict", "factors_of", "find_cross_approximation", "find_rank_one_factors",
    "must_compile",
]  # fmt: skip

# Indexed by number, because `Verdict(number)` takes a third of a microsecond.
_VERDICTS = tuple(Verdict)
# Rounding error of the long double in which `methods.rank` subtracts crosses.
_LONG_DOUBLE_EPS = float(np.finfo(np.longdouble).eps)
# From this many elements times crosses on, the search runs on a worker thread, so that Ctrl-C need
# not wait for it.
_LONG_SEARCH = 1 << 23


def find_rank_one_factors(values: Array, acc: str) -> tuple[Verdict, Array]:
    """Find out whether kernels of shape (n, p, q) are products of a column and a row, and factors.

    Values are contiguous float64, int64 or uint64. The factors are those that `methods.rank` finds
    with NumPy, bit for bit, in the accumulator dtype; `factors_of` reads them from the second
    value.
    """
    compiled = _rank_one_code(acc)
    if compiled is None:
        return Verdict.UNDECIDED, None
    code, options, dtype = compiled
    n, p, q = values.shape
    if dtype.kind == "f":
        found = np.zeros(n * (p + q) + p)
    else:
        found = np.zeros(n * (p + q), np.int64)
        values = values.view(np.int64)
    return _VERDICTS[code(values, n, p, q, *options, found) % 8], found


def factors_of(found: Array, acc: str, n: int, rank: int, p: int, q: int) -> tuple[Array, Array]:
    """View the columns (n, rank, p) and rows (n, rank, q) in the memory that a search filled."""
    u = np.ndarray((n, rank, p), acc, found)
    return u, np.ndarray((n, rank, q), acc, found, u.nbytes)


def find_cross_approximation(kernel: Array, limit: int) -> tuple[Verdict, int, Array]:
    """Search for accurate factors of a kernel, for sums in float32, of a rank up to `limit`.

    The second value is the number of crosses after which the verdict was reached; `factors_of`
    reads the factors from the third.
    """
    code = _cross_approximation_code()
    if code is None:
        return Verdict.UNDECIDED, 0, None
    p, q = kernel.shape
    work, found = np.empty(4 * p * q + q + 2 * limit * (p + q)), np.zeros(limit * (p + q))
    arguments = kernel, p, q, limit, *dtypes.float_limits("float32"), _LONG_DOUBLE_EPS, work, found
    if limit * p * q < _LONG_SEARCH:
        result = code(*arguments)
    else:
        result = on_worker_thread(code, *arguments)
    return _VERDICTS[result % 8], result // 8, found


@cache
def _cross_approximation_code() -> Any:
    """Compiled `jit.weights.cross_approximation`, or None where it cannot be used."""
    if np.finfo(np.longdouble).nmant != 63:
        return None  # only this long double has been shown to be replaced by two float64
    try:
        numba_threads.import_numba()
    except ImportError:
        return None
    from .jit.weights.cross_approximation import cross_approximation

    floats = np.zeros((2, 2))
    arguments = (
        floats,
        2,
        2,
        1,
        *dtypes.float_limits("float32"),
        _LONG_DOUBLE_EPS,
        floats[0],
        floats[0],
    )
    cross_approximation.ready(*arguments)
    return cross_approximation.code


@cache
def must_compile(acc: str) -> bool:
    """Whether `find_rank_one_factors` would compile code first, which takes about a second."""
    try:
        numba_threads.import_numba()
    except ImportError:
        return False
    compiled, arguments, _options, _dtype = _rank_one_call(acc)
    return not compiled.load(*arguments)


@cache
def _rank_one_code(acc: str) -> tuple[Any, tuple[Any, ...], np.dtype[Any]] | None:
    """Compiled search for an accumulator dtype, its further arguments, and the dtype."""
    try:
        numba_threads.import_numba()
    except ImportError:
        return None  # the backend gives the reason if it is asked to compute
    compiled, arguments, options, dtype = _rank_one_call(acc)
    compiled.ready(*arguments)
    return compiled.code, options, dtype


def _rank_one_call(acc: str) -> tuple[Any, tuple[Any, ...], tuple[Any, ...], np.dtype[Any]]:
    """Return the search for a dtype of sums, arguments of its types, its options, and the dtype."""
    from .jit.weights import rank_one as jit

    dtype: np.dtype[Any] = np.dtype(acc)
    options: tuple[Any, ...]
    if dtype.kind == "f":
        more_digits = np.finfo(np.longdouble).nmant - 52
        # The least distance from a float64, in units of its last digit, at which a quotient rounds
        # to the long double halfway to the next float64; 1, which no distance reaches, if a long
        # double is a float64.
        half = 0.5 - 2.0 ** -(more_digits + 1) if more_digits else 1.0
        options = *dtypes.float_limits(acc), half, dtype.itemsize
        arguments = np.zeros((1, 2, 2)), 1, 2, 2, *options, np.zeros(6)
        return jit.rank_one_factors, arguments, options, dtype
    options = (acc == "uint64",)
    integers = np.zeros((1, 2, 2), np.int64), 1, 2, 2, *options, np.zeros(4, np.int64)
    return jit.integer_rank_one_factors, integers, options, dtype
