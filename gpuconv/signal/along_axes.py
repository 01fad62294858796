"""Two arrays along one or two axes, with zeros beyond the border."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import api
from ..core import dtypes
from ..core.array_types import ArrayLike
from ..core.axes import move_to_last, put_back
from ..core.casting import cast
from ..core.errors import suggest
from .arguments import (
    MODES,
    check_mode,
    conjugate,
    dtype_of,
    finish,
    flip,
    must_swap,
    promote,
    read,
)

__all__ = ["convolve", "correlate", "fftconvolve", "oaconvolve"]

_METHODS = ("auto", "direct", "fft")


def correlate(in1: ArrayLike, in2: ArrayLike, mode: str = "full", method: str = "auto") -> Any:
    """Correlate two arrays of one or two dimensions, as `scipy.signal.correlate`.

    Parameters
    ----------
    in1, in2 : array_like
        Of as many dimensions each; in at most two of them both are longer than 1. NumPy, CuPy,
        torch (as part of the autograd graph), Dask (the result is lazy). `in2` is conjugated.
    mode : {"full", "valid", "same"}
        Size of the result. For "valid" one of the arrays must be as large as the other in every
        dimension; it does not matter which.
    method : {"auto", "direct", "fft"}
        Checked only: what is fastest is taken, as in `gpuconv.corr2d`.

    Returns
    -------
    array
        Of dtype ``numpy.result_type(in1, in2)``.

    Raises
    ------
    ValueError
        As `scipy.signal.correlate` raises it.
    NotImplementedError
        More than two dimensions, or dtypes that only SciPy takes.

    Notes
    -----
    Cost: that of `gpuconv.corr2d` with `in2` as the kernel, or with the smaller array for "valid".

    Examples
    --------
    >>> import gpuconv
    >>> gpuconv.signal.correlate([1, 2, 3], [0, 1, 0.5])
    array([0.5, 2. , 3.5, 3. , 0. ])
    """
    in1, in2 = read("correlate", in1, in2)
    _check_method(method)
    check_mode(mode)
    if in1.ndim == 0:
        return in1 * conjugate(in2)
    if must_swap(mode, in1.shape, in2.shape, range(in1.ndim)):
        swapped = _sum_along("correlate", in2, in1, mode, list(range(in1.ndim)), False)
        return conjugate(flip(swapped, range(swapped.ndim)))
    return _sum_along("correlate", in1, in2, mode, list(range(in1.ndim)), False)


def convolve(in1: ArrayLike, in2: ArrayLike, mode: str = "full", method: str = "auto") -> Any:
    """Convolve two arrays of one or two dimensions, as `scipy.signal.convolve`.

    Parameters
    ----------
    in1, in2, mode, method
        As in `correlate`; `in2` is not conjugated.

    Returns
    -------
    array
        As from `correlate`.

    Raises
    ------
    ValueError, NotImplementedError
        As `correlate`.

    Notes
    -----
    Cost as of `correlate`.

    Examples
    --------
    >>> import gpuconv
    >>> gpuconv.signal.convolve([1, 2, 3], [0, 1, 0.5])
    array([0. , 1. , 2.5, 4. , 1.5])
    """
    in1, in2 = read("convolve", in1, in2)
    _check_method(method)
    check_mode(mode)
    if in1.ndim == 0:
        return in1 * in2
    if must_swap(mode, in1.shape, in2.shape, range(in1.ndim)):
        in1, in2 = in2, in1
    return _sum_along("convolve", in1, in2, mode, list(range(in1.ndim)), True)


def fftconvolve(
    in1: ArrayLike, in2: ArrayLike, mode: str = "full", axes: int | Sequence[int] | None = None
) -> Any:
    """Convolve two arrays along one or two axes, as `scipy.signal.fftconvolve`.

    Parameters
    ----------
    in1, in2 : array_like
        As in `convolve`; along the other axes they are broadcast.
    mode : {"full", "valid", "same"}
        As in `convolve`.
    axes : int or sequence of int, optional
        Which axes to convolve along; all by default.

    Returns
    -------
    array
        Of a float or complex dtype; integers count as float64.

    Raises
    ------
    ValueError
        As `scipy.signal.fftconvolve` raises it.
    NotImplementedError
        More than two axes, or dtypes that only SciPy takes.

    Notes
    -----
    Fourier transforms are used where they are the fastest way, as in `gpuconv.corr2d`.
    Cost as of `convolve`.

    Examples
    --------
    >>> import gpuconv
    >>> gpuconv.signal.fftconvolve([1, 2, 3], [0, 1, 0.5])
    array([0. , 1. , 2.5, 4. , 1.5])
    """
    return _convolve_as_floats("fftconvolve", in1, in2, mode, axes)


def oaconvolve(
    in1: ArrayLike, in2: ArrayLike, mode: str = "full", axes: int | Sequence[int] | None = None
) -> Any:
    """Convolve two arrays along one or two axes, as `scipy.signal.oaconvolve`.

    Parameters
    ----------
    in1, in2, mode, axes
        As in `fftconvolve`.

    Returns
    -------
    array
        As from `fftconvolve`.

    Raises
    ------
    ValueError, NotImplementedError
        As `fftconvolve`.

    Notes
    -----
    The same as `fftconvolve`, at the same cost.

    Examples
    --------
    >>> import gpuconv
    >>> gpuconv.signal.oaconvolve([1, 2, 3], [0, 1, 0.5], mode="same")
    array([1. , 2.5, 4. ])
    """
    return _convolve_as_floats("oaconvolve", in1, in2, mode, axes)


def _convolve_as_floats(
    name: str, in1: ArrayLike, in2: ArrayLike, mode: str, axes: int | Sequence[int] | None
) -> Any:
    in1, in2 = read(name, in1, in2)
    if in1.ndim == 0:
        return in1 * in2
    if 0 in in1.shape or 0 in in2.shape:
        return in1.reshape(-1)[:0] * 1.0
    found = _read_axes(axes, in1.ndim)
    both_long = [axis for axis in found if in1.shape[axis] != 1 and in2.shape[axis] != 1]
    for axis in range(in1.ndim):
        lengths = in1.shape[axis], in2.shape[axis]
        if axis not in both_long and lengths[0] != lengths[1] and 1 not in lengths:
            raise ValueError(
                f"incompatible shapes for in1 and in2: {tuple(in1.shape)} and {tuple(in2.shape)}"
            )
    if must_swap(mode, in1.shape, in2.shape, both_long):
        in1, in2 = in2, in1
    if mode not in MODES:
        raise ValueError(
            f"acceptable mode flags are 'valid', 'same', or 'full'; got {mode!r}"
            + suggest(mode, MODES)
        )
    if both_long:
        in1, in2 = (cast(array, _float_dtype(dtype_of(array))) for array in (in1, in2))
    return _sum_along(name, in1, in2, mode, both_long, True)


def _float_dtype(dtype: str) -> str:
    """Return the dtype that transforms of SciPy's are made in."""
    if dtypes.is_integer(dtype):
        return "float64"
    return "float32" if dtypes.is_half(dtype) else dtype


def _sum_along(
    name: str, in1: ArrayLike, in2: ArrayLike, mode: str, axes: list[int], flipped: bool
) -> Any:
    """Convolve or correlate along `axes` and broadcast along the others.

    An axis along which one of the arrays has length 1 is broadcast, too. With "valid", `in1` is the
    longer one along all of them.
    """
    shape1, shape2 = tuple(in1.shape), tuple(in2.shape)
    if 0 in shape1 or 0 in shape2:
        raise ValueError(f"{name} of arrays without elements: {shape1} and {shape2}")
    axes = [axis for axis in axes if shape1[axis] > 1 and shape2[axis] > 1]
    if len(axes) > 2:
        raise NotImplementedError(
            f"gpuconv.signal.{name} goes along at most two axes, got shapes {shape1} and "
            f"{shape2}; use scipy.signal.{name}"
        )
    in1, in2, dtype = promote(in1, in2)
    if not flipped:  # correlating one number with an array gives the array in reverse order
        in2 = flip(in2, [axis for axis in range(in2.ndim) if axis not in axes])
    if axes:
        sums = _call_corr2d(in1, in2, mode, axes, flipped)
    else:
        sums = in1 * (in2 if flipped else conjugate(in2))
    result = finish(sums, dtype)
    if mode == "same":  # broadcasting may have made the result larger than `in1`
        cuts = ((n - m) // 2 for n, m in zip(result.shape, shape1, strict=True))
        result = result[tuple(slice(a, a + m) for a, m in zip(cuts, shape1, strict=True))]
    return result


def _call_corr2d(in1: ArrayLike, in2: ArrayLike, mode: str, axes: list[int], flipped: bool) -> Any:
    at = [axis - in1.ndim for axis in axes]
    is_line = len(at) == 1
    if is_line:
        in1, in2 = in1[None], in2[None]
        at = [-in1.ndim, *at]
    rows, columns = at
    pad = _padding(in2.shape[rows], mode), _padding(in2.shape[columns], mode)
    in1, in2 = (move_to_last(array, (rows, columns)) for array in (in1, in2))
    call = api.convolve2d if flipped else api.corr2d
    result = put_back(call(in1, in2, mode=pad, axes=(-2, -1)), (rows, columns))
    return result[0] if is_line else result


def _padding(taps: int, mode: str) -> tuple[int, int]:
    """Return the padding before and after; "same" is the middle of what "full" gives."""
    if mode == "valid":
        return 0, 0
    return (taps - 1, taps - 1) if mode == "full" else (taps // 2, (taps - 1) // 2)


def _check_method(method: object) -> None:
    if method not in _METHODS:
        raise ValueError(
            f"Acceptable method flags are 'auto', 'direct', or 'fft'; got {method!r}"
            + suggest(method, _METHODS)
        )


def _read_axes(axes: int | Sequence[int] | None, ndim: int) -> list[int]:
    if axes is None:
        return list(range(ndim))
    try:
        found = [operator.index(axis) for axis in (axes if np.iterable(axes) else (axes,))]
    except TypeError:
        raise ValueError(f"axes must be a scalar or iterable of integers, got {axes!r}") from None
    if not found:
        raise ValueError("when provided, axes cannot be empty")
    if any(not -ndim <= axis < ndim for axis in found):
        raise ValueError(f"axes exceeds dimensionality of input: {axes!r} of {ndim}")
    found = [axis % ndim for axis in found]
    if len(set(found)) < len(found):
        raise ValueError(f"all axes must be unique, got {axes!r}")
    return found
