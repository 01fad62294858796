"""Joins passes along the last two axes into one by a 2-D kernel, which goes through memory once.

The kernel has rank 1, so that its sums are those of the passes, without the rounding between two of
them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ..core import dtypes
from .passes import Pass, has_integers_only

__all__ = ["for_device", "join"]

# Larger kernels may be faster by transforms or, on the host if all weights are equal, as boxes.
_SEPARABLE_MOST, _SEPARABLE_MOST_ON_DEVICES = 64, 128
# Taps of a joined kernel at most: those of very long passes would take all memory.
_TAPS_MOST = 1 << 20
_LAST = (-2, -1)


def join(passes: Iterable[Pass], x_dtype: str, dtype: str) -> list[Pass]:
    """Join successive passes from images of one dtype to results of another where that is right.

    Integers are cast after each pass, which changes sums that are no integers.
    """
    found: list[Pass] = []
    for one in passes:
        if found and _may_join(found[-1], one) and _is_exact(found[-1], one, x_dtype, dtype):
            found[-1] = _joined(found[-1], one)
        else:
            found.append(one)
    return found


def _may_join(first: Pass, second: Pass) -> bool:
    if first.axes != _LAST or second.axes != _LAST or first.boundary != second.boundary:
        return False
    if not isinstance(first.weights, np.ndarray) or not isinstance(second.weights, np.ndarray):
        return False
    lines = {tuple(n > 1 for n in one.weights.shape) for one in (first, second)}
    if (
        lines != {(True, False), (False, True)}
        or first.weights.size * second.weights.size > _TAPS_MOST
    ):
        return False
    # The second pass has the border's value beside what the first has made of the image.
    zeros = first.fillvalue == 0 and second.fillvalue == 0
    return (first.boundary != "constant" or zeros) and first.flipped == second.flipped


def _is_exact(first: Pass, second: Pass, x_dtype: str, dtype: str) -> bool:
    """Whether a cast of what lies between two passes changes nothing but digits of floats."""
    if not dtypes.is_integer(dtype):
        return True
    # Sums of integers are taken modulo their range, whether once or twice.
    whole = has_integers_only(first) and has_integers_only(second)
    return dtypes.is_integer(x_dtype) and whole and first.divisor == second.divisor == 1


def _joined(first: Pass, second: Pass) -> Pass:
    down, across = (first, second) if first.weights.shape[1] == 1 else (second, first)
    p, q = down.weights.shape[0], across.weights.shape[1]
    equal = down.divisor != 1 and across.divisor != 1
    long = max(p, q) > _SEPARABLE_MOST and first.method == second.method == "auto"
    return replace(
        first,
        weights=down.weights * across.weights,
        pad=(down.pad[0], across.pad[1]),
        divisor=down.divisor * across.divisor,
        rank=1,
        method="auto" if equal or long else "separable",
    )


def for_device(passes: Iterable[Pass], single: bool) -> list[Pass]:
    """Make passes what they should be on a GPU: `single` asks for sums in single precision."""
    names = {"f": "float32", "c": "complex64"}
    found = []
    for one in passes:
        weights, method = one.weights, one.method
        if single:
            weights = weights.astype(names[weights.dtype.kind])
        if min(weights.shape) > 1 and max(weights.shape) <= _SEPARABLE_MOST_ON_DEVICES:
            method = "separable" if one.rank == 1 else method
        found.append(replace(one, weights=weights, method=method))
    return found
