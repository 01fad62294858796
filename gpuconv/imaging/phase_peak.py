"""The largest value of the cross-correlation of two images, from their Fourier transforms."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

from ..backends.cpu.threads import thread_count
from ..core import arrays
from ..core.array_types import Array

__all__ = ["Spectra", "find_shift", "transform"]

# Upsampled cross-correlations are computed this many pixels wide, around the whole-pixel maximum.
_REFINED = 1.5
# Between which the magnitudes of products of spectra must be, each and their sum.
_SINGLE_RANGE, _DOUBLE_RANGE = (1e-30, 1e37), (1e-140, 1e150)
# From this many pixels on, several threads transform them: fewer are done before others wake up.
_PARALLEL_LEAST = 1 << 19


def transform(values: Array, name: str, xp: ModuleType, **keywords: Any) -> Array:
    """Transform all axes, by the function of this name in `numpy.fft`."""
    if xp is not np:
        return getattr(xp.fft, name)(values, **keywords)
    import scipy.fft

    with scipy.fft.set_workers(thread_count() if values.size >= _PARALLEL_LEAST // 2 else 1):
        return getattr(scipy.fft, name)(values, **keywords)


@dataclass(frozen=True)
class Spectra:
    """The Fourier transforms of two images.

    If `half`, those of real images, without the frequencies along the last axis that are the
    negatives of others: there they have the conjugate values.
    """

    first: Array
    second: Array
    shape: tuple[int, ...]  # of an image
    half: bool

    @property
    def size(self) -> int:
        """How many pixels an image has."""
        return math.prod(self.shape)

    def norm(self, spectrum: Array, xp: ModuleType) -> float:
        """Sum of the squares of one of the two spectra."""
        total = _sum_squares(spectrum, xp)
        if not self.half:
            return total
        return 2 * total - _sum_squares(spectrum[..., _own_negatives(self.shape[-1])], xp)

    def are_in_range(self, norms: list[float]) -> bool:
        """Whether products of both, and the squares of their sums, are ordinary numbers."""
        total = norms[0] ** 0.5 * norms[1] ** 0.5  # the sum of the products' magnitudes, at most
        single = self.first.dtype == self.second.dtype == np.complex64
        lowest, highest = _SINGLE_RANGE if single else _DOUBLE_RANGE
        return total == 0 or bool(lowest * self.size <= total <= highest)

    def divide(self, norms: list[float]) -> Spectra:
        """Return spectra whose sums of squares, which were `norms`, are 1."""
        both = zip((self.first, self.second), norms, strict=True)
        # No spectrum is beyond the range of double precision.
        first, second = ((a.astype("complex128") * n**-0.5).astype(a.dtype) for a, n in both)
        return replace(self, first=first, second=second)


@dataclass(frozen=True)
class _Peak:
    """The largest value of a cross-correlation, and where it is."""

    at: Array  # indices
    value: complex

    @classmethod
    def of(cls, correlation: Array, xp: ModuleType) -> _Peak:
        if correlation.dtype.kind == "c":
            flat = int(xp.abs(correlation).argmax().item())
        else:  # without an array of magnitudes
            ends = (int(a.item()) for a in (correlation.argmax(), correlation.argmin()))
            flat = max(ends, key=lambda i: (abs(float(correlation.reshape(-1)[i])), -i))
        at = np.array(np.unravel_index(flat, correlation.shape), np.float64)
        return cls(at, complex(correlation.reshape(-1)[flat].item()))


def find_shift(spectra: Spectra, factor: int, phase: bool, pair: str) -> tuple[Array, float, float]:
    """Find the shift between two images to 1 / `factor` of a pixel, with its error and phase.

    With `phase` all frequencies count the same. `pair` says in an error which images these are.
    """
    xp, shape, size = arrays.array_module(spectra.first), spectra.shape, spectra.size
    real = np.dtype(spectra.first.real.dtype)
    norms = [spectra.norm(spectrum, xp) for spectrum in (spectra.first, spectra.second)]
    if not np.isfinite(norms).all():
        raise ValueError(
            f"the images{pair} hold NaN or infinite pixels; replace them first, as by their median"
        )
    eps, amplitude = float(np.finfo(real).eps), norms[0] * norms[1]
    least = 100 * eps  # scikit-image's: smaller products count by their magnitude
    if not spectra.are_in_range(norms):
        spectra = spectra.divide(norms)
        least *= eps / size  # what rounding errors of transforms are multiplied to
        amplitude = amplitude if phase else 1.0
    product = spectra.second.conj()
    product = xp.multiply(spectra.first, product, out=_place_of(product, spectra.first))
    if phase:
        magnitude = xp.abs(product)
        divisor = xp.maximum(magnitude, magnitude.dtype.type(least), out=magnitude)
        # NumPy takes longer to divide complex numbers.
        for part in (product.real, product.imag) if xp is np else (product,):
            part /= divisor
    if spectra.half:
        axes = tuple(range(len(shape)))
        correlation = transform(product, "irfftn", xp, s=shape, axes=axes)
    else:
        correlation = transform(product, "ifftn", xp)
    peak = _Peak.of(correlation, xp)
    value, lengths = peak.value, np.array(shape, np.float64)
    shift = np.where(peak.at > np.trunc(lengths / 2), peak.at - lengths, peak.at)
    if factor == 1:
        amplitude /= size**2
    else:
        shift = np.round(shift * factor) / factor
        side = int(np.ceil(_REFINED * factor))
        middle = side // 2
        peak = _Peak.of(_upsample(product, spectra, shift * factor - middle, side, factor, xp), xp)
        value = peak.value
        shift = shift + (peak.at - middle) / factor
    shift = np.where(np.array(shape) == 1, 0, shift).astype(real)
    return shift, _error(value, amplitude), float(np.angle(value))


def _place_of(product: Array, first: Array) -> Array:
    """Return the array that holds products of both, None if they are of another dtype."""
    return product if product.dtype == np.result_type(product, first) else None


def _sum_squares(spectrum: Array, xp: ModuleType) -> float:
    """Sum the squares of magnitudes, in double precision."""
    if xp is not np or not spectrum.flags.c_contiguous:
        return float((xp.abs(spectrum).astype("float64") ** 2).sum())
    parts = spectrum.reshape(-1).view(spectrum.real.dtype)
    if parts.dtype == np.float32:
        return float(np.einsum("i,i", parts, parts, dtype=np.float64))  # without a wide copy
    return float(np.dot(parts, parts))


def _waves(first: float, count: int, frequencies: Array) -> Array:
    """Return ``exp(2j * pi * x * f)`` for places x = first, first + 1 ... and the frequencies f.

    They are products of waves at every few places and of those from there on, because NumPy takes
    long to compute exponentials.
    """
    step = math.isqrt(count) + 1
    far, near = np.arange(0, count, step) + first, np.arange(step)
    waves, few = (np.exp(2j * np.pi * x[:, None] * frequencies) for x in (far, near))
    return (waves[:, None] * few).reshape(-1, len(frequencies))[:count]


def _own_negatives(n: int) -> list[int]:
    """Frequencies of `n` pixels that are their own negatives: 0, and the highest if n is even."""
    return [0] if n % 2 else [0, n // 2]


def _upsample(
    product: Array, spectra: Spectra, start: Array, side: int, factor: int, xp: ModuleType
) -> Array:
    """The inverse transform on a grid `factor` times as fine, from `start` on, without 1/n."""
    found, half = product, spectra.half
    for n, first in zip(reversed(spectra.shape), reversed(start), strict=True):
        frequencies = np.fft.fftfreq(n, factor)[: found.shape[-1]]
        waves = xp.asarray(_waves(first, side, frequencies).astype(product.dtype))
        # The last axis is summed over; that of the places comes first.
        summed = xp.tensordot(waves, found, axes=(1, -1))
        if half:
            once = _own_negatives(n)
            alone = xp.tensordot(waves[:, once], found[..., once], axes=(1, -1))
            summed = summed + _negative(summed - alone, xp).conj()
            half = False
        found = summed
    return found


def _negative(sums: Array, xp: ModuleType) -> Array:
    """Values at the negative frequencies along all axes but the first, which has the places."""
    axes = tuple(range(1, sums.ndim))
    return xp.roll(xp.flip(sums, axes), (1,) * len(axes), axes) if axes else sums


def _error(value: complex, amplitude: float) -> float:
    if amplitude == 0:
        return float("nan")  # an image of zeros differs from every other by all of its norm
    return float(abs(1 - abs(value) ** 2 / amplitude) ** 0.5)
