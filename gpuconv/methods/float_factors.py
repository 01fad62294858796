"""Factors of a kernel of floats, found in the widest floats that the machine has.

A *cross* is the column through an element times the row through it, divided by the element.
Subtracting it from the kernel leaves zeros in that column and row.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.array_types import Array
from ..core.worker_thread import on_worker_thread
from .operations import (
    ABOVE_LIMIT,
    CANCELS,
    NOT_FINITE,
    NotWorthwhile,
    Operations,
    take_check,
    take_comparison,
    take_cross,
    take_product,
    take_singular_values,
)

# A product of factors is preferred by `auto` only where the sums of |u||v| stay this close to |K|:
# beyond it cancellation between the terms would cost accuracy that direct summation has.
_AMPLIFICATION = 4.0
# What factors may miss of an element, in rounding errors of the sum of their absolute products.
_MISSED = 4
# The singular values of a kernel with more rows and columns than this take long.
_LARGE = 256

Pair = tuple[list[Any], list[Any]]  # columns and rows of taps of one kernel, one of each a term


def accurate_factors(
    kernel: Array, acc: str, limit: int, work: Operations, single: bool = True
) -> Pair:
    """Return one product of a column and a row where that suffices, otherwise several."""
    pair = rank_one_factors(kernel, acc, work) if single else None
    if pair is None:
        pair = cross_approximation(kernel, acc, limit, work)
        take_check(work, kernel.size, acc, len(pair[0]))
        if not is_accurate(kernel, *pair, acc):
            raise NotWorthwhile(CANCELS)
    return pair


def rank_one_factors(kernel: Array, acc: str, work: Operations) -> Pair | None:
    """Return the cross through the largest element if it is the whole kernel.

    Most kernels without accurate factors are rejected here: where the cross is much larger than the
    kernel, other crosses would have to cancel it.
    """
    p, q = kernel.shape
    take_product(work, 1, p * q, acc)
    is_complex, (eps, tiny) = kernel.dtype.kind == "c", dtypes.float_limits(acc)
    wide = np.clongdouble if is_complex else np.longdouble
    sizes = np.abs(kernel)
    # Magnitudes of complex numbers are compared in extended precision, as in `cross_approximation`.
    i, j = divmod(int((np.abs(kernel.astype(wide)) if is_complex else sizes).argmax()), q)
    top = float(sizes[i, j])
    if not math.isfinite(top):
        raise NotWorthwhile(NOT_FINITE)
    if top == 0:
        return [], []
    u, v = (kernel[:, j].astype(wide) / wide(kernel[i, j])).astype(kernel.dtype), kernel[i]
    product = u[:, None] * v
    if np.count_nonzero(np.abs(product) > _AMPLIFICATION * sizes + tiny):
        raise NotWorthwhile(CANCELS)
    product -= kernel
    missed = np.abs(product)
    if np.count_nonzero(missed > 2 * eps * sizes + tiny):
        return None
    # What is missed must also be less than any singular value that counts. That follows from the
    # test above, unless the kernel is small or its numbers are near the smallest.
    if max(p, q) < 5 or top * eps < p * q * tiny:
        work.take(12, 4 * p * q)
        if not _vanishes(_norm(missed / top), _norm(sizes / top), 1, max(p, q), acc):
            return None
    return [u], [v]


def _norm(kernel: Array) -> float:
    return math.sqrt(np.einsum("ij,ij->", kernel, kernel))


def _vanishes(missed: float, whole: float, rank: int, side: int, acc: str) -> bool:
    """Whether the norm of what `rank` products miss is surely below any singular value that counts.

    The largest singular value is at least the kernel's norm over the square root of its rank.
    """
    return missed * math.sqrt(rank) <= side / 2 * dtypes.float_limits(acc)[0] * whole


def numerical_rank(kernel: Array, acc: str) -> int:
    """Numerical rank by singular values, with a tolerance that follows from the accumulator."""
    if not np.isfinite(kernel).all():
        return int(min(kernel.shape))
    # Scaled away from both ends of the range, by a power of two, which changes no digit.
    parts = kernel.view(np.float64) if kernel.dtype.kind == "c" else kernel
    exponent = int(np.frexp(np.abs(parts).max())[1])
    scaled = np.ldexp(parts, -exponent).view(kernel.dtype)
    decompose = partial(np.linalg.svd, scaled, compute_uv=False)
    # For large kernels it takes seconds, which Ctrl-C should not wait for.
    values = on_worker_thread(decompose) if min(kernel.shape) > _LARGE else decompose()
    return int((values > values[0] * max(kernel.shape) * dtypes.float_limits(acc)[0]).sum())


def cross_approximation(
    kernel: Array, acc: str, limit: int, work: Operations, least: int | None = None
) -> Pair:
    """Find factors by crosses, each through the largest element left: `least` of them, or more.

    Unlike singular vectors they reproduce a rank-1 kernel to relative precision in every element,
    small ones too, which is what the elementwise error bound needs. Singular values say nothing of
    small elements, so more crosses are subtracted until these are reproduced, too. A bound on the
    rounding errors of each element is carried along; what is left below it counts as zero.

    If `least` is None it is the numerical rank, computed only where what is left might add to it,
    and a search whose factors would not be accurate raises `NotWorthwhile`.
    """
    if least is not None and least > limit:
        raise NotWorthwhile(ABOVE_LIMIT)
    # Wider than any accumulator where the machine has such floats, so that float64 keeps its bound.
    rest = kernel.astype(np.clongdouble if kernel.dtype.kind == "c" else np.longdouble)
    (eps, tiny), unit = dtypes.float_limits(acc), np.finfo(np.longdouble).eps
    left = np.abs(rest)
    sizes, bound = left.copy(), 1.01 * (_AMPLIFICATION * left + tiny)
    reach, noise = np.zeros_like(left), np.zeros_like(left)
    tame = least is None
    us: list[Array] = []
    vs: list[Array] = []
    while True:
        take_comparison(work, kernel.size)
        number = len(us)
        if not np.count_nonzero(left > _MISSED * eps * reach + tiny):
            if least is None:
                least = number if _no_singular_value(left, sizes, number, acc) else -1
            if least < 0:
                take_singular_values(work, *kernel.shape)
                least = numerical_rank(kernel, acc)
            if number >= least:
                return us, vs
        if number == limit:
            raise NotWorthwhile(ABOVE_LIMIT)
        take_cross(work, kernel.size, acc)
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
            raise NotWorthwhile(CANCELS)
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


def _no_singular_value(left: Array, sizes: Array, rank: int, acc: str) -> bool:
    top = sizes.max()
    if rank == 0 or top == 0:
        return rank > 0
    missed, whole = (_norm(part / top) for part in (left, sizes))
    return _vanishes(missed, whole, rank, max(left.shape), acc)


def misses(kernel: Array, us: list[Array], vs: list[Array], acc: str) -> bool:
    """Whether factors differ from the kernel by more than rounding errors of their products.

    For a kernel of nearly full rank, the bound on the rounding errors of an element may outgrow
    the element, which then counts as zero.
    """
    if not us or not np.isfinite(kernel).all():
        return False
    u, v = np.array(us).T, np.array(vs)
    reach = np.abs(u) @ np.abs(v)
    allowed = (2 * _MISSED + len(us)) * np.finfo(acc).eps * reach + np.finfo(acc).tiny
    return not bool((np.abs(u @ v - kernel) <= allowed).all())


def is_accurate(kernel: Array, us: list[Array], vs: list[Array], acc: str) -> bool:
    """Whether sums by factors keep the elementwise error bound of direct sums."""
    eps, tiny = dtypes.float_limits(acc)
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
