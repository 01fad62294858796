"""What SciPy's keywords mean: axes, one value for each axis, border modes, origins.

Wrong ones raise what `scipy.ndimage` raises.
"""

from __future__ import annotations

import numbers
import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.array_types import ArrayLike
from ..core.boundary import NDIMAGE_MODES, suggest_boundary

__all__ = [
    "Axes",
    "Integers",
    "Modes",
    "Output",
    "Reals",
    "check_origin",
    "count_from_end",
    "normalize_axis",
    "one_for_each",
    "padding",
    "read_axes",
    "read_cval",
    "read_mode",
    "with_each_axis",
]

# What SciPy's keywords may be: one value for all axes, or one for each.
Integers = int | Sequence[int]
Reals = float | np.generic | Sequence[float] | NDArray[Any]
Modes = str | Sequence[str]
Axes = int | Sequence[int] | None  # None is all of them
Output = ArrayLike  # or a dtype, or None


def read_mode(mode: object) -> str:
    """Return the name that `gpuconv.corr2d` has for the border that SciPy calls `mode`."""
    if not isinstance(mode, str) and isinstance(mode, Iterable):
        raise RuntimeError("A sequence of modes is not supported")
    if mode not in NDIMAGE_MODES:
        raise RuntimeError(
            f"boundary mode not supported: {mode!r}; allowed: {', '.join(NDIMAGE_MODES)}"
            + suggest_boundary(mode, NDIMAGE_MODES)
        )
    return NDIMAGE_MODES[mode]


def read_axes(axes: Any, ndim: int) -> tuple[int, ...]:
    """Return the axes to filter along, all of them for None, counted from the front."""
    if axes is None:
        return tuple(range(ndim))
    if np.isscalar(axes):
        axes = (axes,)
    elif not isinstance(axes, Iterable):
        raise ValueError("axes must be an integer, iterable of integers, or None")
    found = tuple(operator.index(axis) for axis in axes)
    for axis in found:
        if not -ndim <= axis < ndim:
            raise ValueError(f"specified axis: {axis} is out of range")
    found = tuple(axis % ndim for axis in found)
    if len(set(found)) != len(found):
        raise ValueError("axes must be unique")
    return found


def normalize_axis(axis: int, ndim: int) -> int:
    """Return an axis counted from the front; an AxisError is an IndexError and a ValueError."""
    return int(np.lib.array_utils.normalize_axis_index(operator.index(axis), ndim))


def count_from_end(axis: int, ndim: int) -> int:
    """Return an axis counted from the end, as a negative number; errors as `normalize_axis`."""
    return normalize_axis(axis, ndim) - ndim


def with_each_axis(axes: Axes, ndim: int, *values: Any) -> Iterator[tuple[Any, ...]]:
    """Iterate over axes, counted from the end, with what each of `values` is for the axis.

    Examples
    --------
    >>> list(with_each_axis(None, 2, 1.5, ["wrap", "nearest"]))
    [(-2, 1.5, 'wrap'), (-1, 1.5, 'nearest')]
    """
    found = read_axes(axes, ndim)
    each = (one_for_each(value, len(found)) for value in values)
    return zip((axis - ndim for axis in found), *each, strict=True)


def one_for_each(value: Any, count: int) -> list[Any]:
    """Return `count` values, one for each axis: those of a sequence, or the same one for all."""
    if isinstance(value, str) or not np.iterable(value):
        return [value] * count
    values = list(value)
    if len(values) != count:
        raise RuntimeError(
            f"sequence argument must have length equal to input rank: {len(values)} given for "
            f"{count} axes"
        )
    return values


def check_origin(origin: int, taps: int, name: str) -> None:
    """Refuse an origin that moves the output's pixel out of the window."""
    if not -(taps // 2) <= origin <= (taps - 1) // 2:
        raise ValueError(
            f"Invalid origin; origin must satisfy -({name} // 2) <= origin <= ({name}-1) // 2, "
            f"but it is {origin} for {taps} taps"
        )


def padding(taps: int, origin: int, flipped: bool, name: str) -> tuple[int, int]:
    """Return the pixels that windows reach before and after an axis.

    With an even number of taps the later one of the two middle ones lies on the output's pixel in
    a correlation, the earlier one in a convolution.
    """
    if flipped:
        origin = -origin if taps % 2 else -origin - 1
    check_origin(origin, taps, name)
    before = taps // 2 + origin
    return before, taps - 1 - before


def read_cval(cval: Any, complex_image: bool) -> float | complex:
    """Return the value beyond a constant border as a number."""
    if complex_image:
        return complex(cval)
    if np.iscomplexobj(cval) or (isinstance(cval, numbers.Complex) and complex(cval).imag):
        raise ValueError("Cannot provide a complex-valued cval when the input is real.")
    return float(cval)
