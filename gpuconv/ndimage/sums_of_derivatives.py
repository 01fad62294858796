"""Sums of derivatives, or of their squares, over all axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import arrays
from ..core.array_types import ArrayLike
from ..core.casting import cast
from ..core.options import Number
from ..core.overlap import may_share_memory
from ..core.streams import use_stream_of
from .arguments import Axes, Modes, Output, Reals, one_for_each, read_axes, with_each_axis
from .correlation import correlate1d
from .images import InputImage, Target, read_image, read_output
from .running import run
from .slabs import SLAB, cut
from .smoothing import gaussian_filter

__all__ = [
    "gaussian_gradient_magnitude",
    "gaussian_laplace",
    "generic_gradient_magnitude",
    "generic_laplace",
    "laplace",
]

Derivative = Callable[..., Any]


def generic_laplace(
    input: ArrayLike, derivative2: Derivative, output: Output = None, mode: Modes = "reflect",
    cval: Number = 0.0, extra_arguments: tuple[Any, ...] = (),
    extra_keywords: dict[str, Any] | None = None, *, axes: Axes = None,
) -> Any:  # fmt: skip
    """Sum second derivatives along all axes, as `scipy.ndimage.generic_laplace`.

    Parameters
    ----------
    input, output, cval
        As in `correlate1d`.
    derivative2 : callable
        ``derivative2(input, axis, output, mode, cval, *extra_arguments, **extra_keywords)``: fills
        `output` if that is an array, and returns the derivative; `output` may be a dtype.
    mode : str or sequence of str
        As in `correlate1d`, along each axis.
    extra_arguments, extra_keywords
        What else `derivative2` gets.
    axes : int or sequence of int, optional
        Which axes to differentiate along; all by default.

    Returns
    -------
    array
        Of `input`'s shape, library and device.

    Raises
    ------
    RuntimeError, ValueError
        As `scipy.ndimage.generic_laplace` raises them; what `derivative2` raises.

    Notes
    -----
    Cost: `derivative2` is called once for each axis.

    Examples
    --------
    >>> import numpy as np, gpuconv
    >>> def second(input, axis, output, mode, cval):
    ...     return gpuconv.ndimage.correlate1d(input, [1, -2, 1], axis, output, mode, cval)
    >>> gpuconv.ndimage.generic_laplace(np.eye(3), second, mode="constant")
    array([[-4.,  2.,  0.],
           [ 2., -4.,  2.],
           [ 0.,  2., -4.]])
    """
    return _sum_over_axes(
        False, input, derivative2, output, mode, cval, extra_arguments, extra_keywords, axes
    )


def generic_gradient_magnitude(
    input: ArrayLike, derivative: Derivative, output: Output = None, mode: Modes = "reflect",
    cval: Number = 0.0, extra_arguments: tuple[Any, ...] = (),
    extra_keywords: dict[str, Any] | None = None, *, axes: Axes = None,
) -> Any:  # fmt: skip
    """Take the length of the gradient, as `scipy.ndimage.generic_gradient_magnitude`.

    Parameters
    ----------
    input, output, mode, cval, extra_arguments, extra_keywords, axes
        As in `generic_laplace`.
    derivative : callable
        Called as `derivative2` of `generic_laplace`; what it returns is overwritten.

    Returns
    -------
    array
        Of `input`'s shape, library and device.

    Raises
    ------
    RuntimeError, ValueError
        As `scipy.ndimage.generic_gradient_magnitude` raises them; what `derivative` raises.

    Notes
    -----
    Cost: `derivative` is called once for each axis.

    Examples
    --------
    >>> import numpy as np, gpuconv
    >>> x = np.add.outer(3.0 * np.arange(4), 4.0 * np.arange(4))
    >>> def slope(input, axis, output, mode, cval):
    ...     return gpuconv.ndimage.correlate1d(input, [-0.5, 0, 0.5], axis, output, mode, cval)
    >>> gpuconv.ndimage.generic_gradient_magnitude(x, slope)[1:3, 1:3]
    array([[5., 5.],
           [5., 5.]])
    """
    return _sum_over_axes(
        True, input, derivative, output, mode, cval, extra_arguments, extra_keywords, axes
    )


def laplace(
    input: ArrayLike, output: Output = None, mode: Modes = "reflect", cval: Number = 0.0, *,
    axes: Axes = None,
) -> Any:  # fmt: skip
    """Sum second differences along all axes, as `scipy.ndimage.laplace`.

    Parameters
    ----------
    input, output, mode, cval, axes
        As in `generic_laplace`.

    Returns
    -------
    array
        Of `input`'s shape, library and device.

    Raises
    ------
    RuntimeError, ValueError
        As `scipy.ndimage.laplace` raises them.

    Notes
    -----
    One pass of three weights along each axis: O(n) for n pixels.

    Examples
    --------
    >>> import numpy as np, gpuconv
    >>> gpuconv.ndimage.laplace(np.eye(3), mode="constant")
    array([[-4.,  2.,  0.],
           [ 2., -4.,  2.],
           [ 0.,  2., -4.]])
    """
    return generic_laplace(input, _second_difference, output, mode, cval, axes=axes)


def _second_difference(
    input: ArrayLike, axis: int, output: Output, mode: str, cval: Number
) -> ArrayLike:
    return correlate1d(input, [1.0, -2.0, 1.0], axis, output, mode, cval)


def gaussian_laplace(
    input: ArrayLike, sigma: Reals, output: Output = None, mode: Modes = "reflect",
    cval: Number = 0.0, *, axes: Axes = None, **kwargs: Any,
) -> Any:  # fmt: skip
    """Sum second derivatives of a Gaussian along all axes, as `scipy.ndimage.gaussian_laplace`.

    Parameters
    ----------
    input, output, mode, cval, axes
        As in `generic_laplace`.
    sigma : float or sequence of float
        Standard deviations in pixels, along each of the axes.
    **kwargs
        What else `gaussian_filter` takes, such as `truncate`.

    Returns
    -------
    array
        Of `input`'s shape, library and device.

    Raises
    ------
    RuntimeError, ValueError
        As `scipy.ndimage.gaussian_laplace` raises them.

    Notes
    -----
    Cost: one `gaussian_filter` for each axis.

    Examples
    --------
    >>> import numpy as np, gpuconv
    >>> gpuconv.ndimage.gaussian_laplace(np.eye(3), 1).round(2)
    array([[-0.38,  0.04,  0.35],
           [ 0.04, -0.07,  0.04],
           [ 0.35,  0.04, -0.38]])
    """
    ndim = read_image(input).ndim
    sigmas = dict(with_each_axis(axes, ndim, sigma))
    # With 0 nothing is done along the other axes.
    all_sigmas = [sigmas.get(axis, 0) for axis in range(-ndim, 0)]
    return generic_laplace(
        input, _gaussian_derivative(2), output, mode, cval, (all_sigmas,), kwargs, axes=axes
    )


def gaussian_gradient_magnitude(
    input: ArrayLike, sigma: Reals, output: Output = None, mode: Modes = "reflect",
    cval: Number = 0.0, *, axes: Axes = None, **kwargs: Any,
) -> Any:  # fmt: skip
    """Take the length of the gradient of a smoothed image, as SciPy's function of this name.

    Parameters
    ----------
    input, output, mode, cval, axes
        As in `generic_laplace`.
    sigma : float or sequence of float
        Standard deviations in pixels, along every axis of `input`.
    **kwargs
        What else `gaussian_filter` takes, such as `truncate`.

    Returns
    -------
    array
        Of `input`'s shape, library and device.

    Raises
    ------
    RuntimeError, ValueError
        As `scipy.ndimage.gaussian_gradient_magnitude` raises them.

    Notes
    -----
    As in `scipy.ndimage.gaussian_gradient_magnitude`, `axes` says along which axes derivatives are
    taken; the image is smoothed along all.
    Cost: one `gaussian_filter` for each of `axes`.

    Examples
    --------
    >>> import numpy as np, gpuconv
    >>> x = np.add.outer(3.0 * np.arange(20), 4.0 * np.arange(20))
    >>> gpuconv.ndimage.gaussian_gradient_magnitude(x, 1)[10, 8:11].round(2)
    array([5., 5., 5.])
    """
    return generic_gradient_magnitude(
        input, _gaussian_derivative(1), output, mode, cval, (sigma,), kwargs, axes=axes
    )


def _gaussian_derivative(order: int) -> Derivative:
    def derivative(
        input: ArrayLike, axis: int, output: Output, mode: str, cval: Number, sigma: Reals,
        **keywords: Any,
    ) -> Any:  # fmt: skip
        orders = [order if at == axis else 0 for at in range(len(np.shape(input)))]
        return gaussian_filter(input, sigma, orders, output, mode, cval, **keywords)

    return derivative


def _sum_over_axes(
    squared: bool, input: ArrayLike, derivative: Derivative, output: Output, mode: Modes,
    cval: Number, arguments: tuple[Any, ...], keywords: dict[str, Any] | None, axes: Axes,
) -> ArrayLike:  # fmt: skip
    """Sum derivatives, or take the root of the sum of their squares."""
    image = read_image(input)
    found = read_axes(axes, image.ndim)
    if not found:
        return run(image, [], output)
    modes = dict(zip(found, one_for_each(mode, len(found)), strict=True))

    def differentiate(image: ArrayLike, axis: int, output: ArrayLike) -> ArrayLike:
        term = derivative(image, axis, output, modes[axis], cval, *arguments, **(keywords or {}))
        return output if term is None else term

    target = read_output(output, image, False)
    if image.deferred and target.array is None:
        return _sum_deferred(image.original, differentiate, found, target.dtype, squared)
    with use_stream_of(image.original, target.array):
        return _sum_in_place(image, differentiate, found, target, squared)


def _sum_in_place(
    image: InputImage,
    differentiate: Derivative,
    axes: tuple[int, ...],
    target: Target,
    squared: bool,
) -> ArrayLike:
    source = arrays.read(image.original, "input", swapped=True)
    original, result = image.original, target.array
    if result is None:
        memory = arrays.empty(image.shape, target.dtype, source.device, source)
        result = arrays.wrap(memory, target.dtype, source)
    total = arrays.read_out(result, image.shape, source.device).array
    if may_share_memory(source.array, total):
        original = arrays.wrap(source.array.copy(), source.dtype, source)
    xp = arrays.array_module(total)
    differentiate(original, axes[0], result)
    if squared:
        xp.multiply(total, total, out=total)
    for axis in axes[1:]:
        term = arrays.read(differentiate(original, axis, np.dtype(target.dtype)), "term").array
        if squared:
            xp.multiply(term, term, out=term)
        xp.add(total, term, out=total)
        del term  # before the next one takes as much memory
    if squared:
        for part in cut(total.shape, [False] * total.ndim, SLAB):
            total[part] = xp.sqrt(total[part], dtype=np.result_type(total.dtype, np.float32))
    return result


def _sum_deferred(
    image: ArrayLike, differentiate: Derivative, axes: tuple[int, ...], dtype: str, squared: bool
) -> ArrayLike:
    terms = (differentiate(image, axis, np.dtype(dtype)) for axis in axes)
    if not squared:
        return sum(terms, next(terms))
    return cast(sum(term * term for term in terms) ** 0.5, dtype)
