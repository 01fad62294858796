"""What compiled code finds out about the weights."""

from __future__ import annotations

from enum import IntEnum


class Verdict(IntEnum):
    """Whether the factors that `rank_one` and `cross_approximation` look for are accurate."""

    ACCURATE = 0  # of all kernels
    CANCELS = 1  # products of the factors are much larger than an element they add up to
    MORE_NEEDED = 2  # so few products of a column and a row do not make up a kernel
    NOT_FINITE = 3  # an element is infinite or NaN
    UNDECIDED = (
        4  # the arithmetic of compiled code cannot tell; that of `methods.float_factors` can
    )


# Compiled code returns a count times 8 plus a verdict; these are plain integers for Numba.
ACCURATE, CANCELS, MORE_NEEDED, NOT_FINITE, UNDECIDED = map(int, Verdict)
