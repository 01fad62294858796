"""A filter as passes: correlations along one axis or two, one after the other.

Sums are those of `gpuconv.corr2d` with weights of float64, as SciPy's are; integers with integer
weights are summed exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import api
from ..core import dtypes
from .stores import Store

__all__ = ["Pass", "line_pass", "prepare"]

Pair = tuple[int, int]
# Larger integer weights are not told from others: their sums might not fit 64 bits.
_LARGEST_INTEGER = 2.0**31


@dataclass(frozen=True)
class Pass:
    """One correlation of all lines along an axis, or of all planes of two."""

    weights: Any  # 2-D, float64 or complex128, of any library
    axes: Pair  # which axes of the image are rows and columns, counted from the end
    pad: tuple[Pair, Pair]
    boundary: str
    fillvalue: Any = 0.0
    flipped: bool = False  # whether it is a convolution
    divisor: int = 1  # what sums are divided by
    method: str = "auto"

    @property
    def call(self) -> Callable[..., Any]:
        """The function that makes the sums."""
        return api.convolve2d if self.flipped else api.corr2d

    def keywords(self) -> dict[str, Any]:
        """Return what it is told besides axes and padding."""
        return dict(
            boundary=self.boundary,
            fillvalue=self.fillvalue,
            stride=(1, 1),
            dilation=(1, 1),
            method=self.method,
        )

    def correlate(self, image: Any, **keywords: Any) -> Any:
        """Return the sums, not yet divided, or write them to `out=`."""
        return self.call(
            image, self.weights, mode=self.pad, axes=self.axes, **self.keywords(), **keywords
        )

    def reaches_along(self, axis: int) -> bool:
        """Whether outputs read pixels at other places along an axis, counted from the end."""
        if axis not in self.axes:
            return False
        n = self.axes.index(axis)
        return bool(self.weights.shape[n] > 1 or any(self.pad[n]))


def line_pass(weights: Any, axis: int, pad: Pair, boundary: str, **keywords: Any) -> Pass:
    """Make the pass of 1-D weights along an axis, counted from the end."""
    if axis == -1:
        return Pass(weights[None, :], (-2, -1), ((0, 0), pad), boundary, **keywords)
    return Pass(weights[:, None], (axis, -1), (pad, (0, 0)), boundary, **keywords)


def prepare(one: Pass, x_dtype: str, dtype: str) -> tuple[Pass, Store]:
    """Find how a pass over an image of one dtype makes an output of another.

    An output of integers takes no sums of transforms, whose errors the cast might show.
    """
    if dtype in ("float32", "complex64") and one.divisor != 1:  # sums have digits to spare
        one = replace(one, weights=one.weights / one.divisor, divisor=1)
    if not dtypes.is_integer(dtype):
        return one, Store(x_dtype, dtype, False, one.divisor, is_plain=one.divisor == 1)
    if not dtypes.is_integer(x_dtype) or not _has_integers_only(one):
        return replace(one, method="direct"), Store(x_dtype, dtype, False, one.divisor, False)
    one = replace(one, weights=one.weights.astype(np.int64), fillvalue=int(one.fillvalue))
    is_plain = one.divisor == 1 and (dtype == "int64" or _fits(one, x_dtype, dtype))
    return one, Store(x_dtype, dtype, True, one.divisor, is_plain)


def _has_integers_only(one: Pass) -> bool:
    if not isinstance(one.weights, np.ndarray) or one.weights.dtype.kind != "f":
        return False
    numbers = np.append(one.weights, one.fillvalue)
    return bool(((numbers == np.rint(numbers)) & (np.abs(numbers) < _LARGEST_INTEGER)).all())


def _fits(one: Pass, x_dtype: str, dtype: str) -> bool:
    """Whether an integer dtype holds all sums that there may be; bools are never sums."""
    if dtype == "bool":
        return False
    (low, high), (least, most) = _range(x_dtype), _range(dtype)
    low, high = min(low, one.fillvalue), max(high, one.fillvalue)
    weights = [int(w) for w in one.weights.flat]
    smallest = sum(w * (low if w > 0 else high) for w in weights)
    largest = sum(w * (high if w > 0 else low) for w in weights)
    return bool(least <= smallest and largest <= most)


def _range(dtype: str) -> Pair:
    if dtype == "bool":
        return 0, 1
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)
