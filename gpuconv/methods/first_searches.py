"""Searches for factors of rank one by NumPy, while the compiled search is not on disk.

To compile it takes about a second, which most processes never get back: they use a few kernels.
Here NumPy finds the same factors, bit for bit, and comes to the same verdicts.
"""

from __future__ import annotations

import numpy as np

from ..backends.cpu import rank_one
from ..backends.cpu.rank_one import LARGE, SMALL, Verdict
from ..core.array_types import Array
from .float_factors import Pair, rank_one_factors
from .operations import CANCELS, NotWorthwhile, Operations, least_operations

__all__ = ["find_rank_one_factors", "may_search"]

# After searches that took this many operations, a tenth of a second, it pays to compile.
_MOST = 150_000_000
_taken: dict[str, int] = {}


def may_search(shape: tuple[int, int, int], acc: str) -> bool:
    """Whether NumPy is to search kernels of a shape, for sums in a dtype of floats."""
    taken = _taken.get(acc, 0)
    if taken > _MOST or not rank_one.must_compile(acc):
        return False
    _taken[acc] = taken + least_operations(*shape, acc)
    return _taken[acc] <= _MOST


def find_rank_one_factors(values: Array, acc: str) -> tuple[Verdict, list[Pair]]:
    """Do what `rank_one.find_rank_one_factors` does with kernels of float64, by NumPy."""
    pairs: list[Pair] = []
    with np.errstate(all="ignore"):
        for kernel in values:
            if _is_undecided(kernel):
                return Verdict.UNDECIDED, pairs
            try:
                pair = rank_one_factors(kernel, acc, Operations())
            except NotWorthwhile as reason:
                cancels = str(reason) == CANCELS
                return Verdict.CANCELS if cancels else Verdict.NOT_FINITE, pairs
            if pair is None:
                return Verdict.MORE_NEEDED, pairs
            pairs.append(pair)
    return Verdict.ACCURATE, pairs


def _is_undecided(kernel: Array) -> bool:
    """Whether compiled code leaves a kernel to NumPy, which then counts its operations."""
    place = int(np.abs(kernel).argmax())
    pivot, column = kernel.flat[place], np.abs(kernel[:, place % kernel.shape[1]])
    top = abs(pivot)
    if not np.isfinite(pivot) or top == 0:
        return False
    if not SMALL <= top <= LARGE:
        return True
    odd = (column / top).view(np.int64) & 1 != 0
    return bool((odd & ((column < SMALL) | (column < SMALL * top))).any())
