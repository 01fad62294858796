"""Sums of kernels whose weights are all equal: their dtype, and what they are multiplied by."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from . import dtypes
from .array_types import Array
from .division import find_reciprocal
from .problem import Problem

# A weight is taken for 1/n where n is no larger than this.
_LARGEST_DIVISOR = 1 << 24


def shrink_factor(problem: Problem) -> float:
    """Return the power of two that keeps sums of p * q shrunk pixels within their dtype's range."""
    return 0.5 ** (problem.p * problem.q).bit_length()


def has_equal_weights(k: Array, k_dtype: str) -> bool:
    """Whether all weights of each kernel have the same bits and are finite.

    Examples
    --------
    >>> import numpy as np
    >>> has_equal_weights(np.ones((2, 3, 3)) * [[[1]], [[4]]], "float64")
    True
    >>> has_equal_weights(np.eye(2), "float64")
    False
    """
    if k.size > 1 and k.item(0) != k.item(1) and math.prod(k.shape[-2:]) > 1:
        return False  # most kernels, in a tenth of the time
    first = k[..., :1, :1]
    if not (k == first).all():
        return False
    if not dtypes.is_integer(k_dtype):
        values = dtypes.widen(first, k_dtype, dtypes.accumulator(k_dtype))
        return bool(np.isfinite(values).all())
    return True


@lru_cache(maxsize=256)
def choose_window_accumulator(problem: Problem) -> str:
    """Return the dtype in which the pixels of windows are added up, before the weight is applied.

    For whole numbers it is the narrowest in which all sums are exact.

    Examples
    --------
    >>> from gpuconv.core.problem import make_problem
    >>> [choose_window_accumulator(make_problem((99, 99), (k, k), "uint8", "float32"))
    ...  for k in (3, 31)]
    ['uint16', 'int32']
    """
    acc, fill = problem.acc_dtype, problem.fillvalue
    if not dtypes.is_integer(problem.x_dtype) or dtypes.is_complex(acc):
        return acc
    if not float(fill).is_integer():  # type: ignore[arg-type]
        return acc
    largest = max(dtypes.largest(problem.x_dtype), abs(int(fill)))  # type: ignore[arg-type]
    total = largest * problem.p * problem.q
    signed = fill < 0 or problem.x_dtype.startswith("int")  # type: ignore[operator]
    if not signed and total < 1 << 16:
        return "uint16"
    if total < 1 << 31:
        return "int32"
    return acc if dtypes.is_integer(acc) else "float64"


def describe_scales(problem: Problem, k: Array) -> dict[str, Array]:
    """Describe what the sums of every kernel are multiplied or divided by.

    Returns
    -------
    dict
        For integers `whole`, the weight of each kernel. Otherwise its `real` and `imaginary` parts
        and `divisor`: n where the weight is the number nearest to 1/n, else 0. Division gives the
        mean of equal pixels exactly, which a product with the rounded 1/n does not.
    """
    acc = problem.acc_dtype
    weights = dtypes.widen(k[..., 0, 0], problem.k_dtype, acc).reshape(-1)
    if problem.conjugate:
        weights = weights.conj()
    if dtypes.is_integer(acc):
        return {"whole": weights.view(np.int64)}
    return {
        "real": weights.real, "imaginary": weights.imag, "divisor": _find_divisors(weights),
    }  # fmt: skip


def _find_divisors(weights: Array) -> Array:
    """Return the n for which each weight is the number nearest to 1/n, 0 where there is none."""
    real = weights.real
    with np.errstate(all="ignore"):
        n = np.rint(1 / real.astype(np.float64))
        near = (np.abs(n) <= _LARGEST_DIVISOR) & (np.abs(n) > 1) & (weights.imag == 0)
        near &= (1 / n).astype(real.dtype) == real
    return np.where(near, n, 0.0)


def find_mean_reciprocal(problem: Problem, divisor: float) -> tuple[int, int]:
    """Find the reciprocal that divides 16-bit sums of windows, plus half of the divisor.

    Returns it and a shift, both 0 if there is none; see `division.find_reciprocal`.

    Examples
    --------
    >>> from gpuconv.core.problem import make_problem
    >>> problem = make_problem((99, 99), (3, 3), "uint8", "float32", dtype="uint8")
    >>> find_mean_reciprocal(problem, 9)
    (58255, 3)
    """
    n = int(divisor)
    largest = max(dtypes.largest(problem.x_dtype), int(problem.fillvalue))  # type: ignore[arg-type]
    return find_reciprocal(n, largest * problem.p * problem.q + n // 2)
