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
from ..core.array_types import ArrayLike
from .stores import Store

__all__ = ["Pass", "has_integers_only", "line_pass", "prepare"]

Pair = tuple[int, int]
_LAST = (-2, -1)
# Larger integer weights are summed as floats are: their sums might not fit 64 bits.
_LARGEST_INTEGER = 2.0**31
# Smaller sums are divided in float32: the quotient's error is less than 1 / divisor, see `Store`.
_EXACT_IN_FLOAT32 = 1 << 19


@dataclass(frozen=True)
class Pass:
    """One correlation of all lines along an axis, or of all planes of two."""

    weights: ArrayLike  # 2-D, float64 or complex128, of any library
    axes: Pair  # which axes of the image are rows and columns, counted from the end
    pad: tuple[Pair, Pair]
    boundary: str
    fillvalue: Any = 0.0
    flipped: bool = False  # whether it is a convolution
    divisor: int = 1  # what sums are divided by
    method: str = "auto"
    rank: int | None = None  # of the weights, where it is known
    is_partial: bool = False  # whether its sums are the next pass's terms, which no cast changes
    of_integers: bool = False  # whether its terms are sums of integers, as a cast has to know

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

    def correlate(self, image: ArrayLike, **keywords: Any) -> Any:
        """Return the sums, not yet divided, or write them to `out=`."""
        if self.axes != _LAST or image.ndim > 2:  # or it might be taken for a photo
            keywords["axes"] = self.axes
        return self.call(image, self.weights, mode=self.pad, **self.keywords(), **keywords)

    @property
    def is_complex(self) -> bool:
        """Whether weights have an imaginary part."""
        if isinstance(self.weights, np.ndarray):
            return bool(self.weights.dtype.kind == "c")
        return "complex" in str(self.weights.dtype)

    def reaches_along(self, axis: int) -> bool:
        """Whether outputs read pixels at other places along an axis, counted from the end."""
        if axis not in self.axes:
            return False
        n = self.axes.index(axis)
        return bool(self.weights.shape[n] > 1 or any(self.pad[n]))


def line_pass(weights: ArrayLike, axis: int, pad: Pair, boundary: str, **keywords: Any) -> Pass:
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
    divisor = one.divisor
    if not dtypes.is_integer(dtype):
        sums = "complex128" if dtypes.is_complex(dtype) else "float64"
        return one, Store(dtype, sums, "float", divisor, is_plain=divisor == 1)
    if not dtypes.is_integer(x_dtype) or not has_integers_only(one):
        of_integers = dtypes.is_integer(x_dtype) or one.of_integers
        kind = "rounded integer" if of_integers else "float"
        return replace(one, method="direct"), Store(dtype, "float64", kind, divisor, False)
    low, high = _range_of_sums(one, x_dtype)
    if divisor != 1 and not _holds("int64", low, high):  # modulo 2**64 there is no quotient
        store = Store(dtype, "float64", "rounded integer", divisor, False)
        return replace(one, method="direct"), store
    one = replace(one, weights=one.weights.astype(np.int64), fillvalue=int(one.fillvalue))
    if divisor != 1:
        small = low > -_EXACT_IN_FLOAT32 and high < _EXACT_IN_FLOAT32
        return one, Store(dtype, "float32" if small else "float64", "integer", divisor, False)
    sums = "int32" if _holds("int32", low, high) else "int64"
    is_plain = dtype == "int64" or _holds(dtype, low, high)
    return one, Store(dtype, sums, "integer", 1, is_plain)


def has_integers_only(one: Pass) -> bool:
    """Whether weights and the border's value are integers that may be summed as such."""
    if not isinstance(one.weights, np.ndarray) or one.weights.dtype.kind != "f":
        return False
    numbers = np.append(one.weights, one.fillvalue)
    return bool(((numbers == np.rint(numbers)) & (np.abs(numbers) < _LARGEST_INTEGER)).all())


def _range_of_sums(one: Pass, x_dtype: str) -> Pair:
    """Return the least and the largest sum that there may be."""
    low, high = _range(x_dtype)
    low, high = min(low, int(one.fillvalue)), max(high, int(one.fillvalue))
    weights = [int(w) for w in one.weights.flat]
    least = sum(w * (low if w > 0 else high) for w in weights)
    return least, sum(w * (high if w > 0 else low) for w in weights)


def _holds(dtype: str, low: int, high: int) -> bool:
    """Whether an integer dtype holds all sums; bools are never sums."""
    least, most = _range(dtype)
    return dtype != "bool" and least <= low and high <= most


def _range(dtype: str) -> Pair:
    if dtype == "bool":
        return 0, 1
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)
