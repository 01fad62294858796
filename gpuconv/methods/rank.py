"""The rank of weights and their separable factors, found with a counted number of operations.

Two questions are answered. `separate` takes what it needs to find the factors of the smallest rank.
`separate_within` finds only factors that are worth having: of no more than a given rank, as
accurate as direct sums, and for no more than a given number of operations. It counts operations
before it does them (`operations`), so that where it stops depends only on the weights and on the
limits. Most kernels have rank one, or a low rank, or no factors worth having: `search_compiled`
finds that out in the time of a few calls of NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from ..backends.cpu import rank_one
from ..backends.cpu.rank_one import Verdict
from ..core import dtypes
from ..core.array_types import Array
from . import first_searches
from .float_factors import (
    Pair,
    accurate_factors,
    cross_approximation,
    is_accurate,
    misses,
    numerical_rank,
)
from .integer_factors import integer_factors
from .operations import (
    ABOVE_LIMIT,
    BANK_CALLS,
    CANCELS,
    COMPILED_CROSS,
    COMPILED_CROSSES,
    MORE,
    NOT_FINITE,
    TOO_LONG,
    UNDECIDED,
    NotWorthwhile,
    Operations,
    exact_dtype,
    take_values,
)

__all__ = ["Factors", "Found", "search_compiled", "separate", "separate_within"]


class Factors(NamedTuple):
    """``K[n] = sum_t u[n, t, :, None] * v[n, t, None, :]`` in the accumulator dtype."""

    u: Array  # (kernels, rank, p)
    v: Array  # (kernels, rank, q)
    rank: int
    accurate: bool  # the elementwise error bound of direct summation holds for these factors too
    missed: bool = False  # rounding errors of the crosses left something of the kernel out


class Found(NamedTuple):
    """Factors that are worth having, or why there are none."""

    rank: int  # 0 without
    remark: str
    operations: int
    made: Factors | Callable[[], Factors] | None = None

    @property
    def factors(self) -> Factors | None:
        """The factors, which may be built only here."""
        return self.made() if callable(self.made) else self.made


def separate(kernels: Array, k_dtype: str, acc: str) -> Factors:
    """Factors of the smallest rank for kernels of shape (kernels, p, q).

    If one of them has full rank, so has the bank, and the factors are trivial.
    """
    work, values, pairs, missed = Operations(), _values(kernels, k_dtype, acc), [], False
    accurate = bool(np.isfinite(values).all())
    limit = min(values.shape[1:]) - 1
    if limit == 0:
        return _trivial_factors(values, acc, accurate)
    with np.errstate(all="ignore"):  # factors that overflow are not accurate
        for kernel in values:
            try:
                if dtypes.is_integer(acc):
                    pair = integer_factors(kernel, acc, limit, work)
                else:
                    pair = cross_approximation(
                        kernel, acc, limit, work, least=numerical_rank(kernel, acc)
                    )
                    accurate = accurate and is_accurate(kernel, *pair, acc)
                    missed = missed or misses(kernel, *pair, acc)
            except NotWorthwhile:  # its rank is above the limit
                return _trivial_factors(values, acc, accurate)
            pairs.append(pair)
        return _join(values.shape, pairs, acc, accurate)._replace(missed=missed)


def search_compiled(
    kernels: Array, k_dtype: str, acc: str, limit: int, least: int, most: float = math.inf
) -> Found:
    """Find accurate factors of real kernels, or why none are worth having, by compiled code.

    NumPy finds the same as long as it is not worth compiling that (see `first_searches`).
    `least` is what `least_compiled` returns, and at most `most`. The remark is MORE or UNDECIDED if
    only `separate_within` can decide, which finds the same factors.
    """
    values = _contiguous(kernels, k_dtype, acc)
    if dtypes.is_integer(acc) or not first_searches.may_search(values.shape, acc):
        verdict, found = rank_one.find_rank_one_factors(values, acc)
        if verdict is Verdict.ACCURATE:
            return Found(1, "", least, partial(_make_factors, found, acc, 1, values.shape))
    else:
        verdict, pairs = first_searches.find_rank_one_factors(values, acc)
        if verdict is Verdict.ACCURATE:
            return Found(1, "", least, partial(_join, values.shape, pairs, acc))
    if verdict is not Verdict.MORE_NEEDED or acc != "float32" or len(values) > 1 or limit < 2:
        return Found(0, _REMARKS[verdict], least)
    return _look_for_crosses(values[0], limit, most, least)


def _make_factors(found: Array, acc: str, rank: int, shape: tuple[int, int, int]) -> Factors:
    n, p, q = shape
    return Factors(*rank_one.factors_of(found, acc, n, rank, p, q), rank, True)


def _look_for_crosses(kernel: Array, limit: int, most: float, operations: int) -> Found:
    """Search for a cross approximation with as many crosses as the remaining operations allow."""
    each = COMPILED_CROSS * kernel.size
    affordable = int(min((most - operations - COMPILED_CROSSES) / each, limit))
    if affordable < 2:
        return Found(0, TOO_LONG, operations)
    verdict, crosses, found = rank_one.find_cross_approximation(kernel, affordable)
    operations += COMPILED_CROSSES + crosses * each
    if verdict is Verdict.ACCURATE:
        make = partial(_make_factors, found, "float32", crosses, (1, *kernel.shape))
        return Found(crosses, "", operations, make)
    if verdict is Verdict.MORE_NEEDED:
        return Found(0, ABOVE_LIMIT if affordable == limit else TOO_LONG, operations)
    return Found(0, MORE if verdict is Verdict.UNDECIDED else _REMARKS[verdict], operations)


_REMARK_OF = {
    Verdict.ACCURATE: "",
    Verdict.CANCELS: CANCELS,
    Verdict.NOT_FINITE: NOT_FINITE,
    Verdict.MORE_NEEDED: MORE,
    Verdict.UNDECIDED: UNDECIDED,
}
# By the number of the verdict: members of enumerations take long to hash.
_REMARKS = tuple(_REMARK_OF[verdict] for verdict in Verdict)


def _contiguous(kernels: Array, k_dtype: str, acc: str) -> Array:
    """`_values` of real kernels, contiguous."""
    dtype = exact_dtype(k_dtype, acc)
    if dtype is not None:
        return kernels.astype(dtype, "C", "unsafe", False)  # no subclass
    with np.errstate(all="ignore"):
        return np.ascontiguousarray(_values(kernels, k_dtype, acc))


def separate_within(
    kernels: Array, k_dtype: str, acc: str, limit: int, most: float, single: bool = True
) -> Found:
    """Accurate factors of rank `limit` at most, below full rank, or why there are none.

    They are those of `separate`. With `single` false it is known that no kernel has rank one.
    """
    work, pairs = Operations(most), []
    find = integer_factors if dtypes.is_integer(acc) else accurate_factors
    try:
        with np.errstate(all="ignore"):
            work.take(BANK_CALLS)
            for kernel in kernels:  # the first is enough for most banks that do not separate
                take_values(work, 1, kernel.size)
                pairs.append(find(_values(kernel, k_dtype, acc), acc, limit, work, single))
            factors = _join(kernels.shape, pairs, acc)
            return Found(factors.rank, "", work.count, factors)
    except NotWorthwhile as reason:
        return Found(0, str(reason), work.count)


def _values(kernels: Array, k_dtype: str, acc: str) -> Array:
    """Weights as they are summed, or more exactly."""
    values = dtypes.widen(kernels, k_dtype, acc)
    if dtypes.is_integer(acc):
        return values
    return values.astype("complex128" if dtypes.is_complex(acc) else "float64")


def _join(
    shape: tuple[int, int, int], pairs: list[Pair], acc: str, accurate: bool = True
) -> Factors:
    """Join the factors of all kernels in one array; those of lower rank end in zeros."""
    n, p, q = shape
    rank = max((len(columns) for columns, _ in pairs), default=0) or 1
    u, v = np.zeros((n, rank, p), acc), np.zeros((n, rank, q), acc)
    for number, (columns, rows) in enumerate(pairs):
        for term, (column, row) in enumerate(zip(columns, rows, strict=True)):
            u[number, term], v[number, term] = column, row
    return Factors(u, v, rank, accurate)


def _trivial_factors(values: Array, acc: str, accurate: bool) -> Factors:
    """Rows (or columns) of the kernels as they are, with any NaN or Inf in them."""
    n, p, q = values.shape
    rank = min(p, q)
    one = np.broadcast_to(np.eye(rank, dtype=acc), (n, rank, rank))
    if p <= q:
        return Factors(one, values.astype(acc), rank, accurate)
    return Factors(np.ascontiguousarray(values.swapaxes(1, 2), acc), one, rank, accurate)
