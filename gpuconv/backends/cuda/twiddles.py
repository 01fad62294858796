"""Twiddle factors of the transforms in shared memory, as text for the compiler."""

from __future__ import annotations

import cmath
import math
from functools import cache

import numpy as np


def stages(side: int) -> tuple[int, int]:
    """Lengths of the transforms of the first and the second stage, see src/fft/fft_block.cuh."""
    second = 8 if side >= 64 else 4
    return side // second, second


@cache
def factors_text(side: int, real: str) -> str:
    """List real and imaginary parts of exp(-2 pi i n k / side), rounded to a dtype.

    n counts transforms of the first stage and k, which runs faster, their numbers.

    Examples
    --------
    >>> factors_text(16, "float32")[:30]
    '0x1.0000000000000p+0, 0x0.0p+0'
    """
    first, second = stages(side)
    numbers: list[float] = []
    for product in (n * k for n in range(second) for k in range(first)):
        factor = _root(product, side)
        numbers += [factor.real + 0.0, factor.imag + 0.0]  # no negative zero, as Python 3.14 makes
    return ", ".join(float(value).hex() for value in np.array(numbers, real))


def _root(n: int, side: int) -> complex:
    """Compute exp(-2 pi i n / side) from an angle of at most an eighth of a turn."""
    quarter, rest = divmod(n % side, side // 4)
    if 2 * rest > side // 4:
        rest -= side // 4
        quarter += 1
    angle = -2 * math.pi * rest / side
    return cmath.exp(1j * angle) * (1, -1j, -1, 1j)[quarter % 4]
