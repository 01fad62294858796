"""What the methods may know of the kernel's weights: its rank and its separable factors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from .. import dtypes
from ..backends.cpu_threads import apart
from ..problem import Problem

# A product of factors is preferred by `auto` only where the sums of |u||v| stay this close to |K|:
# beyond it cancellation between the terms would cost accuracy that direct summation has.
_AMPLIFICATION = 4.0
# Finding factors of a bank costs a decomposition each; `auto` does not try for more than this.
_BANK_MAX = 64
# Rows and columns of a kernel whose decomposition takes long.
_LARGE = 256


@dataclass(frozen=True)
class Factors:
    """``K[n] = sum_t u[n, t, :, None] * v[n, t, None, :]`` in the accumulator dtype."""

    u: Any  # (kernels, rank, p)
    v: Any  # (kernels, rank, q)
    rank: int
    accurate: bool  # the elementwise error bound of direct summation holds for these factors too


class Kernel:
    """A kernel that can be asked for its factors; nothing is computed before it is asked."""

    def __init__(self, problem: Problem, k: Any) -> None:
        self._problem = problem
        # A kernel on a GPU stays there: looking at its values would wait for the device.
        self._k = k if isinstance(k, np.ndarray) else None

    @property
    def known(self) -> bool:
        """Whether the weights are at hand on the host."""
        return self._k is not None

    @property
    def cheap(self) -> bool:
        """Whether `auto` may spend the time to factorise."""
        kernels = math.prod(self._problem.k_shape[:-2])
        return self.known and 0 < kernels <= _BANK_MAX

    def factors(self) -> Factors:
        """Separable factors of the smallest rank, cached by the weights' bytes."""
        if self._k is None:
            raise ValueError("the weights are not on the host")
        problem = self._problem
        return _factorise(
            np.ascontiguousarray(self._k).tobytes(),
            (-1 if self._k.size else 0, problem.p, problem.q),
            problem.k_dtype,
            problem.acc_dtype,
            problem.conjugate,
        )


@lru_cache(maxsize=64)
def _factorise(
    raw: bytes, shape: tuple[int, int, int], k_dtype: str, acc: str, conjugate: bool
) -> Factors:
    kernels = np.frombuffer(raw, dtypes.storage(k_dtype)).reshape(shape)
    if dtypes.is_integer(acc):
        pairs = [_integer_factors(kernel) for kernel in kernels]
        ranks = [len(u) for u, _ in pairs]
    else:
        wide = "complex128" if dtypes.is_complex(acc) else "float64"
        values = dtypes.widen(kernels, k_dtype, acc).astype(wide)
        ranks = [_rank(kernel, acc) for kernel in values]
        with np.errstate(all="ignore"):  # what overflows here is not taken for accurate
            pairs = [_cross_factors(*pair, acc) for pair in zip(values, ranks, strict=True)]
        ranks = [max(r, len(u)) for r, (u, _) in zip(ranks, pairs, strict=True)]
    rank = max(1, *ranks) if ranks else 1
    u = np.zeros((len(pairs), rank, shape[1]), acc)
    v = np.zeros((len(pairs), rank, shape[2]), acc)
    with np.errstate(all="ignore"):
        for n, (a, b) in enumerate(pairs):
            if len(a):
                u[n, : len(a)] = _modular(a, acc)
                v[n, : len(b)] = _modular(b, acc)
    accurate = dtypes.is_integer(acc) or all(
        _accurate(kernel, a, b, acc) for kernel, (a, b) in zip(values, pairs, strict=True)
    )
    if conjugate:
        u, v = u.conj(), v.conj()
    return Factors(u, v, rank, accurate)


def _modular(rows: list[Any], acc: str) -> Any:
    if not dtypes.is_integer(acc):
        return np.array(rows)
    # Integer sums are taken modulo 2**64, and so may the factors be.
    wrapped = [[int(value) % 2**64 for value in row] for row in rows]
    return np.array(wrapped, np.uint64).view(acc)


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
    values = apart(decompose) if min(kernel.shape) > _LARGE else decompose()
    return int((values > values[0] * max(kernel.shape) * np.finfo(acc).eps).sum())


# What factors may miss of an element, in rounding errors of the sum of their absolute products.
_MISSED = 4


def _cross_factors(kernel: Any, rank: int, acc: str) -> tuple[list[Any], list[Any]]:
    """Factors by crosses through the largest remaining element: `rank` of them, or more.

    Unlike singular vectors they reproduce a rank-1 kernel to relative precision in every element,
    small ones too, which is what the elementwise error bound needs. Singular values say nothing of
    small elements, so that more crosses are taken where these are missed. What is left of an
    element is told from rounding errors by a bound on these, carried along.
    """
    if 1 in kernel.shape:  # one product as it is, with any NaN or Inf in it
        one = np.ones((1, 1), kernel.dtype)
        return ([one[0]], [kernel[0]]) if kernel.shape[0] == 1 else ([kernel[:, 0]], [one[0]])
    # Wider than any accumulator where the machine has such floats, so that float64 keeps its bound.
    rest = kernel.astype(np.clongdouble if kernel.dtype.kind == "c" else np.longdouble)
    reach = np.zeros(kernel.shape, np.longdouble)
    noise = reach.copy()
    us: list[Any] = []
    vs: list[Any] = []
    info, unit = np.finfo(acc), np.finfo(np.longdouble).eps
    for number in range(min(kernel.shape)):
        missed = np.abs(rest) > _MISSED * info.eps * reach + info.tiny
        if number >= rank and not missed.any():
            break
        i, j = np.unravel_index(np.argmax(np.abs(rest)), rest.shape)
        pivot = rest[i, j]
        if pivot == 0 or not np.isfinite(pivot):
            break
        u, v = rest[:, j] / pivot, rest[i, :].copy()
        us.append(u.astype(kernel.dtype))
        vs.append(v.astype(kernel.dtype))
        cross = np.outer(u, v)
        rest, reach = rest - cross, reach + np.abs(cross)
        of_u = (noise[:, j] + np.abs(u) * noise[i, j]) / np.abs(pivot)
        noise = noise + np.outer(of_u, np.abs(v)) + np.outer(np.abs(u), noise[i])
        noise += unit * (4 * np.abs(cross) + np.abs(rest))
        rest[np.abs(rest) <= noise] = 0
    return us, vs


def _accurate(kernel: Any, us: list[Any], vs: list[Any], acc: str) -> bool:
    info = np.finfo(acc)
    if not np.isfinite(kernel).all():
        return False
    product = np.zeros_like(kernel)
    reach = np.zeros(kernel.shape)
    with np.errstate(all="ignore"):
        for u, v in zip(us, vs, strict=True):
            product = product + np.outer(u, v)
            reach += np.abs(np.outer(u, v))
        size = np.abs(kernel)
        close = np.abs(product - kernel) <= 2 * info.eps * size + info.tiny
        return bool(close.all() and (reach <= _AMPLIFICATION * size + info.tiny).all())


def _integer_factors(kernel: Any) -> tuple[list[list[int]], list[list[int]]]:
    """Exact integer factors of the smallest rank, by unimodular row operations.

    ``kernel == T @ M`` holds throughout; M ends in row echelon form, and its nonzero rows with the
    columns of T that meet them are the factors.
    """
    m = [[int(value) for value in row] for row in kernel]
    p, q = len(m), len(m[0])
    t = [[int(i == j) for j in range(p)] for i in range(p)]
    row = 0
    for column in range(q):
        if row == p:
            break
        while True:
            live = [i for i in range(row, p) if m[i][column]]
            if not live:
                break
            pivot = min(live, key=lambda i: abs(m[i][column]))
            m[row], m[pivot] = m[pivot], m[row]
            for line in t:
                line[row], line[pivot] = line[pivot], line[row]
            rest = [i for i in range(row + 1, p) if m[i][column]]
            for i in rest:
                times = m[i][column] // m[row][column]
                m[i] = [a - times * b for a, b in zip(m[i], m[row], strict=True)]
                for line in t:
                    line[row] += times * line[i]
            if not any(m[i][column] for i in rest):
                row += 1
                break
    return [[line[i] for line in t] for i in range(row)], m[:row]
