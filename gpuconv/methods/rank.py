"""The rank of weights and their separable factors, found with a counted number of operations.

Two questions are answered. `separate` takes what it needs to find the factors of the smallest rank.
`separate_within` finds only factors that are worth having: of no more than a given rank, as
accurate as direct sums, and for no more than a given number of operations. It counts what it does
before it does it, so that where it stops depends on the weights and on what was allowed alone. Most
kernels are one product, or some, or nothing worth having, which compiled code tells `look` in the
time of a few calls of NumPy.

Integers are factorised modulo 2**64, as they are summed: elimination then needs neither fractions
nor integers of more than 64 bits. Floats are factorised by crosses through the largest remaining
element, in the widest floats that there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from ..backends.cpu import rank_one
from ..backends.cpu.rank_one import Verdict
from ..core import dtypes
from ..core.worker_thread import on_worker_thread

__all__ = [
    "ABOVE_LIMIT",
    "MORE",
    "TOO_LONG",
    "UNDECIDED",
    "Factors",
    "Found",
    "Operations",
    "least_compiled",
    "least_operations",
    "look",
    "separate",
    "separate_within",
]

# A product of factors is preferred by `auto` only where the sums of |u||v| stay this close to |K|:
# beyond it cancellation between the terms would cost accuracy that direct summation has.
_AMPLIFICATION = 4.0
# What factors may miss of an element, in rounding errors of the sum of their absolute products.
_MISSED = 4
# Rows and columns of a kernel whose decomposition takes long.
_LARGE = 256
# Below this in absolute value, integers can be added and negated in 64 bits.
_SAFE = 1 << 62

Pair = tuple[list[Any], list[Any]]  # columns and rows of taps of one kernel, one of each a term


class Factors(NamedTuple):
    """``K[n] = sum_t u[n, t, :, None] * v[n, t, None, :]`` in the accumulator dtype."""

    u: Any  # (kernels, rank, p)
    v: Any  # (kernels, rank, q)
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
        """The factors, which may be made only now."""
        return self.made() if callable(self.made) else self.made


# Why there are no factors that are worth having.
TOO_LONG = "to learn the kernel's rank would take too long"
ABOVE_LIMIT = "the kernel's rank is above the limit"
_INFINITE = "the weights are not finite"
_CANCELS = "products of columns and rows would cancel each other, which costs accuracy"
# What `look` leaves open: a kernel has a higher rank, or is to be looked at with NumPy.
MORE = "a kernel is not one product"
UNDECIDED = "undecided"


class _Unworthy(Exception):
    """The weights have no factors that are worth having, for the reason given."""


# --- counting ------------------------------------------------------------------------------------

# The unit is an operation of NumPy on one element of float64 or int64, which takes `costs.look()`.
# In it, by the smallest of many times for 3x3 to 121x121 elements: a call beside what it does to
# the elements, an operation on long doubles and on complex numbers, and the part of a singular
# value decomposition that is for one element and singular value.
_CALL = 1500
_WIDE, _COMPLEX, _WIDE_COMPLEX = 10, 3, 30
_SVD, _SVD_CALLS = 4, 60
_BANK_CALLS = 9  # beside those for each kernel
# To ask compiled code of one cross, and of several, each of which takes so much for an element.
_COMPILED, _COMPILED_CROSSES, _COMPILED_CROSS = 6500, 5000, 28
# Of so many elements each takes twice as long, because they leave the nearest caches; of many more,
# three times.
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
            raise _Unworthy(TOO_LONG)
        self.count = count


def least_operations(kernels: int, p: int, q: int, acc: str) -> int:
    """Operations without which `separate_within` finds nothing, whatever the weights."""
    work = Operations()
    work.take(_BANK_CALLS)
    _take_values(work, kernels, p * q)
    if dtypes.is_integer(acc):
        _take_integer_product(work, kernels, p, q)
    else:
        _take_product(work, kernels, p * q, acc)
    return work.count


def least_compiled(kernels: int, p: int, q: int, k_dtype: str, acc: str) -> int:
    """Operations without which `look` finds nothing."""
    work = Operations()
    work.take(0, _COMPILED + kernels * (5 * p * q // 2 + 8 * (p + q) + 250))
    if _exact(k_dtype, acc) is None:
        work.take(2)
        _take_values(work, 1, kernels * p * q)
    return work.count


def _take_values(work: Operations, kernels: int, elements: int) -> None:
    work.take(5 * kernels, 3 * kernels * elements)


def _on_all(elements: int, each: int) -> int:
    return elements * each * (_NEAR + min(elements, 2 * _NEAR)) // _NEAR


def _take_product(work: Operations, kernels: int, elements: int, acc: str) -> None:
    each = 10 * _COMPLEX + 2 * _WIDE_COMPLEX if dtypes.is_complex(acc) else 10
    work.take(22 * kernels, kernels * _on_all(elements, each))


def _take_comparison(work: Operations, elements: int) -> None:
    work.take(12, _on_all(elements, 5 * _WIDE))


def _take_cross(work: Operations, elements: int, acc: str) -> None:
    each = 4 * _WIDE + 8 * _WIDE_COMPLEX if dtypes.is_complex(acc) else 12 * _WIDE
    work.take(30, _on_all(elements, each))


def _take_check(work: Operations, elements: int, acc: str, rank: int) -> None:
    each = _COMPLEX if dtypes.is_complex(acc) else 1
    work.take(20 + 10 * rank, elements * (6 + 5 * rank) * each)


def _take_integer_product(work: Operations, kernels: int, p: int, q: int) -> None:
    # A common divisor takes as long as many other operations.
    work.take(17 * kernels, kernels * (5 * p * q + p + 100 * q))


def _take_pivot(work: Operations, elements: int) -> None:
    work.take(12, 4 * elements)


# --- banks ---------------------------------------------------------------------------------------


def separate(kernels: Any, k_dtype: str, acc: str) -> Factors:
    """Factors of the smallest rank for kernels of shape (kernels, p, q).

    If one of them has full rank, so has the bank, and the factors are trivial.
    """
    work, values, pairs, missed = Operations(), _values(kernels, k_dtype, acc), [], False
    accurate = bool(np.isfinite(values).all())
    limit = min(values.shape[1:]) - 1
    if limit == 0:
        return _trivial(values, acc, accurate)
    with np.errstate(all="ignore"):  # what overflows here is not taken for accurate
        for kernel in values:
            try:
                if dtypes.is_integer(acc):
                    pair = _integer_factors(kernel, acc, limit, work)
                else:
                    pair = _crosses(kernel, acc, limit, work, least=_rank(kernel, acc))
                    accurate = accurate and _accurate(kernel, *pair, acc)
                    missed = missed or _missed(kernel, *pair, acc)
            except _Unworthy:  # its rank is above the limit
                return _trivial(values, acc, accurate)
            pairs.append(pair)
        return _joined(values.shape, pairs, acc, accurate)._replace(missed=missed)


def look(
    kernels: Any, k_dtype: str, acc: str, limit: int, least: int, most: float = math.inf
) -> Found:
    """Accurate factors of real kernels, or why none are worth having, by compiled code.

    `least` is what `least_compiled` says, and no more than `most`. The remark is MORE or UNDECIDED
    if only `separate_within` can tell, which finds the same factors.
    """
    values = _contiguous(kernels, k_dtype, acc)
    verdict, found = rank_one.find_rank_one_factors(values, acc)
    if verdict is Verdict.ACCURATE:
        return Found(1, "", least, partial(_made, found, acc, 1, values.shape))
    if verdict is not Verdict.MORE_NEEDED or acc != "float32" or len(values) > 1 or limit < 2:
        return Found(0, _REMARKS[verdict], least)
    return _look_further(values[0], limit, most, least)


def _made(found: Any, acc: str, rank: int, shape: tuple[int, int, int]) -> Factors:
    n, p, q = shape
    return Factors(*rank_one.factors_of(found, acc, n, rank, p, q), rank, True)


def _look_further(kernel: Any, limit: int, most: float, operations: int) -> Found:
    """Several crosses, as many as may be paid for."""
    each = _COMPILED_CROSS * kernel.size
    affordable = int(min((most - operations - _COMPILED_CROSSES) / each, limit))
    if affordable < 2:
        return Found(0, TOO_LONG, operations)
    verdict, crosses, found = rank_one.find_cross_approximation(kernel, affordable)
    operations += _COMPILED_CROSSES + crosses * each
    if verdict is Verdict.ACCURATE:
        make = partial(_made, found, "float32", crosses, (1, *kernel.shape))
        return Found(crosses, "", operations, make)
    if verdict is Verdict.MORE_NEEDED:
        return Found(0, ABOVE_LIMIT if affordable == limit else TOO_LONG, operations)
    return Found(0, MORE if verdict is Verdict.UNDECIDED else _REMARKS[verdict], operations)


_REMARK_OF = {
    Verdict.ACCURATE: "",
    Verdict.CANCELS: _CANCELS,
    Verdict.NOT_FINITE: _INFINITE,
    Verdict.MORE_NEEDED: MORE,
    Verdict.UNDECIDED: UNDECIDED,
}
# By the number of the verdict: members of enumerations take long to hash.
_REMARKS = tuple(_REMARK_OF[verdict] for verdict in Verdict)


def _contiguous(kernels: Any, k_dtype: str, acc: str) -> Any:
    """`_values` of real kernels."""
    dtype = _exact(k_dtype, acc)
    if dtype is not None:
        return kernels.astype(dtype, "C", "unsafe", False)  # no subclass
    with np.errstate(all="ignore"):
        return np.ascontiguousarray(_values(kernels, k_dtype, acc))


@cache
def _exact(k_dtype: str, acc: str) -> np.dtype[Any] | None:
    """What a copy of weights holds all digits in that the accumulator has, if NumPy makes one."""
    if dtypes.is_integer(acc):
        return np.dtype(acc)
    if not dtypes.is_in_numpy(k_dtype):
        return None
    whole = "bool", "uint8", "int8", "uint16", "int16"
    exact = acc == "float64" or k_dtype in (acc, *whole) or dtypes.is_half(k_dtype)
    return np.dtype("float64") if exact else None


def separate_within(
    kernels: Any, k_dtype: str, acc: str, limit: int, most: float, single: bool = True
) -> Found:
    """Accurate factors of rank `limit` at most, below full rank, or why there are none.

    They are those of `separate`. A kernel is not a product of one column and row if not `single`.
    """
    work, pairs = Operations(most), []
    find = _integer_factors if dtypes.is_integer(acc) else _accurate_factors
    try:
        with np.errstate(all="ignore"):
            work.take(_BANK_CALLS)
            for kernel in kernels:  # the first tells most banks that do not separate
                _take_values(work, 1, kernel.size)
                pairs.append(find(_values(kernel, k_dtype, acc), acc, limit, work, single))
            factors = _joined(kernels.shape, pairs, acc)
            return Found(factors.rank, "", work.count, factors)
    except _Unworthy as reason:
        return Found(0, str(reason), work.count)


def _values(kernels: Any, k_dtype: str, acc: str) -> Any:
    """Weights as they are summed, or more exactly."""
    values = dtypes.widen(kernels, k_dtype, acc)
    if dtypes.is_integer(acc):
        return values
    return values.astype("complex128" if dtypes.is_complex(acc) else "float64")


def _joined(
    shape: tuple[int, int, int], pairs: list[Pair], acc: str, accurate: bool = True
) -> Factors:
    """One array for the factors of all kernels; those of lower rank end in zeros."""
    n, p, q = shape
    rank = max((len(columns) for columns, _ in pairs), default=0) or 1
    u, v = np.zeros((n, rank, p), acc), np.zeros((n, rank, q), acc)
    for number, (columns, rows) in enumerate(pairs):
        for term, (column, row) in enumerate(zip(columns, rows, strict=True)):
            u[number, term], v[number, term] = column, row
    return Factors(u, v, rank, accurate)


def _trivial(values: Any, acc: str, accurate: bool) -> Factors:
    """Rows (or columns) of the kernels as they are, with any NaN or Inf in them."""
    n, p, q = values.shape
    rank = min(p, q)
    one = np.broadcast_to(np.eye(rank, dtype=acc), (n, rank, rank))
    if p <= q:
        return Factors(one, values.astype(acc), rank, accurate)
    return Factors(np.ascontiguousarray(values.swapaxes(1, 2), acc), one, rank, accurate)


# --- floats --------------------------------------------------------------------------------------


def _accurate_factors(
    kernel: Any, acc: str, limit: int, work: Operations, single: bool = True
) -> Pair:
    """One product where that does, more where they may be accurate."""
    pair = _product(kernel, acc, work) if single else None
    if pair is None:
        pair = _crosses(kernel, acc, limit, work)
        _take_check(work, kernel.size, acc, len(pair[0]))
        if not _accurate(kernel, *pair, acc):
            raise _Unworthy(_CANCELS)
    return pair


def _product(kernel: Any, acc: str, work: Operations) -> Pair | None:
    """The cross through the largest element, if it is all of the kernel.

    Most kernels are found out here: where a cross is much larger than the kernel, others would have
    to cancel it.
    """
    p, q = kernel.shape
    _take_product(work, 1, p * q, acc)
    is_complex, (eps, tiny) = kernel.dtype.kind == "c", _limits(acc)
    wide = np.clongdouble if is_complex else np.longdouble
    sizes = np.abs(kernel)
    # Sizes of complex numbers are compared in all their digits, as `_crosses` does.
    i, j = divmod(int((np.abs(kernel.astype(wide)) if is_complex else sizes).argmax()), q)
    top = float(sizes[i, j])
    if not math.isfinite(top):
        raise _Unworthy(_INFINITE)
    if top == 0:
        return [], []
    u, v = (kernel[:, j].astype(wide) / wide(kernel[i, j])).astype(kernel.dtype), kernel[i]
    product = u[:, None] * v
    if np.count_nonzero(np.abs(product) > _AMPLIFICATION * sizes + tiny):
        raise _Unworthy(_CANCELS)
    product -= kernel
    missed = np.abs(product)
    if np.count_nonzero(missed > 2 * eps * sizes + tiny):
        return None
    # What is missed has to be less than a singular value that counts, too. Of all but small
    # kernels, and of numbers at the end of the range, that follows.
    if max(p, q) < 5 or top * eps < p * q * tiny:
        work.take(12, 4 * p * q)
        if not _vanishes(_norm(missed / top), _norm(sizes / top), 1, max(p, q), acc):
            return None
    return [u], [v]


@cache
def _limits(acc: str) -> tuple[float, float]:
    """Rounding error of a dtype, and the smallest number it has to all its digits."""
    info = np.finfo(acc)
    return float(info.eps), float(info.tiny)


def _norm(kernel: Any) -> float:
    return math.sqrt(np.einsum("ij,ij->", kernel, kernel))


def _vanishes(missed: float, whole: float, rank: int, side: int, acc: str) -> bool:
    """Whether norms of what `rank` products miss are surely below a singular value of `_rank`.

    The largest singular value is at least the kernel's norm over the square root of its rank.
    """
    return missed * math.sqrt(rank) <= side / 2 * _limits(acc)[0] * whole


def _rank(kernel: Any, acc: str) -> int:
    """Numerical rank by singular values, relative to what the accumulator can tell apart."""
    if not np.isfinite(kernel).all():
        return int(min(kernel.shape))
    # Away from both ends of the range, by a power of two that changes no digit.
    parts = kernel.view(np.float64) if kernel.dtype.kind == "c" else kernel
    exponent = int(np.frexp(np.abs(parts).max())[1])
    scaled = np.ldexp(parts, -exponent).view(kernel.dtype)
    decompose = partial(np.linalg.svd, scaled, compute_uv=False)
    # Of large kernels it takes seconds, which Ctrl-C should not wait for.
    values = on_worker_thread(decompose) if min(kernel.shape) > _LARGE else decompose()
    return int((values > values[0] * max(kernel.shape) * _limits(acc)[0]).sum())


def _crosses(kernel: Any, acc: str, limit: int, work: Operations, least: int | None = None) -> Pair:
    """Factors by crosses through the largest remaining element: `least` of them, or more.

    Unlike singular vectors they reproduce a rank-1 kernel to relative precision in every element,
    small ones too, which is what the elementwise error bound needs. Singular values say nothing of
    small elements, so that more crosses are taken where these are missed. What is left of an
    element is told from rounding errors by a bound on these, carried along.

    Without `least` it is the numerical rank, which is computed only where what is left might count
    for it, and the factors are only wanted if they are accurate.
    """
    if least is not None and least > limit:
        raise _Unworthy(ABOVE_LIMIT)
    # Wider than any accumulator where the machine has such floats, so that float64 keeps its bound.
    rest = kernel.astype(np.clongdouble if kernel.dtype.kind == "c" else np.longdouble)
    (eps, tiny), unit = _limits(acc), np.finfo(np.longdouble).eps
    left = np.abs(rest)
    sizes, bound = left.copy(), 1.01 * (_AMPLIFICATION * left + tiny)
    reach, noise = np.zeros_like(left), np.zeros_like(left)
    tame = least is None
    us: list[Any] = []
    vs: list[Any] = []
    while True:
        _take_comparison(work, kernel.size)
        number = len(us)
        if not np.count_nonzero(left > _MISSED * eps * reach + tiny):
            if least is None:
                least = number if _no_singular_value(left, sizes, number, acc) else -1
            if least < 0:
                work.take(_SVD_CALLS, _SVD * kernel.size * min(kernel.shape))
                least = _rank(kernel, acc)
            if number >= least:
                return us, vs
        if number == limit:
            raise _Unworthy(ABOVE_LIMIT)
        _take_cross(work, kernel.size, acc)
        i, j = divmod(int(left.argmax()), left.shape[1])
        pivot = rest[i, j]
        if pivot == 0 or not np.isfinite(pivot):
            return us, vs
        u, v = rest[:, j] / pivot, rest[i].copy()
        us.append(u.astype(kernel.dtype))
        vs.append(v.astype(kernel.dtype))
        cross = u[:, None] * v
        size = np.abs(cross)
        rest -= cross
        reach += size
        if tame and np.count_nonzero(reach > bound):
            raise _Unworthy(_CANCELS)
        u, v, of_v = np.abs(u), np.abs(v), noise[i].copy()
        of_u = (noise[:, j] + u * noise[i, j]) / np.abs(pivot)
        noise += of_u[:, None] * v
        noise += u[:, None] * of_v
        np.abs(rest, out=left)
        size *= 4
        size += left
        size *= unit
        noise += size
        none = left <= noise
        rest[none] = left[none] = 0


def _no_singular_value(left: Any, sizes: Any, rank: int, acc: str) -> bool:
    top = sizes.max()
    if rank == 0 or top == 0:
        return rank > 0
    missed, whole = (_norm(part / top) for part in (left, sizes))
    return _vanishes(missed, whole, rank, max(left.shape), acc)


def _missed(kernel: Any, us: list[Any], vs: list[Any], acc: str) -> bool:
    """Whether factors differ from the kernel by more than rounding errors of their products.

    Of nearly full rank, the bound on what is left of an element may outgrow the element.
    """
    if not us or not np.isfinite(kernel).all():
        return False
    u, v = np.array(us).T, np.array(vs)
    reach = np.abs(u) @ np.abs(v)
    allowed = (2 * _MISSED + len(us)) * np.finfo(acc).eps * reach + np.finfo(acc).tiny
    return not bool((np.abs(u @ v - kernel) <= allowed).all())


def _accurate(kernel: Any, us: list[Any], vs: list[Any], acc: str) -> bool:
    eps, tiny = _limits(acc)
    if not np.isfinite(kernel).all():
        return False
    product = np.zeros_like(kernel)
    reach = np.zeros(kernel.shape)
    for u, v in zip(us, vs, strict=True):
        term = np.outer(u, v)
        product = product + term
        reach += np.abs(term)
    size = np.abs(kernel)
    close = np.abs(product - kernel) <= 2 * eps * size + tiny
    return bool(close.all() and (reach <= _AMPLIFICATION * size + tiny).all())


# --- integers ------------------------------------------------------------------------------------


def _integer_factors(
    kernel: Any, acc: str, limit: int, work: Operations, single: bool = True
) -> Pair:
    """Factors modulo 2**64, small ones where there are."""
    pair = _integer_product(kernel, work) if single else None
    if pair is not None:
        return pair
    pair = _eliminated(kernel.view(np.uint64), limit, work)
    rank = len(pair[0])
    # Small numbers may be summed in floats that hold them exactly, which is faster.
    small = _by_division(kernel, rank, work) if rank else None
    return pair if small is None else small


def _integer_product(kernel: Any, work: Operations) -> Pair | None:
    """A row without its common divisor and what multiples of it the rows are, if they are."""
    _take_integer_product(work, 1, *kernel.shape)
    i, j = divmod(int((kernel != 0).argmax()), kernel.shape[1])
    if kernel[i, j] == 0:
        return [], []
    v = kernel[i] // np.gcd.reduce(kernel[i])
    u = kernel[:, j] // v[j]
    return None if np.count_nonzero(u[:, None] * v - kernel) else ([u], [v])


def _eliminated(kernel: Any, limit: int, work: Operations) -> Pair:
    """Factors modulo 2**64, as few as there are.

    An element that the fewest powers of two divide divides all others modulo 2**64: one cross for
    each takes away its row and column for good. No factorisation has fewer terms, because those of
    this one are as many as the row space needs generators.
    """
    rest = kernel.copy()
    us: list[Any] = []
    vs: list[Any] = []
    while True:
        i, j = _pivot(rest, len(us), work)
        pivot = int(rest[i, j])
        if pivot == 0:
            return us, vs
        if len(us) == limit:
            raise _Unworthy(ABOVE_LIMIT)
        work.take(10, 3 * rest.size)
        power = (pivot & -pivot).bit_length() - 1
        inverse = np.uint64(pow(pivot >> power, -1, 1 << 64))
        u, v = (rest[:, j] >> np.uint64(power)) * inverse, rest[i].copy()
        us.append(u)
        vs.append(v)
        rest -= u[:, None] * v


def _pivot(rest: Any, row: int, work: Operations) -> tuple[int, int]:
    """Place of an element that the fewest powers of two divide."""
    if row < len(rest):  # an odd one is often at hand
        work.take(4, 2 * rest.shape[1])
        odd = rest[row] & np.uint64(1)
        column = int(odd.argmax())
        if odd[column]:
            return row, column
    _take_pivot(work, rest.size)
    lowest = (rest & -rest) - np.uint64(1)  # of 0 it is the largest there is
    i, j = divmod(int(lowest.argmin()), rest.shape[1])
    return i, j


def _by_division(kernel: Any, rank: int, work: Operations) -> Pair | None:
    """Factors by Euclid's algorithm on rows, or None if they are not small or not so few.

    Row operations that can be undone in integers lead to an echelon form; its rows are the factors,
    and the kernel's columns at its pivots tell of what multiples of them the kernel consists.
    """
    work.take(3, 3 * kernel.size)
    largest = max(abs(int(kernel.min())), abs(int(kernel.max())))
    if largest >= _SAFE:
        return None
    rows = kernel.astype(np.int64)
    columns = []
    for row in range(rank):
        work.take(2, rows.size)
        column = int(rows[row:].any(axis=0).argmax())
        columns.append(column)
        while True:
            largest = _divide(rows, row, column, largest, work)
            if largest >= _SAFE:
                return None
            if not np.count_nonzero(rows[row + 1 :, column]):
                break
    work.take(1, rows.size)
    if np.count_nonzero(rows[rank:]):
        return None
    us = _multiples(kernel, rows[:rank], columns, work)
    return None if us is None else (us, list(rows[:rank]))


def _divide(rows: Any, row: int, column: int, largest: int, work: Operations) -> int:
    """Leave the remainders of division by the row with the smallest element in a column.

    Return a bound on all elements, which is too large to tell anything if they may have wrapped.
    """
    p, q = rows.shape
    work.take(24, 4 * (p - row) * q + 10 * p)
    sizes = np.abs(rows[row:, column])
    sizes[sizes == 0] = _SAFE
    pivot = row + int(sizes.argmin())
    rows[[row, pivot]] = rows[[pivot, row]]
    if row + 1 == p:
        return largest
    times = rows[row + 1 :, column] // rows[row, column]
    most = int(np.abs(times).max())
    if largest * (1 + most) >= _SAFE:  # the bound may be far from what there is
        work.take(4, 2 * (p - row) * q)
        largest = int(np.abs(rows[row:]).max())
    largest *= 1 + most
    if largest < _SAFE:
        rows[row + 1 :] -= times[:, None] * rows[row]
    return largest


def _multiples(kernel: Any, rows: Any, columns: list[int], work: Operations) -> list[Any] | None:
    """Columns of which the kernel consists with these rows in echelon form."""
    us: list[Any] = []
    for number, column in enumerate(columns):
        work.take(4 + 4 * number, (4 + 4 * number) * len(kernel))
        left = kernel[:, column].astype(np.int64)
        largest = int(np.abs(left).max())
        for u, row in zip(us, rows, strict=False):
            largest += int(np.abs(u).max()) * abs(int(row[column]))
            if largest >= _SAFE:
                return None
            left -= u * row[column]
        us.append(left // rows[number, column])
    return us
