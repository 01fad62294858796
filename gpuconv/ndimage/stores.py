"""What becomes of a finished sum: divided, and converted to the output's dtype as SciPy does it.

SciPy casts sums of float64 to integers as C does: towards zero, and modulo the integer's range.
`gpuconv.corr2d` rounds to the nearest and saturates, so sums for integers are stored here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import dtypes

__all__ = ["Store"]

# Sums of integers with weights that are not integers, such as a Gaussian's, are off by roundings.
# Where the exact sum is an integer, as in flat regions, the cast must not lose it: sums are made
# larger by a few roundings, and by no more than this.
_ROUNDINGS = 8 * float(np.finfo(np.float64).eps)
_LARGEST_STEP = 2.0**-9
# Quotients of sums that fit 32 bits and a divisor up to this one are at least 1 / divisor from the
# next integer, which is more than all roundings.
_LARGEST_FACTOR = 1 << 16


@dataclass(frozen=True)
class Store:
    """How sums become pixels of an output."""

    x_dtype: str
    dtype: str  # the output's
    exact: bool  # whether the sums are integers without any rounding
    divisor: int
    is_plain: bool  # whether `gpuconv.corr2d` makes the output as it is

    def sums_dtype(self) -> str:
        """Return the dtype of sums."""
        if self.exact and self.divisor == 1:
            return "int64"
        both = self.x_dtype, self.dtype
        return "complex128" if any(dtypes.is_complex(d) for d in both) else "float64"

    def write(self, sums: Any, target: Any, xp: Any) -> None:
        """Write sums, which may be overwritten, to an array of the output's dtype."""
        with np.errstate(invalid="ignore", over="ignore"):
            if not dtypes.is_integer(self.dtype):
                xp.true_divide(sums, self.divisor, out=target)
                return
            if not (self.exact and self.divisor == 1):
                self._divide(sums, xp)
            _cast(sums, target, self.dtype, xp)

    def _divide(self, sums: Any, xp: Any) -> None:
        """Divide in place, so that quotients which are integers stay so in a cast."""
        rounded = dtypes.is_integer(self.x_dtype)
        if rounded and np.dtype(self.dtype).itemsize < 8 and self.divisor <= _LARGEST_FACTOR:
            xp.multiply(sums, (1 + _ROUNDINGS) / self.divisor, out=sums)
            return
        if self.divisor != 1:
            xp.true_divide(sums, self.divisor, out=sums)
        if rounded and not self.exact:  # of large numbers many roundings would be more than 1
            step = xp.clip(sums * _ROUNDINGS, -_LARGEST_STEP, _LARGEST_STEP)
            xp.add(sums, step, out=sums)


def _cast(sums: Any, target: Any, dtype: str, xp: Any) -> None:
    """Cast to an integer dtype as C does, modulo its range."""
    if dtype == "bool":  # a byte in C
        target[...] = sums.astype(xp.int64).astype(xp.uint8) != 0
    elif dtype == "uint64" and sums.dtype.kind == "f":
        wrapped = sums.astype(xp.int64).astype(xp.uint64)
        target[...] = xp.where(sums < 2.0**63, wrapped, sums.astype(xp.uint64))
    elif xp is np and np.dtype(dtype).itemsize < 4:
        np.copyto(target, sums, casting="unsafe")
    else:
        target[...] = sums.astype(xp.int64, copy=False).astype(dtype, copy=False)
