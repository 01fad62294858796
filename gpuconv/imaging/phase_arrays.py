"""The shifts between images in memory, one pair of a batch after the other."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..core import arrays, dtypes
from ..core.arguments import broadcast
from ..core.array_types import Array, ArrayLike
from ..core.streams import use_stream_of
from .phase_peak import Spectra, find_shift, transform

__all__ = ["NAMES", "Search", "Shapes", "join_shapes", "read_axes", "register", "with_axes_last"]

# What errors call the two images.
NAMES = ("reference_image", "moving_image")


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
        given = [tuple(operand.array.shape) for operand in both]
        shapes = join_shapes(given[0], given[1], axes, n)
        if both[0].device != both[1].device:
            raise ValueError(
                f"reference_image is on {both[0].device} and moving_image on "
                f"{both[1].device}; both must be on one device"
            )
        half = search.space == "real" and not any(dtypes.is_complex(a.dtype) for a in both)
        first, second = (_TransformedImages(operand, n, search.space, half) for operand in both)
        return _register_all(first, second, shapes, search)


class _TransformedImages:
    """The Fourier transforms of a batch of images, of which the last one made is kept.

    With `half` those of real images without the half that follows from the rest.
    """

    def __init__(self, images: arrays.Operand, n: int, space: str, half: bool) -> None:
        self.images, self.space, self.half = images, space, half
        self.batch = images.array.shape[: images.array.ndim - n]
        self.kept: tuple[tuple[int, ...], Array] | None = None

    def at(self, index: tuple[int, ...]) -> Array:
        """Return the transform of the image that broadcasts to this place of the batch."""
        last = index[len(index) - len(self.batch) :]
        own = tuple(i if n > 1 else 0 for i, n in zip(last, self.batch, strict=True))
        if self.kept is None or self.kept[0] != own:
            self.kept = None  # its memory is free before the next one's is needed
            pixels = self.images.array[own] if own else self.images.array
            self.kept = own, _transform(pixels, self.images.dtype, self.space, self.half)
        return self.kept[1]


def _register_all(
    first: _TransformedImages, second: _TransformedImages, shapes: Shapes, search: Search
) -> tuple[Any, Any, Any]:
    shifts = np.empty(
        (*shapes.batch, len(shapes.image)), search.dtype_of_shifts(first.images.dtype)
    )
    errors, phases = np.empty(shapes.batch), np.empty(shapes.batch)
    for index in np.ndindex(shapes.batch):
        pair = f" (those at {index} of the batch)" if index else ""
        spectra = Spectra(first.at(index), second.at(index), shapes.image, first.half)
        shifts[index], errors[index], phases[index] = find_shift(
            spectra, search.factor, search.phase, pair
        )
    return (shifts, errors, phases) if shapes.batch else (shifts, float(errors), float(phases))


def _is_single(dtype: str) -> bool:
    """Whether images of this dtype are transformed in single precision."""
    return dtypes.accumulator(dtype) in ("float32", "complex64")


def _transform(pixels: Array, dtype: str, space: str, half: bool) -> Array:
    """Fourier transform of an image, or the one that was passed."""
    xp = arrays.array_module(pixels)
    single = _is_single(dtype)
    wide = dtypes.accumulator(dtype) if single else "float64"
    if dtypes.is_complex(dtype):
        wide = "complex64" if single else "complex128"
    pixels = dtypes.widen(pixels, dtype, wide, xp)
    if space == "fourier":
        return pixels.astype("complex64" if single else "complex128")
    return transform(pixels, "rfftn" if half else "fftn", xp)
