"""Gaussians with their derivatives, and means, along any number of axes."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from ..core.array_types import Array, ArrayLike
from ..core.options import Number
from .arguments import (
    Axes,
    Integers,
    Modes,
    Output,
    Reals,
    check_origin,
    count_from_end,
    padding,
    read_cval,
    read_mode,
    with_each_axis,
)
from .images import InputImage
from .passes import Pass, line_pass
from .repeated import run_filter

__all__ = ["gaussian_filter", "gaussian_filter1d", "uniform_filter", "uniform_filter1d"]

# Along axes with a smaller sigma nothing is done, as in SciPy.
_LEAST_SIGMA = 1e-15


def gaussian_filter1d(
    input: ArrayLike, sigma: float, axis: int = -1, order: int = 0, output: Output = None,
    mode: str = "reflect", cval: Number = 0.0, truncate: float = 4.0, *, radius: int | None = None,
) -> Any:  # fmt: skip
    """Smooth all lines along an axis with a Gaussian, as `scipy.ndimage.gaussian_filter1d`.

    Parameters
    ----------
    input, axis, output, mode, cval
        As in `correlate1d`.
    sigma : float
        Standard deviation in pixels.
    order : int
        Order of the derivative of the Gaussian.
    truncate : float
        At how many standard deviations the Gaussian is cut off.
    radius : int, optional
        Where it is cut off, in pixels; instead of `truncate`.

    Returns
    -------
    array
        Of `input`'s shape, library and device.

    Raises
    ------
    RuntimeError, ValueError
        As `scipy.ndimage.gaussian_filter1d` raises them.

    Notes
    -----
    Cost: that of `correlate1d` with ``2 * radius + 1`` weights.

    Examples
    --------
    >>> import gpuconv
    >>> gpuconv.ndimage.gaussian_filter1d([1.0, 2.0, 3.0, 4.0, 5.0], 1).round(3)
    array([1.427, 2.068, 3.   , 3.932, 4.573])
    """
    return run_filter(
        _make_gaussian_pass, input, output, sigma, axis, order, mode, cval, truncate, radius
    )


def _make_gaussian_pass(
    image: InputImage, sigma: float, axis: int, order: int, mode: str, cval: Number,
    truncate: float, radius: int | None,
) -> list[Pass]:  # fmt: skip
    along = count_from_end(axis, image.ndim)
    gaussian = _gaussian_pass(along, sigma, order, read_mode(mode), truncate, radius)
    return _with_cval(image, _without_transforms([gaussian], [order]), cval)


def gaussian_filter(
    input: ArrayLike, sigma: Reals, order: Integers = 0, output: Output = None,
    mode: Modes = "reflect", cval: Number = 0.0, truncate: float = 4.0, *,
    radius: Integers | None = None, axes: Axes = None,
) -> Any:  # fmt: skip
    """Smooth an image with a Gaussian along each axis, as `scipy.ndimage.gaussian_filter`.

    Parameters
    ----------
    input, output, cval
        As in `correlate1d`.
    sigma : float or sequence of float
        Standard deviations in pixels, along each axis.
    order, radius, truncate
        As in `gaussian_filter1d`; `order` and `radius` may differ along the axes.
    mode : str or sequence of str
        As in `correlate1d`, along each axis.
    axes : int or sequence of int, optional
        Which axes to smooth along; all by default.

    Returns
    -------
    array
        Of `input`'s shape, library and device.

    Raises
    ------
    RuntimeError, ValueError
        As `scipy.ndimage.gaussian_filter` raises them.

    Notes
    -----
    One pass along each axis. What is between the passes has the output's dtype, as in SciPy; passes
    along the last two axes are one where the output's dtype is a float.
    Cost: at most that of `gaussian_filter1d` along each axis.

    Examples
    --------
    >>> import numpy as np, gpuconv
    >>> gpuconv.ndimage.gaussian_filter(np.arange(50, step=2).reshape((5, 5)), sigma=1)
    array([[ 4,  6,  8,  9, 11],
           [10, 12, 14, 15, 17],
           [20, 22, 24, 25, 27],
           [29, 31, 33, 34, 36],
           [35, 37, 39, 40, 42]])
    """
    return run_filter(
        _make_gaussian_passes, input, output, sigma, order, mode, cval, truncate, radius, axes
    )


def _make_gaussian_passes(
    image: InputImage, sigma: Reals, order: Integers, mode: Modes, cval: Number, truncate: float,
    radius: Integers | None, axes: Axes,
) -> list[Pass]:  # fmt: skip
    each = [
        one
        for one in with_each_axis(axes, image.ndim, sigma, order, mode, radius)
        if one[1] > _LEAST_SIGMA
    ]
    passes = [
        _gaussian_pass(at, sigma, order, read_mode(mode), truncate, radius)
        for at, sigma, order, mode, radius in each
    ]
    passes = _without_transforms(passes, [order for _, _, order, _, _ in each])
    return _with_cval(image, passes, cval)


def _gaussian_pass(
    axis: int, sigma: float, order: int, boundary: str, truncate: float, radius: int | None
) -> Pass:
    if radius is None:
        radius = int(truncate * float(sigma) + 0.5)
    if not isinstance(radius, numbers.Integral) or radius < 0:
        raise ValueError(f"Radius must be a nonnegative integer, got {radius!r}.")
    radius = int(radius)
    # A derivative is that of the convolution, and passes correlate.
    weights = _gaussian_weights(float(sigma), order, radius)[::-1].copy()
    return line_pass(weights, axis, (radius, radius), boundary)


def _without_transforms(passes: list[Pass], orders: Iterable[int]) -> list[Pass]:
    """Let passes with an odd derivative among them be sums, in which its weights cancel.

    So the derivative of a constant is 0, which transforms make of neither these weights nor a
    constant that they smooth.
    """
    if not any(order % 2 for order in orders):
        return passes
    return [replace(one, method="direct") for one in passes]


@lru_cache(maxsize=64)
def _gaussian_weights(sigma: float, order: int, radius: int) -> Array:
    """Return a Gaussian of sum 1, or its derivative: the Gaussian times a polynomial in x."""
    if order < 0:
        raise ValueError(f"order must be non-negative, got {order}")
    x = np.arange(-radius, radius + 1)
    gaussian = np.exp(-0.5 / (sigma * sigma) * x**2)
    gaussian /= gaussian.sum()
    slope = np.array([-1.0 / (sigma * sigma), 0.0])  # of the exponent, as a polynomial in x
    factor = np.ones(1)
    for _ in range(order):
        factor = np.polyadd(np.polyder(factor), np.polymul(factor, slope))
    return gaussian * np.polyval(factor, x) if order else gaussian


def uniform_filter1d(
    input: ArrayLike, size: int, axis: int = -1, output: Output = None, mode: str = "reflect",
    cval: Number = 0.0, origin: int = 0,
) -> Any:  # fmt: skip
    """Take means along an axis, as `scipy.ndimage.uniform_filter1d`.

    Parameters
    ----------
    input, axis, output, mode, cval, origin
        As in `correlate1d`.
    size : int
        How many pixels each mean is of.

    Returns
    -------
    array
        Of `input`'s shape, library and device.

    Raises
    ------
    RuntimeError, ValueError
        As `scipy.ndimage.uniform_filter1d` raises them.

    Notes
    -----
    Cost, for n pixels: O(n) where `gpuconv.corr2d` takes box sums, otherwise at most O(n size).

    Examples
    --------
    >>> import gpuconv
    >>> gpuconv.ndimage.uniform_filter1d([2, 8, 0, 4, 1, 9, 9, 0], size=3)
    array([4, 3, 4, 1, 4, 6, 6, 3])
    """
    return run_filter(_make_uniform_pass, input, output, size, axis, mode, cval, origin)


def _make_uniform_pass(
    image: InputImage, size: int, axis: int, mode: str, cval: Number, origin: int
) -> list[Pass]:
    along = count_from_end(axis, image.ndim)
    mean = _uniform_pass(along, size, origin, read_mode(mode))
    return _with_cval(image, [mean], cval)


def uniform_filter(
    input: ArrayLike, size: Integers = 3, output: Output = None, mode: Modes = "reflect",
    cval: Number = 0.0, origin: Integers = 0, *, axes: Axes = None,
) -> Any:  # fmt: skip
    """Take means over rectangles, as `scipy.ndimage.uniform_filter`.

    Parameters
    ----------
    input, output, cval
        As in `correlate1d`.
    size : int or sequence of int
        How many pixels each mean is of, along each axis.
    mode, origin
        As in `correlate1d`, along each axis.
    axes : int or sequence of int, optional
        Which axes to go along; all by default.

    Returns
    -------
    array
        Of `input`'s shape, library and device.

    Raises
    ------
    RuntimeError, ValueError
        As `scipy.ndimage.uniform_filter` raises them.

    Notes
    -----
    One pass along each axis. What is between the passes has the output's dtype, as in SciPy; passes
    along the last two axes are one where the output's dtype is a float.
    Cost: at most that of `uniform_filter1d` along each axis.

    Examples
    --------
    >>> import numpy as np, gpuconv
    >>> gpuconv.ndimage.uniform_filter(np.eye(3), 3).round(2)
    array([[0.56, 0.33, 0.11],
           [0.33, 0.33, 0.33],
           [0.11, 0.33, 0.56]])
    """
    return run_filter(_make_uniform_passes, input, output, size, mode, cval, origin, axes)


def _make_uniform_passes(
    image: InputImage, size: Integers, mode: Modes, cval: Number, origin: Integers, axes: Axes
) -> list[Pass]:
    passes = [
        _uniform_pass(at, int(size), int(origin), read_mode(mode))
        for at, size, origin, mode in with_each_axis(axes, image.ndim, size, origin, mode)
        if size > 1
    ]
    if image.is_complex and not passes:  # a mean is a sum, of a single pixel too: it stays complex
        passes = [line_pass(np.ones(1), -1, (0, 0), "constant")]
    return _with_cval(image, passes, cval)


def _uniform_pass(axis: int, size: int, origin: int, boundary: str) -> Pass:
    if size < 1:
        raise RuntimeError(f"incorrect filter size: {size} is less than 1")
    # Here the origin moves windows by one more where their size is even; the range is the same.
    check_origin(origin, size, "size")
    pad = padding(size, origin, False, "size")
    return line_pass(np.ones(size), axis, pad, boundary, divisor=size)


def _with_cval(image: InputImage, passes: list[Pass], cval: Number) -> list[Pass]:
    """Put `cval` beyond the border of passes; it is not looked at where there are none."""
    if not passes:
        return passes
    fillvalue = read_cval(cval, image.is_complex)
    return [replace(each, fillvalue=fillvalue) for each in passes]
