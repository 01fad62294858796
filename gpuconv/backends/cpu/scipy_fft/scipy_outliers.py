"""Sums tiles again by SciPy's transforms without their largest pixels, which are added tap by tap.

It is what `jit.fft.fft_outliers` does for the package's own transforms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ....core.array_types import Array
from ....core.problem import Pair
from ..jit.fft import fft_errors
from .scipy_errors import ErrorEstimates, find_largest
from .scipy_filter import TileFilter, TransformedKernel

__all__ = ["TileRetry"]

# The most pixels that are taken out of a tile; with more, the tile is summed directly.
_TAKEN_MOST = 256
# Transforms of n elements in double precision take as long as adding n log2(n) numbers this often.
_TRANSFORMS_IN_DOUBLE = 2.0


@dataclass
class _ScaledTile:
    """A scaled tile that is transformed alone, and its norm."""

    pixels: Array  # divided by 2**exponent
    exponent: int
    norm: float


class TileRetry:
    """Sums tiles of a problem again that were not shown to be as exact as promised."""

    def __init__(self, tile_filter: TileFilter, errors: ErrorEstimates) -> None:
        self.filter, self.errors = tile_filter, errors

    def sum_again(self, tile: Array, kernel: TransformedKernel, rows: int, columns: int) -> Array:
        """Sum a tile as exactly as promised; None where transforms cannot.

        Its largest pixels are taken out, and what they contribute is added tap by tap.
        """
        if not kernel.finite:
            return None
        if not math.isfinite(find_largest(tile)):
            return self._sum_without_infinite(tile, kernel, rows, columns)
        return self._sum_finite(tile, kernel, np.ones((rows, columns), bool))

    def _sum_without_infinite(
        self, tile: Array, kernel: TransformedKernel, rows: int, columns: int
    ) -> Array:
        """Sum a tile in which some pixels are NaN or infinite; None where transforms cannot.

        These pixels are taken out. Outputs that read one become NaN or infinite; the error of all
        others is relative to the largest of those others.
        """
        nan, infinite = np.isnan(tile), np.isinf(tile)
        if self.filter.is_complex or np.count_nonzero(infinite) > _TAKEN_MOST:
            return None
        bad = nan | infinite
        read = self._count_read(bad, (rows, columns))
        sums = self._sum_finite(np.where(bad, 0, tile), kernel, read == 0)
        if sums is not None:
            for y, x in np.argwhere(infinite):
                self._add(sums, int(y), int(x), tile[y, x], kernel.weights)
            sums[self._count_read(nan, (rows, columns)) > 0] = np.nan
        return sums

    def _count_read(self, bad: Array, outputs: Pair) -> Array:
        """Count how many of the marked pixels each output reads."""
        counts = bad.astype(np.int32)
        for axis, (tiles, n) in enumerate(zip(self.filter.tiles, outputs, strict=True)):
            counts = np.moveaxis(counts, axis, 0)
            dilation = self.filter.problem.dilation[axis] if tiles.span > 1 else 1
            taps = (tiles.span - 1) // dilation + 1
            last = (n - 1) * tiles.spacing + tiles.span
            # Running sums of the pixels of each phase of the dilation; beyond the tile are zeros.
            padded = np.zeros((dilation + max(last, len(counts)), counts.shape[1]), np.int32)
            padded[dilation : dilation + len(counts)] = counts
            for first in range(dilation):
                np.cumsum(padded[first::dilation], axis=0, out=padded[first::dilation])
            begin = np.arange(n) * tiles.spacing
            counts = padded[begin + taps * dilation] - padded[begin]
            counts = np.moveaxis(counts, 0, axis)
        return counts

    def _sum_finite(self, tile: Array, kernel: TransformedKernel, counted: Array) -> Array:
        """Sum a finite tile as exactly as promised for the outputs that are counted, or None."""
        found = self._sum_without_largest(tile, kernel, counted)
        if found is None and self.errors.info.bits == 32:
            found = self._sum_in_double(tile, kernel, counted)
        return found

    def _sum_in_double(self, tile: Array, kernel: TransformedKernel, counted: Array) -> Array:
        """Sum by transforms in double precision, or None where even those are not as exact."""
        info = self.errors.info
        pixels, weights = (
            array.astype(np.result_type(array, np.float64)) for array in (tile, kernel.weights)
        )
        norm, size = (math.sqrt(np.vdot(a, a).real) for a in (pixels, weights))
        spectrum = self.filter.call(self.filter.spectrum, weights)
        sums, bound = self._apply(pixels, spectrum, counted.shape)
        noise = fft_errors.noise(size, float(np.abs(spectrum).max()), self.filter.size)
        error = (noise * norm + fft_errors.LARGEST_SUM * bound) * np.finfo("f8").eps
        reach = find_largest(sums[counted]) - error
        if not error <= fft_errors.PROMISED * float(info.eps) * reach:
            return None
        if not find_largest(sums) < info.max / 4:  # no sum is near the end of the range
            return None
        return sums.astype(self.filter.problem.acc_dtype)

    def _apply(self, pixels: Array, spectrum: Array, shape: Pair) -> tuple[Array, float]:
        """Return the sums of a tile for outputs of a shape, and a bound on all its sums."""
        found = self.filter.call(self.filter.apply, pixels[None], spectrum)
        sums = found.rows[0, self.filter.down.sums, self.filter.across.sums]
        return sums[: shape[0], : shape[1]], self.errors.bound_sums(found, 0)

    def _sum_without_largest(self, tile: Array, kernel: TransformedKernel, counted: Array) -> Array:
        """Sum a finite tile whose largest pixels are added by themselves, or None."""
        rows, columns = counted.shape
        all_counted = bool(counted.all())
        left = self._scale(tile.copy(), 0)
        bound = math.frexp(left.norm * kernel.norm)[1] + left.exponent + kernel.exponent
        if bound > self.errors.info.maxexp - 2:
            return None
        reach = 0.0
        if all_counted:
            reach = self.errors.sample(left.pixels, kernel.scaled, rows, columns, 3)
        exponent = left.exponent  # that `reach` is relative to
        for share in (math.inf, *fft_errors.SHARES):
            taken = np.zeros((0, 2), np.intp)
            if share < math.inf:
                noise = kernel.noise + fft_errors.LARGEST_SUM * kernel.peak
                limit = fft_errors.PROMISED * reach / share / noise
                limit = _times(limit, exponent - left.exponent)
                if left.exponent > 0 and not limit > 1 / self.errors.safe:
                    return None  # scaling by the largest pixel has rounded the others away
                large = np.abs(left.pixels) > limit
                if np.count_nonzero(large) > self._most_taken(kernel, counted.shape):
                    return None
                taken = np.argwhere(large)
                left.pixels[large] = 0
                left = self._scale(left.pixels, left.exponent)
            sums, estimate = self._sum_tile(left, kernel, (rows, columns))
            self._add_all(sums, taken, tile, kernel)
            if not np.isfinite(sums).all():
                return None
            largest = find_largest(sums if all_counted else sums[counted])
            largest = _times(largest, -left.exponent - kernel.exponent)
            proven = largest - estimate * float(self.errors.info.eps)
            reach = max(reach, _times(proven, left.exponent - exponent))
            if _times(estimate, left.exponent - exponent) <= fft_errors.PROMISED * reach:
                return sums
            # The next limit is lower, and starts from the whole tile again.
            left = self._scale(tile.copy(), 0)
        return None

    def _most_taken(self, kernel: TransformedKernel, outputs: Pair) -> float:
        """Return how many pixels are taken out at most.

        In single precision, transforms in double precision may be faster than adding them.
        """
        if self.errors.info.bits != 32:
            return _TAKEN_MOST
        contributions: int = math.prod(map(min, kernel.weights.shape, outputs))
        transforms: float = (
            _TRANSFORMS_IN_DOUBLE * self.filter.size * math.log2(self.filter.size + 1)
        )
        return min(float(_TAKEN_MOST), transforms / contributions)

    def _sum_tile(
        self, tile: _ScaledTile, kernel: TransformedKernel, shape: Pair
    ) -> tuple[Array, float]:
        """Return the sums of a scaled tile, and the estimate of the scaled tile's error."""
        if not tile.norm:
            return np.zeros(shape, self.filter.problem.acc_dtype), 0.0
        sums, bound = self._apply(tile.pixels, kernel.spectrum, shape)
        estimate = kernel.noise * tile.norm + fft_errors.LARGEST_SUM * bound
        return _ldexp(sums, tile.exponent + kernel.exponent), estimate

    def _scale(self, pixels: Array, exponent: int) -> _ScaledTile:
        """Scale a tile, already divided by 2**exponent, away from both ends of the range."""
        squares = float(self.errors.sum_squares(pixels[None])[0])
        if not self.errors.is_safe(squares) and pixels.any():
            more = math.frexp(find_largest(pixels))[1]
            pixels, exponent = _ldexp(pixels, -more), exponent + more
            squares = float(self.errors.sum_squares(pixels[None])[0])
        return _ScaledTile(pixels, exponent, math.sqrt(squares))

    def _add_all(self, sums: Array, places: Array, tile: Array, kernel: TransformedKernel) -> None:
        """Add what the pixels at some places contribute, in double precision."""
        if not len(places):
            return
        beside = np.zeros(sums.shape, "c16" if self.filter.is_complex else "f8")
        for y, x in places.tolist():
            self._add(beside, y, x, tile[y, x], kernel.weights)
        sums += beside

    def _add(self, sums: Array, y: int, x: int, value: complex, weights: Array) -> None:
        """Add what one pixel of a tile contributes to its sums."""
        (a, i), (b, j) = (
            _taps_and_outputs(at, taps, dilation, axis.spacing, outputs)
            for at, taps, dilation, axis, outputs in zip(
                (y, x), weights.shape, self.filter.problem.dilation, self.filter.tiles, sums.shape,
                strict=True,
            )
        )  # fmt: skip
        sums[i, j] += value * weights[a, b].astype(sums.dtype)


def _taps_and_outputs(
    pixel: int, taps: int, dilation: int, spacing: int, outputs: int
) -> tuple[slice, slice]:
    """Return the taps along an axis that read a pixel, and the outputs whose sums they add it to.

    They are the solutions of ``tap * dilation + output * spacing == pixel``, in the order of the
    taps. Finding them takes no longer for many taps than for few.
    """
    divisor = math.gcd(dilation, spacing)
    if pixel % divisor:
        return slice(0), slice(0)
    pixel, dilation, spacing = pixel // divisor, dilation // divisor, spacing // divisor
    least = max(0, -(((outputs - 1) * spacing - pixel) // dilation))
    first = least + (pixel * pow(dilation, -1, spacing) - least) % spacing
    found = range(first, min(taps - 1, pixel // dilation) + 1, spacing)
    if not found:
        return slice(0), slice(0)
    highest, lowest = ((pixel - tap * dilation) // spacing for tap in (found[0], found[-1]))
    end = lowest - dilation if lowest >= dilation else None  # below 0 it would count from the end
    return slice(first, found[-1] + 1, spacing), slice(highest, end, -dilation)


def _times(number: float, exponent: int) -> float:
    """Return a number times a power of two; infinite beyond the range."""
    with np.errstate(over="ignore"):
        return float(np.ldexp(number, exponent))


def _ldexp(array: Array, exponent: int) -> Array:
    """Return an array times a power of two, in two steps, as that may be beyond the range."""
    if not exponent:
        return array
    real = array.real.dtype
    half = exponent // 2
    # Real and imaginary parts separately: in a complex product Inf times 0 would give NaN.
    parts = np.ascontiguousarray(array).view(real)
    with np.errstate(over="ignore", under="ignore"):
        parts = parts * real.type(math.ldexp(1.0, half))
        parts *= real.type(math.ldexp(1.0, exponent - half))
    return parts.view(array.dtype)
