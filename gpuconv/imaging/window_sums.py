"""Sums over the windows of an image: of pixels, of their squares, and of squared deviations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from .. import engine
from ..core.array_types import Array
from ..core.arrays import to_host
from .faint_windows import LEAST_SHARE, refine_deviations, refine_squares

__all__ = ["Deviations", "Windows", "find_deviations", "find_squares", "positive_range"]


@dataclass(frozen=True)
class Windows:
    """How windows of ``p x q`` pixels are summed.

    The weights of a mask are those of pixels; a mean is weighted by them, squares by their squares,
    as OpenCV defines it.
    """

    shape: tuple[int, int]
    mask: Array | None  # (..., p, q), 0 and 1 as uint8, or weights as float64
    xp: ModuleType  # the arrays' library
    method: str  # by which unmasked windows are summed
    backend: str

    @property
    def binary(self) -> bool:
        """Whether all weights are 0 or 1."""
        return self.mask is None or self.mask.dtype == np.uint8

    def count(self) -> Array:
        """Sum of the weights."""
        if self.mask is None:
            return self.shape[0] * self.shape[1]
        return self.mask.sum(axis=(-2, -1), keepdims=True, dtype=np.float64)

    def sum(self, pixels: Array, squared_weights: bool = False) -> Array:
        """Sum over each window."""
        if self.mask is None:
            kernel = np.ones(self.shape, _dtype_of_ones(pixels))
            return engine.correlate(pixels, kernel, method=self.method, backend=self.backend)
        weights = self.mask * self.mask if squared_weights else self.mask
        return engine.correlate(pixels, weights, backend=self.backend)


def _dtype_of_ones(pixels: Array) -> str:
    return "float64" if pixels.dtype.kind == "f" else "uint8"


@dataclass(frozen=True)
class Deviations:
    """Of each window the mean and the sum of squared deviations from it."""

    mean: Array
    square: Array
    largest: float  # sum of squares of any window


def find_deviations(windows: Windows, pixels: Array, squares: Array) -> Deviations:
    """Find the means and the squared deviations of all windows.

    Parameters
    ----------
    windows : Windows
    pixels : array, shape (..., h, w)
        float64, or integers, whose sums are exact in 64 bits.
    squares : array
        Their squares.
    """
    first = windows.sum(pixels)
    second = windows.sum(squares, squared_weights=True)
    if pixels.dtype.kind != "f":
        return _of_integers(windows, first, second)
    xp, count = windows.xp, _on(windows.count(), windows.xp)
    largest = positive_range(second)[1]
    mean = first * (1 / count)
    if windows.binary:
        first *= mean
        second -= first
    else:
        # sum(w^2 (x - mean)^2), multiplied out
        weighted = windows.sum(pixels, squared_weights=True)
        weights = _on((windows.mask**2).sum(axis=(-2, -1), keepdims=True), xp)  # type: ignore[operator]
        second = second - 2 * mean * weighted + mean * mean * weights
    if windows.mask is None:
        first *= LEAST_SHARE
        inexact = second <= first
    else:  # may be sums by transforms, whose errors are those of the largest
        inexact = second <= largest * LEAST_SHARE
    if bool(inexact.any()):
        second = _on(_on_host(refine_deviations, windows, pixels, inexact, second), xp)
    return Deviations(mean, second, largest)


def find_squares(windows: Windows, pixels: Array, squares: Array) -> Array:
    """Find the sums of squares of all windows, as float64; see `find_deviations`."""
    xp = windows.xp
    found = windows.sum(squares, squared_weights=True)
    if pixels.dtype.kind != "f":
        return found.astype(xp.float64)
    if windows.mask is not None:
        inexact = found <= positive_range(found)[1] * LEAST_SHARE
        if bool(inexact.any()):
            found = _on(_on_host(refine_squares, windows, pixels, inexact, found), xp)
    return found


def positive_range(values: Array) -> tuple[float, float]:
    """The smallest and the largest of the numbers that are positive and finite, 1 if none is."""
    low, high = float(values.min()), float(values.max())
    if low > 0 and high < np.inf:
        return low, high
    values = to_host(values)
    values = values[(values > 0) & (values < np.inf)]
    return (float(values.min()), float(values.max())) if values.size else (1.0, 1.0)


def _of_integers(windows: Windows, first: Array, second: Array) -> Deviations:
    """From exact sums; where the difference is small it is taken modulo 2**64, which is exact."""
    xp, count = windows.xp, _on(windows.count(), windows.xp)
    values = first.astype(xp.float64)
    mean = values * (1 / count)
    square = second.astype(xp.float64)
    values *= mean
    inexact = square - values <= 1e-6 * square
    square -= values
    if bool(inexact.any()):
        whole = count if isinstance(count, int) else count.astype(xp.int64)
        first, second = first.astype(xp.int64), second.astype(xp.int64)
        exact = (second * whole - first * first).astype(xp.float64) / count
        square = xp.where(inexact, exact, square)
    return Deviations(mean, square, 0.0)


def _on_host(refine: Callable[..., Array], windows: Windows, *images: Array) -> Array:
    return refine(windows.shape, windows.mask, *map(to_host, images))


def _on(value: Array, xp: ModuleType) -> Array:
    return value if xp is np or isinstance(value, int) else xp.asarray(value)
