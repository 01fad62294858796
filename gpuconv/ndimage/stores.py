"""Finished sums: divided, and converted to the output's dtype as SciPy does it.

SciPy casts sums of float64 to integers as C does: towards zero, and modulo the integer's range.
`gpuconv.corr2d` rounds to the nearest and saturates, so sums for integers are stored here.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np

from ..core import dtypes
from ..core.array_types import Array

__all__ = ["Store"]

# A quotient that is an integer must stay one in the cast. So must a sum of integers with weights
# such as a Gaussian's if the exact sum is an integer, as in flat regions. Both are off by
# roundings, so they are made larger by as many, but by no more than the step.
_ROUNDINGS = 16
_LARGEST_STEP = 2.0**-9
# Quotients of sums that fit 32 bits and a divisor up to this one are 1 / divisor or more below the
# next integer, which is more than all roundings.
_LARGEST_FACTOR = 1 << 16


@dataclass(frozen=True)
class Store:
    """How sums become pixels of an output."""

    dtype: str  # the output's
    sums_dtype: str
    kind: str  # "integer": exact sums; "rounded integer": exact ones may be integers; "float"
    divisor: int
    is_plain: bool  # whether `gpuconv.corr2d` makes the output as it is

    def write(self, sums: Array, target: Array, xp: ModuleType) -> None:
        """Write sums, which may be overwritten, to an array of the output's dtype."""
        with np.errstate(invalid="ignore", over="ignore"):
            if not dtypes.is_integer(self.dtype):
                xp.true_divide(sums, self.divisor, out=target)
                return
            if self.kind == "rounded integer" or self.divisor != 1:
                self._divide(sums, xp)
            _cast(sums, target, self.dtype, xp)

    def _divide(self, sums: Array, xp: ModuleType) -> None:
        """Divide in place, so that what is exactly an integer stays one in a cast."""
        roundings = _ROUNDINGS * float(np.finfo(self.sums_dtype).eps) / 2
        small = np.dtype(self.dtype).itemsize < 8 and self.divisor <= _LARGEST_FACTOR
        if self.kind != "float" and small:
            xp.multiply(sums, (1 + roundings) / self.divisor, out=sums)
            return
        if self.divisor != 1:
            xp.true_divide(sums, self.divisor, out=sums)
        if self.kind == "rounded integer":  # of large ones many roundings would be more than 1
            step = xp.clip(sums * roundings, -_LARGEST_STEP, _LARGEST_STEP)
            xp.add(sums, step, out=sums)


def _cast(sums: Array, target: Array, dtype: str, xp: ModuleType) -> None:
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
