"""The dtype that sums are accumulated in, and the order in which taps are added."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import dtypes
from .arrays import Array
from .problem import Problem


def choose_exact_accumulator(problem: Problem, weights: Array, vertical: Any = None) -> str:
    """Return the dtype to accumulate in: for integers the fastest in which all sums are exact.

    Sums of products of whole numbers are exact in float32 up to 2**24 and in float64 up to 2**53,
    in any order. How large they can get follows from the dtypes and the weights alone. With
    `vertical`, the weights are the horizontal factors of a separable kernel and these the vertical.
    """
    acc = problem.acc_dtype
    if not dtypes.is_integer(acc) or not weights.size:
        return acc
    largest = max(dtypes.largest(problem.x_dtype), abs(int(problem.fillvalue)))  # type: ignore[arg-type]
    weights = weights.reshape(-1, weights.shape[-2], problem.q)
    sizes = np.abs(weights.astype(np.float64)).sum(axis=-1)
    if vertical is not None:
        sizes = sizes * np.abs(vertical.astype(np.float64)).sum(axis=-1)
    total = float(sizes.sum(axis=-1).max()) * largest
    if total <= 2.0**24:
        return "float32"
    # `total` is itself a rounded float64 sum, hence half of 2**53.
    return "float64" if total <= 2.0**52 else acc


def find_mirrored(weights: Array) -> Any:
    """Find the kernels, in an array (kernels, terms, taps), all of whose rows are mirrored.

    A mirrored row equals its own reverse, or the negative of that, exactly. Of a complex row the
    real and the imaginary part must both be mirrored.

    Examples
    --------
    >>> import numpy as np
    >>> find_mirrored(np.array([[[1.0, 2, 1], [-1, 0, 1]], [[1, 2, 1], [1, 2, 3]]]))
    array([ True, False])
    """
    if weights.shape[-1] < 2:  # a single tap has only one order
        return np.zeros(len(weights), bool)
    if weights.dtype.kind == "c":
        return find_mirrored(weights.real) & find_mirrored(weights.imag)
    half = weights.shape[-1] // 2
    left, right = weights[..., : half + 1], weights[..., : -half - 2 : -1]
    same = (left == right).all(axis=-1) | (left == -right).all(axis=-1)
    return same.all(axis=-1)


def mirrored_order(taps: int) -> Any:
    """Return the order of a row's taps: first half forwards, second half backwards, middle tap.

    Examples
    --------
    >>> mirrored_order(5)
    array([0, 1, 4, 3, 2])
    """
    half, numbers = taps // 2, np.arange(taps)
    back = numbers[::-1][:half]
    return np.concatenate([numbers[:half], back, numbers[half : taps - half]])
