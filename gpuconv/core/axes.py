"""Which two axes of an array are rows and columns, where they are not the last two."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from . import arrays
from .array_types import ArrayLike
from .options import PlaneAxes

__all__ = [
    "LAST",
    "axes_of",
    "call_along",
    "has_channels_last",
    "move_lengths_to_last",
    "move_to_last",
    "put_back",
    "read_axes",
    "warn_of_channels",
]

LAST = (-2, -1)
# A last axis of at most _CHANNELS_MOST elements, after two of at least _SIDE_LEAST, is taken for
# channels.
_CHANNELS_MOST, _SIDE_LEAST = 4, 16


def read_axes(axes: PlaneAxes, ndim: int | None, name: str = "X") -> tuple[int, int]:
    """Check the axes of rows and columns, and count them from the end.

    `ndim` is None where the number of dimensions is not known yet: then only axes that are counted
    from the end are taken.

    Examples
    --------
    >>> read_axes((0, 1), 3)
    (-3, -2)
    """
    try:
        row, column = (operator.index(axis) for axis in axes)
    except (TypeError, ValueError):
        raise ValueError(f"axes must be two integers, got {axes!r}") from None
    if ndim is None:
        if row >= 0 or column >= 0:
            raise ValueError(f"axes {axes!r} must be negative while torch.fx records the call")
        ndim = max(-row, -column)
    return _count_from_the_end((row, column), ndim, name)


@lru_cache(maxsize=256)
def _count_from_the_end(axes: tuple[int, int], ndim: int, name: str) -> tuple[int, int]:
    """Count two axes of `ndim` from the end, if they are there."""
    if not all(-ndim <= axis < ndim for axis in axes):
        raise ValueError(f"axes {axes!r} are not all axes of {name}, which has {ndim} dimensions")
    row, column = (axis if axis < 0 else axis - ndim for axis in axes)
    if row == column:
        raise ValueError(f"axes {axes!r} are the same axis of {name}")
    return row, column


def axes_of(
    axes: PlaneAxes, array: ArrayLike, name: str = "X"
) -> tuple[ArrayLike, tuple[int, int]]:
    """Return an array whose axes can be moved, and its axes of rows and columns."""
    if isinstance(array, np.ndarray):  # first, because here a microsecond counts
        return array, read_axes(axes, array.ndim, name)
    if arrays.is_traced(array):
        return array, read_axes(axes, None, name)
    if not hasattr(array, "shape"):
        array = np.asarray(array)
    return array, read_axes(axes, len(array.shape), name)


def move_to_last(array: ArrayLike, axes: tuple[int, int]) -> ArrayLike:
    """View an array with rows and columns last; `axes` are counted from the end."""
    return _move(array, axes, LAST)


def move_lengths_to_last(shape: tuple[int, ...], axes: tuple[int, int]) -> tuple[int, ...]:
    """Return the shape of what `move_to_last` returns."""
    if axes == LAST:
        return shape
    rest = (n for axis, n in enumerate(shape) if axis - len(shape) not in axes)
    return (*rest, shape[axes[0]], shape[axes[1]])


def put_back(array: ArrayLike, axes: tuple[int, int]) -> ArrayLike:
    """View an array whose rows and columns are last with these at their places again."""
    return _move(array, LAST, axes)


def _move(array: ArrayLike, source: tuple[int, int], target: tuple[int, int]) -> ArrayLike:
    if isinstance(array, np.ndarray):
        return array.transpose(_order(array.ndim, source, target))
    if arrays.is_traced(array) or arrays.is_instance_of(array, "torch", "Tensor"):
        return array.movedim(source, target)
    order = _order(len(array.shape), source, target)
    if hasattr(array, "transpose"):
        return array.transpose(order)
    return array.__array_namespace__().permute_dims(array, order)


@lru_cache(maxsize=256)
def _order(ndim: int, source: tuple[int, int], target: tuple[int, int]) -> tuple[int, ...]:
    """Return the order of axes that has `source` at the places of `target`."""
    order = [axis for axis in range(ndim) if axis - ndim not in source]
    for place, axis in sorted(zip((t % ndim for t in target), source, strict=True)):
        order.insert(place, axis % ndim)
    return tuple(order)


def call_along(
    axes: PlaneAxes, X: ArrayLike, out: ArrayLike,
    call: Callable[[ArrayLike, ArrayLike], ArrayLike],
) -> ArrayLike:  # fmt: skip
    """Call `call(X, out)` with rows and columns last, and return its result with them put back."""
    X, at = axes_of(axes, X)
    if at == LAST:
        return call(X, out)
    target = None if out is None else move_to_last(*axes_of(at, out, "out"))
    result = call(move_to_last(X, at), target)
    return put_back(result, at) if out is None else out


def has_channels_last(shape: Sequence[int]) -> bool:
    """Whether the last of an image's dimensions looks like the channels of a photo."""
    if len(shape) < 3:
        return False
    height, width, channels = shape[-3:]
    return channels <= _CHANNELS_MOST and min(height, width) >= _SIDE_LEAST


def warn_of_channels(shape: Sequence[int], stacklevel: int) -> bool:
    """Warn once if the last of an image's dimensions looks like the channels of a photo.

    Returns whether it does.
    """
    found = has_channels_last(shape)
    if found:
        width, channels = shape[-2:]
        warnings.warn(
            f"X of shape {tuple(shape)} is taken for images of {width} x {channels} pixels; if its "
            "last dimension holds channels, pass axes=(0, 1) (or axes=(-3, -2)), and axes=(-2, -1) "
            "if it does not",
            UserWarning,
            stacklevel=stacklevel + 1,
        )
    return found
