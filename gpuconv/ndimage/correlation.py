"""Correlations with weights that the caller gives."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import arrays, dtypes
from ..core.array_types import Array, ArrayLike
from ..core.options import Number
from .arguments import (
    Axes,
    Integers,
    Output,
    count_from_end,
    one_for_each,
    padding,
    read_axes,
    read_cval,
    read_mode,
)
from .factors import split_into_lines
from .images import InputImage
from .passes import Pass, line_pass
from .repeated import run_filter

__all__ = ["convolve", "convolve1d", "correlate", "correlate1d"]


def correlate1d(
    input: ArrayLike, weights: ArrayLike, axis: int = -1, output: Output = None,
    mode: str = "reflect", cval: Number = 0.0, origin: int = 0,
) -> Any:  # fmt: skip
    """Correlate all lines along an axis with 1-D weights, as `scipy.ndimage.correlate1d`.

    Parameters
    ----------
    input : array_like
        Image of any number of dimensions: NumPy, CuPy, torch, Dask (the result is lazy).
    weights : array_like
        Numbers, in one dimension. Complex ones are conjugated.
    axis : int
        Which axis the lines go along.
    output : dtype or array, optional
        Dtype of the result, or an array to write to, which may be `input`; of `input`'s dtype
        otherwise.
    mode : str
        What lies beyond the border: "reflect" (the edge pixel is repeated), "mirror" (it is not),
        "constant", "nearest", "wrap", "grid-mirror", "grid-constant", "grid-wrap".
    cval : number
        The value beyond the border for "constant".
    origin : int
        How far windows are shifted.

    Returns
    -------
    array
        Of `input`'s shape, library and device.

    Raises
    ------
    RuntimeError, ValueError, NotImplementedError
        As `scipy.ndimage` raises them; the last for what only SciPy has.

    Notes
    -----
    Sums are accumulated in float64, and cast to integers as C does (towards zero).
    Cost: O(n q) for n pixels and q weights, less where `gpuconv.corr2d` has a faster method.

    Examples
    --------
    >>> import gpuconv
    >>> gpuconv.ndimage.correlate1d([2, 8, 0, 4, 1, 9, 9, 0], weights=[1, 3])
    array([ 8, 26,  8, 12,  7, 28, 36,  9])
    """
    return run_filter(_make_line_pass, input, output, weights, axis, mode, cval, origin, False)


def convolve1d(
    input: ArrayLike, weights: ArrayLike, axis: int = -1, output: Output = None,
    mode: str = "reflect", cval: Number = 0.0, origin: int = 0,
) -> Any:  # fmt: skip
    """Convolve all lines along an axis with 1-D weights, as `scipy.ndimage.convolve1d`.

    Parameters
    ----------
    input, weights, axis, output, mode, cval, origin
        As in `correlate1d`; complex weights are not conjugated.

    Returns
    -------
    array
        As from `correlate1d`.

    Raises
    ------
    RuntimeError, ValueError, NotImplementedError
        As `correlate1d`.

    Notes
    -----
    Cost and accuracy are those of `correlate1d`.

    Examples
    --------
    >>> import gpuconv
    >>> gpuconv.ndimage.convolve1d([2, 8, 0, 4, 1, 9, 9, 0], weights=[1, 3])
    array([14, 24,  4, 13, 12, 36, 27,  0])
    """
    return run_filter(_make_line_pass, input, output, weights, axis, mode, cval, origin, True)


def _make_line_pass(
    image: InputImage, weights: ArrayLike, axis: int, mode: str, cval: Number, origin: int,
    flipped: bool,
) -> list[Pass]:  # fmt: skip
    fillvalue = read_cval(cval, image.is_complex)
    weights = _read_weights(weights, image)
    if weights.ndim != 1 or weights.shape[0] < 1:
        raise RuntimeError(f"no filter weights given: their shape is {tuple(weights.shape)}")
    along = count_from_end(axis, image.ndim)
    pad = padding(weights.shape[0], origin, flipped, "len(weights)")
    boundary = read_mode(mode)
    return [line_pass(weights, along, pad, boundary, fillvalue=fillvalue, flipped=flipped)]


def correlate(
    input: ArrayLike, weights: ArrayLike, output: Output = None, mode: str = "reflect",
    cval: Number = 0.0, origin: Integers = 0, *, axes: Axes = None,
) -> Any:  # fmt: skip
    """Correlate an image with weights, as `scipy.ndimage.correlate`.

    Parameters
    ----------
    input : array_like
        Image of any number of dimensions: NumPy, CuPy, torch, Dask (the result is lazy).
    weights : array_like
        As many dimensions as `input` or `axes` has. Along more than two axes they must be a product
        of weights along one axis each, and along two at most once. Complex ones are conjugated.
    output : dtype or array, optional
        As in `correlate1d`.
    mode, cval
        As in `correlate1d`.
    origin : int or sequence of int
        How far windows are shifted, along each axis.
    axes : int or sequence of int, optional
        Which axes of `input` the weights go along; all by default.

    Returns
    -------
    array
        Of `input`'s shape, library and device.

    Raises
    ------
    NotImplementedError
        Weights along more than two axes that are no product of weights along one or two, which
        `scipy.ndimage.correlate` takes.
    RuntimeError, ValueError
        As `scipy.ndimage.correlate` raises them.

    Notes
    -----
    Sums are accumulated and cast as in `correlate1d`. Cost: O(n p q) for n pixels and weights of
    shape (p, q), less where `gpuconv.corr2d` has a faster method. Weights along more than two axes
    are summed along one after the other; what is between is kept as float64, or as int64 where all
    is integers, in an array of the image's size.

    Examples
    --------
    >>> import numpy as np, gpuconv
    >>> gpuconv.ndimage.correlate(np.arange(9).reshape(3, 3), [[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    array([[ 4,  7, 10],
           [13, 16, 19],
           [22, 25, 28]])
    """
    return run_filter(
        _make_plane_pass, input, output, "correlate", weights, mode, cval, origin, axes
    )


def convolve(
    input: ArrayLike, weights: ArrayLike, output: Output = None, mode: str = "reflect",
    cval: Number = 0.0, origin: Integers = 0, *, axes: Axes = None,
) -> Any:  # fmt: skip
    """Convolve an image with weights, as `scipy.ndimage.convolve`.

    Parameters
    ----------
    input, weights, output, mode, cval, origin, axes
        As in `correlate`; complex weights are not conjugated.

    Returns
    -------
    array
        As from `correlate`.

    Raises
    ------
    NotImplementedError
        Weights along more than two axes that are no product of weights along one or two, which
        `scipy.ndimage.convolve` takes.
    RuntimeError, ValueError
        As `scipy.ndimage.convolve` raises them.

    Notes
    -----
    Cost and accuracy are those of `correlate`.

    Examples
    --------
    >>> import numpy as np, gpuconv
    >>> gpuconv.ndimage.convolve(np.eye(3), [[1, 2, 3]], mode="constant")
    array([[2., 3., 0.],
           [1., 2., 3.],
           [0., 1., 2.]])
    """
    return run_filter(
        _make_plane_pass, input, output, "convolve", weights, mode, cval, origin, axes
    )


def _make_plane_pass(
    image: InputImage, name: str, weights: ArrayLike, mode: str, cval: Number, origin: Integers,
    axes: Axes,
) -> list[Pass]:  # fmt: skip
    found = read_axes(axes, image.ndim)
    weights = _read_weights(weights, image)
    flipped = name == "convolve"
    weights, pads = _along_all_axes(weights, found, image, origin, flipped)
    boundary, fillvalue = read_mode(mode), read_cval(cval, image.is_complex)
    lines: dict[int, Array] = {}
    if sum(n > 1 for n in weights.shape) > 2:
        found_lines = split_into_lines(weights) if isinstance(weights, np.ndarray) else None
        if found_lines is None:
            raise NotImplementedError(
                f"gpuconv.ndimage.{name} takes weights along more than two axes only as NumPy's "
                "arrays that are a product of weights along one axis each, and along two at most "
                f"once; got others of shape {tuple(weights.shape)}; use scipy.ndimage.{name}"
            )
        lines, weights = found_lines
    passes = []
    for axis, line in lines.items():
        passes.append(
            line_pass(
                line, axis - image.ndim, pads[axis], boundary, fillvalue=fillvalue,
                flipped=flipped, is_partial=True,
            )
        )  # fmt: skip
        # Beyond the other borders lies what this pass makes of pixels of this value.
        with np.errstate(invalid="ignore"):  # of infinity times 0
            fillvalue = fillvalue * (line if flipped else line.conj()).sum()
    at = [axis - image.ndim for axis in range(image.ndim) if weights.shape[axis] > 1]
    # Two axes in any case, of which an image of fewer dimensions gets the missing ones.
    rows, columns = sorted((at + [axis for axis in (-1, -2) if axis not in at])[:2])
    shape = [weights.shape[axis] if -axis <= image.ndim else 1 for axis in (rows, columns)]
    pad = [
        pads[axis] if -axis <= image.ndim and axis + image.ndim not in lines else (0, 0)
        for axis in (rows, columns)
    ]
    planes = Pass(
        weights.reshape(shape), (rows, columns), (pad[0], pad[1]), boundary, fillvalue, flipped,
        of_integers=bool(lines) and dtypes.is_integer(image.dtype),
    )  # fmt: skip
    return [*passes, planes]


def _along_all_axes(
    weights: ArrayLike, axes: tuple[int, ...], image: InputImage, origin: Integers, flipped: bool
) -> tuple[ArrayLike, list[tuple[int, int]]]:
    """Return weights with a dimension for each axis of the image, and their padding."""
    if weights.ndim != len(axes) or 0 in weights.shape:
        raise RuntimeError(
            f"weights.ndim ({weights.ndim}) must match len(axes) ({len(axes)}), "
            f"and no dimension be empty; the shape is {tuple(weights.shape)}"
        )
    origins = one_for_each(origin, len(axes))
    if len(axes) < image.ndim:  # SciPy looks at the order of the axes for the origins only
        by_axis = dict(zip(axes, origins, strict=True))
        origins = [by_axis.get(axis, 0) for axis in range(image.ndim)]
        lengths = iter(weights.shape)
        shape = [next(lengths) if axis in axes else 1 for axis in range(image.ndim)]
        weights = weights.reshape(shape)
    pads = [
        padding(length, int(shift), flipped, "weights.shape[k]")
        for length, shift in zip(weights.shape, origins, strict=True)
    ]
    return weights, pads


def _read_weights(weights: ArrayLike, image: InputImage) -> ArrayLike:
    """Return weights as float64 or complex128: as they lie, or for eager images by NumPy."""
    if arrays.is_instance_of(weights, "torch", "Tensor"):
        arrays.refuse_sparse(weights, "weights")
        if image.deferred and arrays.is_instance_of(image.original, "torch", "Tensor"):
            return weights.cdouble() if weights.is_complex() else weights.double()
        weights = arrays.read(weights, "weights").array
    lazy = [arrays.is_instance_of(a, "dask.array", "Array") for a in (weights, image.original)]
    if lazy == [True, False]:
        raise TypeError("weights is a Dask array, but input is not; pass weights.compute()")
    arrays.refuse_annotated(weights, "weights")
    if not hasattr(weights, "dtype") or not hasattr(weights, "astype"):
        weights = np.asarray(weights)
    return weights.astype("complex128" if np.dtype(weights.dtype).kind == "c" else "float64")
