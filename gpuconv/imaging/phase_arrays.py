"""The shifts between images in memory, one pair of a batch after the other."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ..backends.cpu.threads import thread_count
from ..core import arrays, dtypes
from ..core.arguments import broadcast
from ..core.array_types import Array, ArrayLike
from ..core.streams import use_stream_of

__all__ = ["NAMES", "Search", "Shapes", "join_shapes", "read_axes", "register", "with_axes_last"]

# What errors call the two images.
NAMES = ("reference_image", "moving_image")
# Upsampled cross-correlations are computed this many pixels wide, around the whole-pixel maximum.
_REFINED = 1.5
# Between which the magnitudes of products of spectra must be, each and their sum.
_SINGLE_RANGE, _DOUBLE_RANGE = (1e-30, 1e37), (1e-140, 1e150)


@dataclass(frozen=True)
class Search:
    """What the maximum of a cross-correlation is looked for in, and how finely."""

    factor: int
    space: str
    phase: bool  # whether all frequencies count the same

    def dtype_of_shifts(self, dtype: str) -> np.dtype[Any]:
        """Return the dtype of shifts of a reference image of `dtype`."""
        return np.dtype("float32" if _is_single(dtype) else "float64")


class Shapes(NamedTuple):
    """The shape of what is done for each pair of images, and that of an image."""

    batch: tuple[int, ...]
    image: tuple[int, ...]


def read_axes(axes: int | Sequence[int] | None, ndim: int, name: str) -> tuple[int, ...]:
    """Return the axes of an image, all of them for None, counted from the end.

    Examples
    --------
    >>> read_axes((0, -1), 3, "moving_image")
    (-3, -1)
    """
    if axes is None:
        return tuple(range(-ndim, 0))
    try:
        found = tuple(operator.index(axis) for axis in (axes if np.iterable(axes) else (axes,)))
    except TypeError:
        raise ValueError(f"axes must be integers, got {axes!r}") from None
    if not found:
        raise ValueError("axes must name one axis at least")
    if not all(-ndim <= axis < ndim for axis in found):
        raise ValueError(f"axes {axes!r} are not all axes of {name}, which has {ndim} dimensions")
    found = tuple(axis if axis < 0 else axis - ndim for axis in found)
    if len(set(found)) < len(found):
        raise ValueError(f"axes {axes!r} name an axis of {name} twice")
    return found


def with_axes_last(array: Array, axes: tuple[int, ...]) -> Array:
    """View an array with `axes`, counted from the end, as its last ones."""
    others = (axis for axis in range(-array.ndim, 0) if axis not in axes)
    return array.transpose((*others, *axes))


def join_shapes(
    first: tuple[int, ...], second: tuple[int, ...], axes: int | Sequence[int] | None, n: int
) -> Shapes:
    """Return the shapes of a call from those of the two arrays, whose last `n` axes are an image's.

    Raises
    ------
    ValueError
        The images differ in shape or have no pixels, or the batches do not broadcast.
    """
    given = f"got {NAMES[0]} {first} and {NAMES[1]} {second}"
    if axes is None and first != second:
        raise ValueError(
            f"the images must have one shape, {given}; axes= tells batches from images"
        )
    image = first[len(first) - n :]
    if image != second[len(second) - n :]:
        raise ValueError(f"the images must have one shape along axes {axes!r}, {given} (axes last)")
    if 0 in image or not image:
        raise ValueError(f"images of shape {image} have no pixels to compare")
    try:
        batch = broadcast(first[: len(first) - n], second[: len(second) - n])
    except ValueError:
        raise ValueError(f"the batches do not broadcast: {given} (axes last)") from None
    return Shapes(batch, image)


def register(
    reference_image: ArrayLike,
    moving_image: ArrayLike,
    axes: int | Sequence[int] | None,
    search: Search,
) -> tuple[Any, Any, Any]:
    """Return shifts, errors and phases: numbers for two images, arrays for batches of them."""
    with use_stream_of(reference_image, moving_image):
        both = [
            arrays.read(image, name)
            for image, name in zip((reference_image, moving_image), NAMES, strict=True)
        ]
        at = [read_axes(axes, a.array.ndim, name) for a, name in zip(both, NAMES, strict=True)]
        for operand, own in zip(both, at, strict=True):
            operand.array = with_axes_last(operand.array, own)
        n = len(at[0])
        first, second = (tuple(operand.array.shape) for operand in both)
        shapes = join_shapes(first, second, axes, n)
        if both[0].device != both[1].device:
            raise ValueError(
                f"reference_image is on {both[0].device} and moving_image on "
                f"{both[1].device}; both must be on one device"
            )
        spectra = [_Spectra(operand, n, search) for operand in both]
        return _register_all(spectra[0], spectra[1], shapes, search)


class _Spectra:
    """The Fourier transforms of a batch of images, of which the last one made is kept."""

    def __init__(self, images: arrays.Operand, n: int, search: Search) -> None:
        self.images, self.search = images, search
        self.batch = images.array.shape[: images.array.ndim - n]
        self.kept: tuple[tuple[int, ...], Array] | None = None

    def at(self, index: tuple[int, ...]) -> Array:
        """Return the transform of the image that broadcasts to this place of the batch."""
        last = index[len(index) - len(self.batch) :]
        own = tuple(i if n > 1 else 0 for i, n in zip(last, self.batch, strict=True))
        if self.kept is None or self.kept[0] != own:
            self.kept = None  # its memory is free before the next one's is needed
            pixels = self.images.array[own] if own else self.images.array
            self.kept = own, _transform(pixels, self.images.dtype, self.search.space)
        return self.kept[1]


def _register_all(
    first: _Spectra, second: _Spectra, shapes: Shapes, search: Search
) -> tuple[Any, Any, Any]:
    shifts = np.empty(
        (*shapes.batch, len(shapes.image)), search.dtype_of_shifts(first.images.dtype)
    )
    errors, phases = np.empty(shapes.batch), np.empty(shapes.batch)
    for index in np.ndindex(shapes.batch):
        pair = f" (those at {index} of the batch)" if index else ""
        shifts[index], errors[index], phases[index] = _register(
            first.at(index), second.at(index), search, pair
        )
    return (shifts, errors, phases) if shapes.batch else (shifts, float(errors), float(phases))


def _is_single(dtype: str) -> bool:
    """Whether images of this dtype are transformed in single precision."""
    return dtypes.accumulator(dtype) in ("float32", "complex64")


def _transform(pixels: Array, dtype: str, space: str) -> Array:
    """Fourier transform of an image, or the one that was passed."""
    xp = arrays.array_module(pixels)
    single = _is_single(dtype)
    wide = dtypes.accumulator(dtype) if single else "float64"
    if dtypes.is_complex(dtype):
        wide = "complex64" if single else "complex128"
    pixels = dtypes.widen(pixels, dtype, wide, xp)
    if space == "fourier":
        return pixels.astype("complex64" if single else "complex128")
    return _fft(pixels, "fftn", xp)


def _fft(values: Array, name: str, xp: ModuleType) -> Array:
    """Transform all axes, by `fftn` or `ifftn`."""
    if xp is not np:
        return getattr(xp.fft, name)(values)
    import scipy.fft

    with scipy.fft.set_workers(thread_count()):
        return getattr(scipy.fft, name)(values)


@dataclass(frozen=True)
class _Peak:
    """The largest value of a cross-correlation, and where it is."""

    at: Array  # indices
    value: complex

    @classmethod
    def of(cls, correlation: Array, xp: ModuleType) -> _Peak:
        flat = int(xp.abs(correlation).argmax().item())
        at = np.array(np.unravel_index(flat, correlation.shape), np.float64)
        return cls(at, complex(correlation.reshape(-1)[flat].item()))


def _register(first: Array, second: Array, search: Search, pair: str) -> tuple[Array, float, float]:
    """Find the shift from the transforms of both images, with its error and phase.

    `pair` says in an error which images these are.
    """
    xp, factor = arrays.array_module(first), search.factor
    shape, real = first.shape, np.dtype(first.real.dtype)
    norms = [float((xp.abs(spectrum).astype("float64") ** 2).sum()) for spectrum in (first, second)]
    if not np.isfinite(norms).all():
        raise ValueError(
            f"the images{pair} hold NaN or infinite pixels; replace them first, as by their median"
        )
    eps, amplitude = float(np.finfo(real).eps), norms[0] * norms[1]
    least = 100 * eps  # scikit-image's: smaller products count by their magnitude
    if not _are_in_range(first, second, norms):
        first, second = _normed(first, norms[0]), _normed(second, norms[1])
        least *= eps / first.size  # what rounding errors of transforms are multiplied to
        amplitude = amplitude if search.phase else 1.0
    product = first * second.conj()
    if search.phase:
        product = product / xp.maximum(xp.abs(product), real.type(least))
    correlation = _fft(product, "ifftn", xp)
    peak = _Peak.of(correlation, xp)
    value, lengths = peak.value, np.array(shape, np.float64)
    shift = np.where(peak.at > np.trunc(lengths / 2), peak.at - lengths, peak.at)
    if factor == 1:
        amplitude /= first.size**2
    else:
        shift = np.round(shift * factor) / factor
        side = int(np.ceil(_REFINED * factor))
        middle = side // 2
        fine = _upsample(product, shift * factor - middle, side, factor, xp)
        peak = _Peak.of(fine, xp)
        value = peak.value
        shift = shift + (peak.at - middle) / factor
    shift = np.where(np.array(shape) == 1, 0, shift).astype(real)
    return shift, _error(value, amplitude), float(np.angle(value))


def _are_in_range(first: Array, second: Array, norms: Sequence[float]) -> bool:
    """Whether products of two spectra, and the squares of their sums, are ordinary numbers."""
    total = norms[0] ** 0.5 * norms[1] ** 0.5  # the sum of the products' magnitudes, at most
    single = first.dtype == second.dtype == np.complex64
    lowest, highest = _SINGLE_RANGE if single else _DOUBLE_RANGE
    return total == 0 or bool(lowest * first.size <= total <= highest)


def _normed(spectrum: Array, norm: float) -> Array:
    """A spectrum whose sum of squares was `norm`, and is 1."""
    wide = spectrum.astype("complex128")  # in which no spectrum is beyond the range
    return (wide * norm**-0.5).astype(spectrum.dtype)


def _upsample(spectrum: Array, start: Array, side: int, factor: int, xp: ModuleType) -> Array:
    """The inverse transform on a grid `factor` times as fine, from `start` on, without 1/n."""
    found = spectrum
    for n, first in zip(reversed(spectrum.shape), reversed(start), strict=True):
        places = (np.arange(side) + first)[:, None] * np.fft.fftfreq(n, factor)
        waves = np.exp(2j * np.pi * places).astype(spectrum.dtype)
        # The last axis is summed over; that of the places comes first.
        found = xp.tensordot(xp.asarray(waves), found, axes=(1, -1))
    return found


def _error(value: complex, amplitude: float) -> float:
    if amplitude == 0:
        return float("nan")  # an image of zeros differs from every other by all of its norm
    return float(abs(1 - abs(value) ** 2 / amplitude) ** 0.5)
