"""Division of 16-bit sums by a whole number, as a product whose upper bits are kept.

See Granlund and Montgomery, "Division by invariant integers using multiplication", 1994.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

__all__ = ["find_reciprocal", "reciprocal_of"]


def reciprocal_of(n: int) -> tuple[int, int]:
    """Return the reciprocal of n > 1, of 16 bits or more, and the shift that goes with it."""
    shift = (n - 1).bit_length() - 1
    return -(-(1 << 16 + shift) // n), shift


@lru_cache(maxsize=256)
def find_reciprocal(n: int, most: int) -> tuple[int, int]:
    """Find the reciprocal and the shift that divide whole numbers by n > 1.

    Returns
    -------
    reciprocal, shift : int
        ``(s * reciprocal >> 16) >> shift`` is ``s // n`` for all s from 0 to `most`, which 16 bits
        hold. Both are 0 if no reciprocal of 16 bits does that.

    Examples
    --------
    >>> find_reciprocal(9, 2299)
    (58255, 3)
    >>> 2299 * 58255 >> 16 >> 3, 2299 // 9
    (255, 255)
    """
    if n < 2 or most >= 1 << 16:
        return 0, 0
    reciprocal, shift = reciprocal_of(n)
    sums = np.arange(most + 1, dtype=np.int64)
    if reciprocal >= 1 << 16 or ((sums * reciprocal >> 16 + shift) != sums // n).any():
        return 0, 0
    return reciprocal, shift
