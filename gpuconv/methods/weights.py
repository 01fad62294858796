"""The weights of a call: their sizes, whether they are equal, and their separable factors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from ..core import dtypes
from ..core.array_types import Array
from ..core.box import has_equal_weights
from ..core.equal_taps import EqualTaps
from ..core.problem import Index, Problem, slice_batch
from .operations import MORE, TOO_LONG, UNDECIDED, least_compiled, least_operations
from .rank import Factors, Found, search_compiled, separate, separate_within

__all__ = ["Factors", "Weights"]

# How often the call cache hashes weights that the choice depends on: once, to look a call up and to
# store it.
_REPEATED = 1


@dataclass(frozen=True)
class Sizes:
    """How large the weights are, of the largest kernel of a bank."""

    total: float  # sum of absolute values
    norm: float  # root of the sum of squares
    whole: bool  # whether all are whole numbers


class Weights:
    """The weights of a call, whose sizes and separable factors are computed when first needed."""

    def __init__(self, problem: Problem, k: Array) -> None:
        self._problem = problem
        # Weights on a GPU stay there: reading their values would wait for the device.
        self._k = k if isinstance(k, np.ndarray) else None
        self._factors: Factors | None = None
        self._found: Found | None = None  # the last search that found factors

    @property
    def known(self) -> bool:
        """Whether the values can be read on the host."""
        return self._k is not None

    def copy(self) -> Weights:
        """Copy the values, because the caller's array may change."""
        other = Weights(self._problem, None if self._k is None else self._k.copy())
        other._factors, other._found = self._factors, self._found
        return other

    def of_taps(self, problem: Problem, taps: tuple[slice, slice]) -> Weights:
        """Return the weights of some of the taps, for the problem that has these alone."""
        return Weights(problem, None if self._k is None else self._k[(..., *taps)])

    def factored(self, problem: Problem, taps: tuple[slice, slice]) -> Weights:
        """Return the weights of some of the taps, whose factors are parts of those of all taps.

        With these the bits of separable sums do not depend on which taps meet pixels.
        """
        other, found = self.of_taps(problem, taps), self.factors()
        other._factors = found._replace(u=found.u[..., taps[0]], v=found.v[..., taps[1]])
        return other

    def merged(self, equal: EqualTaps) -> Weights:
        """Return the weights of the problem in which equal taps are one."""
        k = None if self._k is None else equal.merge(self._k, self._problem.k_dtype)
        return Weights(equal.problem, k)

    def part(self, problem: Problem, index: Index) -> Weights:
        """Return the weights of a part of the batch, with the factors found for all of it."""
        other = Weights(problem, None if self._k is None else slice_batch(self._k, index))
        if self._factors is not None or self._found is not None:
            self.factors()
        if self._factors is not None:
            u, v = (self._part(rows, index) for rows in (self._factors.u, self._factors.v))
            other._factors = self._factors._replace(u=u, v=v)
        return other

    def _part(self, rows: Array, index: Index) -> Array:
        shape = rows.shape[1:]
        return slice_batch(rows.reshape(*self._problem.k_shape[:-2], *shape), index).reshape(
            -1, *shape
        )

    @cached_property
    def sizes(self) -> Sizes:
        """How large the weights are: as large as their dtype allows where they are not known."""
        problem = self._problem
        if self._k is None:
            whole = dtypes.is_integer(problem.k_dtype)
            largest = float(dtypes.largest(problem.k_dtype)) if whole else math.inf
            taps = problem.p * problem.q
            return Sizes(largest * taps, largest * math.sqrt(taps), whole)
        values = dtypes.widen(self._k, problem.k_dtype, "float64")
        whole = bool((np.rint(values) == values).all())
        magnitudes = np.abs(values)
        with np.errstate(over="ignore", invalid="ignore"):
            total = magnitudes.sum(axis=(-2, -1)).max(initial=0.0)
            norm = math.sqrt(np.square(magnitudes).sum(axis=(-2, -1)).max(initial=0.0))
        return Sizes(float(total), norm, whole)

    @cached_property
    def are_equal(self) -> bool:
        """Whether the weights of each kernel are all equal and finite."""
        if self._k is None:
            raise ValueError("the weights are not on the host")
        return has_equal_weights(self._k, self._problem.k_dtype)

    @cached_property
    def are_antisymmetric(self) -> bool:
        """Whether those of some kernel, not all 0, are their negative when flipped both ways."""
        if self._k is None:
            raise ValueError("the weights are not on the host")
        values = dtypes.widen(self._k, self._problem.k_dtype, self._problem.acc_dtype)
        cancel = (values == -values[..., ::-1, ::-1]).all(axis=(-2, -1))
        return bool((cancel & values.any(axis=(-2, -1))).any())

    def factors(self) -> Factors:
        """Find separable factors of the smallest rank, whatever that costs."""
        if self._factors is None:
            found = self._found and self._found.factors
            self._factors = found or _separate(*self._key())
        return self._factors

    def least_operations(self, compiled: bool) -> int:
        """Count the operations without which `search` finds nothing, whatever the weights."""
        problem = self._problem
        return _least(problem.k_shape, problem.k_dtype, problem.acc_dtype, compiled)[0]

    def search(self, limit: int, operations: float, compiled: bool) -> Found:
        """Look for accurate factors of rank `limit` at most, with no more operations than these.

        The result depends only on the weights and the arguments, not on earlier searches. With
        `compiled`, compiled code searches first.
        """
        if self._k is None:
            raise ValueError("the weights are not on the host")
        problem = self._problem
        shape, k_dtype, acc = problem.k_shape, problem.k_dtype, problem.acc_dtype
        least, hashing = _least(shape, k_dtype, acc, compiled)
        if operations < least:
            return Found(0, TOO_LONG, 0)
        spent, single = 0, True
        if compiled and not dtypes.is_complex(acc):
            bank = self._k[None]
            if len(shape) > 2:
                bank = self._k.reshape(math.prod(shape[:-2]), *shape[-2:])
            repeated = _REPEATED * hashing
            found = search_compiled(
                bank, k_dtype, acc, limit, least - repeated, operations - repeated
            )
            if found.remark not in (MORE, UNDECIDED):
                return self._keep(found)
            spent, single = found.operations, len(bank) > 1 or found.remark == UNDECIDED
        # Hashed once more, to look up an earlier search of the same weights.
        most = operations - spent - (_REPEATED + 1) * hashing
        found = _separate_within(*self._key(), limit, most, single)
        return self._keep(found._replace(operations=spent + found.operations))

    def _keep(self, found: Found) -> Found:
        if found.rank:
            self._found, self._factors = found, None
        return found

    def _key(self) -> tuple[bytes, tuple[int, int, int], str, str, bool]:
        if self._k is None:
            raise ValueError("the weights are not on the host")
        problem = self._problem
        shape = (-1 if self._k.size else 0, problem.p, problem.q)
        raw = np.ascontiguousarray(self._k).tobytes()
        return raw, shape, problem.k_dtype, problem.acc_dtype, problem.conjugate


@lru_cache(maxsize=1024)
def _least(shape: tuple[int, ...], k_dtype: str, acc: str, compiled: bool) -> tuple[int, int]:
    """Count the operations without which nothing is found, and those of hashing the weights."""
    # Copying and hashing a byte takes two thirds of the time of an operation.
    hashing = 2 * math.prod(shape) * dtypes.storage(k_dtype).itemsize // 3
    kernels, (p, q) = math.prod(shape[:-2]), shape[-2:]
    if compiled and not dtypes.is_complex(acc):
        return least_compiled(kernels, p, q, k_dtype, acc) + _REPEATED * hashing, hashing
    return least_operations(kernels, p, q, acc) + (_REPEATED + 1) * hashing, hashing


@lru_cache(maxsize=64)
def _separate(
    raw: bytes, shape: tuple[int, int, int], k_dtype: str, acc: str, conjugate: bool
) -> Factors:
    kernels = np.frombuffer(raw, dtypes.storage(k_dtype)).reshape(shape)
    return _conjugated(separate(kernels, k_dtype, acc), conjugate)


@lru_cache(maxsize=64)
def _separate_within(
    raw: bytes,
    shape: tuple[int, int, int],
    k_dtype: str,
    acc: str,
    conjugate: bool,
    limit: int,
    operations: float,
    single: bool,
) -> Found:
    kernels = np.frombuffer(raw, dtypes.storage(k_dtype)).reshape(shape)
    found = separate_within(kernels, k_dtype, acc, limit, operations, single)
    if found.factors is None:
        return found
    return found._replace(made=_conjugated(found.factors, conjugate))


def _conjugated(factors: Factors, conjugate: bool) -> Factors:
    return factors._replace(u=factors.u.conj(), v=factors.v.conj()) if conjugate else factors
