"""Verdicts of the compiled search for factors of the weights."""

from __future__ import annotations

from enum import IntEnum


class Verdict(IntEnum):
    """Whether `rank_one` or `cross_approximation` found accurate factors, or why not."""

    ACCURATE = 0  # for all kernels
    CANCELS = 1  # products of the factors are much larger than an element they add up to
    MORE_NEEDED = 2  # a kernel needs more products of a column and a row
    NOT_FINITE = 3  # an element is infinite or NaN
    UNDECIDED = (
        4  # the arithmetic of compiled code cannot tell; that of `methods.float_factors` can
    )


# Kernels whose largest element lies outside these are UNDECIDED, because products of parts of their
# elements are inexact or overflow.
SMALL, LARGE = 2.0**-900, 2.0**900

# Compiled code returns a count times 8 plus a verdict; these are plain integers for Numba.
ACCURATE, CANCELS, MORE_NEEDED, NOT_FINITE, UNDECIDED = map(int, Verdict)
