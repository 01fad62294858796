"""Correlations under the names and signatures of `scipy.signal` 1.17, on any library's arrays.

Replace ``from scipy import signal`` by ``from gpuconv import signal``. Results have SciPy's shapes
and dtypes (integers wrap around); how they are computed is chosen as in `gpuconv.corr2d`, so a NaN
or an infinity affects the outputs that read it only, and sums of integers are exact. What is not
here raises NotImplementedError and names SciPy's function.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from . import api
from .core import arrays, dtypes
from .core.axes import move_to_last, put_back
from .core.casting import cast

__all__ = ["convolve", "convolve2d", "correlate", "correlate2d", "fftconvolve", "oaconvolve"]

_MODES = ("full", "valid", "same")
_METHODS = ("auto", "direct", "fft")
_BOUNDARIES = {
    "fill": "constant",
    "pad": "constant",
    "wrap": "wrap",
    "circular": "wrap",
    "symm": "symmetric",
    "symmetric": "symmetric",
}


def correlate2d(
    in1: Any, in2: Any, mode: str = "full", boundary: str = "fill", fillvalue: Any = 0
) -> Any:
    """Correlate two 2-D arrays, as `scipy.signal.correlate2d`.

    Parameters
    ----------
    in1, in2 : array_like, 2-D
        NumPy, CuPy, torch (as part of the autograd graph), Dask (the result is lazy). `in2` is
        conjugated.
    mode : {"full", "valid", "same"}
        Size of the result. For "valid" one of the arrays must be as large as the other in both
        dimensions; it does not matter which.
    boundary : {"fill", "wrap", "symm"}
        What lies beyond the border of `in1`; "pad", "circular" and "symmetric" are the same.
    fillvalue : number
        The value there for "fill".

    Returns
    -------
    array
        Of dtype ``numpy.result_type(in1, in2)``.

    Raises
    ------
    ValueError
        As `scipy.signal.correlate2d` raises it.
    NotImplementedError
        Dtypes that only SciPy takes.

    Examples
    --------
    >>> import gpuconv
    >>> gpuconv.signal.correlate2d([[1, 2], [3, 4]], [[1, 0], [0, 1]])
    array([[1, 2, 0],
           [3, 5, 2],
           [0, 3, 4]])
    """
    return _planes("correlate2d", in1, in2, mode, boundary, fillvalue)


def convolve2d(
    in1: Any, in2: Any, mode: str = "full", boundary: str = "fill", fillvalue: Any = 0
) -> Any:
    """Convolve two 2-D arrays, as `scipy.signal.convolve2d`.

    Parameters
    ----------
    in1, in2, mode, boundary, fillvalue
        As in `correlate2d`; `in2` is not conjugated.

    Returns
    -------
    array
        As from `correlate2d`.

    Examples
    --------
    >>> import gpuconv
    >>> gpuconv.signal.convolve2d([[1, 2], [3, 4]], [[1, 0], [0, 1]])
    array([[1, 2, 0],
           [3, 5, 2],
           [0, 3, 4]])
    """
    return _planes("convolve2d", in1, in2, mode, boundary, fillvalue)


def correlate(in1: Any, in2: Any, mode: str = "full", method: str = "auto") -> Any:
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

    Examples
    --------
    >>> import gpuconv
    >>> gpuconv.signal.correlate([1, 2, 3], [0, 1, 0.5])
    array([0.5, 2. , 3.5, 3. , 0. ])
    """
    in1, in2 = _read("correlate", in1, in2)
    _check_method(method)
    _check_mode(mode)
    if in1.ndim == 0:
        return in1 * (in2.conj() if dtypes.is_complex(_dtype(in2)) else in2)
    if _must_swap(mode, in1.shape, in2.shape, range(in1.ndim)):
        swapped = _along_axes("correlate", in2, in1, mode, list(range(in1.ndim)), False)
        return _conjugate(_flip(swapped))
    return _along_axes("correlate", in1, in2, mode, list(range(in1.ndim)), False)


def convolve(in1: Any, in2: Any, mode: str = "full", method: str = "auto") -> Any:
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

    Examples
    --------
    >>> import gpuconv
    >>> gpuconv.signal.convolve([1, 2, 3], [0, 1, 0.5])
    array([0. , 1. , 2.5, 4. , 1.5])
    """
    in1, in2 = _read("convolve", in1, in2)
    _check_method(method)
    _check_mode(mode)
    if in1.ndim == 0:
        return in1 * in2
    if _must_swap(mode, in1.shape, in2.shape, range(in1.ndim)):
        in1, in2 = in2, in1
    return _along_axes("convolve", in1, in2, mode, list(range(in1.ndim)), True)


def fftconvolve(in1: Any, in2: Any, mode: str = "full", axes: Any = None) -> Any:
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

    Examples
    --------
    >>> import gpuconv
    >>> gpuconv.signal.fftconvolve([1, 2, 3], [0, 1, 0.5])
    array([0. , 1. , 2.5, 4. , 1.5])
    """
    return _floats("fftconvolve", in1, in2, mode, axes)


def oaconvolve(in1: Any, in2: Any, mode: str = "full", axes: Any = None) -> Any:
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

    Examples
    --------
    >>> import gpuconv
    >>> gpuconv.signal.oaconvolve([1, 2, 3], [0, 1, 0.5], mode="same")
    array([1. , 2.5, 4. ])
    """
    return _floats("oaconvolve", in1, in2, mode, axes)


def _planes(name: str, in1: Any, in2: Any, mode: str, boundary: str, fillvalue: Any) -> Any:
    in1, in2 = (_as_array(name, array) for array in (in1, in2))
    if in1.ndim != 2 or in2.ndim != 2:
        raise ValueError(f"{name} inputs must both be 2-D arrays")
    swapped = _must_swap(mode, in1.shape, in2.shape, range(2))
    _check_mode(mode)
    if boundary not in _BOUNDARIES:
        raise ValueError(
            "Acceptable boundary flags are 'fill', 'circular' (or 'wrap'), and 'symmetric' (or "
            f"'symm'); got {boundary!r}"
        )
    if swapped:
        in1, in2 = in2, in1
    in1, in2, dtype = _promote(in1, in2)
    flipped = name == "convolve2d"
    call = api.convolve2d if flipped else api.corr2d
    fill = _read_fillvalue(fillvalue, dtype)
    sums = call(in1, in2, mode=mode, boundary=_BOUNDARIES[boundary], fillvalue=fill)
    result = _finish(sums, dtype)
    return _flip(result) if swapped and not flipped else result


def _read_fillvalue(fillvalue: Any, dtype: str) -> Any:
    """Return the fill value in the result's dtype, as SciPy casts it."""
    value = np.asarray(fillvalue)
    if value.size != 1:
        raise ValueError("`fillvalue` must be scalar or an array with one element.")
    if value.dtype.kind not in "buifc" or (
        value.dtype.kind == "c" and not dtypes.is_complex(dtype)
    ):
        raise ValueError(
            f"could not cast `fillvalue` directly to the output type: {fillvalue!r} to {dtype}"
        )
    cast_value = value.reshape(()).astype(dtype)[()]
    return int(cast_value) if dtypes.is_integer(dtype) else cast_value


def _floats(name: str, in1: Any, in2: Any, mode: str, axes: Any) -> Any:
    in1, in2 = _read(name, in1, in2, "in1 and in2 should have the same dimensionality")
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
    if _must_swap(mode, in1.shape, in2.shape, both_long):
        in1, in2 = in2, in1
    if mode not in _MODES:
        raise ValueError(f"acceptable mode flags are 'valid', 'same', or 'full'; got {mode!r}")
    if both_long:
        in1, in2 = (cast(array, _float_dtype(_dtype(array))) for array in (in1, in2))
    return _along_axes(name, in1, in2, mode, both_long, True)


def _float_dtype(dtype: str) -> str:
    """Return the dtype that transforms of SciPy's are made in."""
    if dtypes.is_integer(dtype):
        return "float64"
    return "float32" if dtypes.is_half(dtype) else dtype


def _along_axes(
    name: str, in1: Any, in2: Any, mode: str, axes: list[int], flipped: bool
) -> Any:  # fmt: skip
    """Convolve or correlate along axes and broadcast along the others; `in1` is not smaller.

    Where one of the arrays has length 1 along an axis, that is broadcasting as well.
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
    in1, in2, dtype = _promote(in1, in2)
    if axes:
        sums = _call_along(in1, in2, mode, axes, flipped)
    else:
        in2 = in2 if flipped else _conjugate(in2)
        sums = in1 * in2
    result = _finish(sums, dtype)
    if mode == "same":  # the broadcast axes as well are cut to the middle
        cuts = ((n - m) // 2 for n, m in zip(result.shape, shape1, strict=True))
        result = result[tuple(slice(a, a + m) for a, m in zip(cuts, shape1, strict=True))]
    return result


def _call_along(in1: Any, in2: Any, mode: str, axes: list[int], flipped: bool) -> Any:
    # Counted from the end. An axis of length 1 joins a single one.
    at = [axis - in1.ndim for axis in axes]
    missing = len(at) < 2
    if missing:
        in1, in2 = in1[None], in2[None]
        at = [-in1.ndim, *at]
    pads = []
    for axis in at:
        taps = in2.shape[axis]
        pads.append(
            {"full": (taps - 1, taps - 1), "valid": (0, 0), "same": (taps // 2, (taps - 1) // 2)}[
                mode
            ]
        )
    moved1, moved2 = (move_to_last(array, (at[0], at[1])) for array in (in1, in2))
    call = api.convolve2d if flipped else api.corr2d
    sums = call(moved1, moved2, mode=(pads[0], pads[1]), axes=tuple((-2, -1)))
    result = put_back(sums, (at[0], at[1]))
    return result[0] if missing else result


def _read(name: str, in1: Any, in2: Any, message: str = "") -> tuple[Any, Any]:
    in1, in2 = (_as_array(name, array) for array in (in1, in2))
    if in1.ndim != in2.ndim:
        raise ValueError(
            (message or f"{name}'s inputs should have the same dimensionality")
            + f", got {in1.ndim} and {in2.ndim} dimensions"
        )
    return in1, in2


def _as_array(name: str, value: Any) -> Any:
    """Return an argument as an array of its own library."""
    known = ("torch", "Tensor"), ("dask.array", "Array"), ("cupy", "ndarray")
    if not any(arrays.is_instance_of(value, *each) for each in known):
        if isinstance(value, np.ma.MaskedArray):
            arrays.read(value, "in1")  # refuses it
        value = np.asarray(value)
        if value.dtype.kind not in "buifc" or value.dtype.itemsize > 8 * (
            2 if value.dtype.kind == "c" else 1
        ):
            raise NotImplementedError(
                f"gpuconv.signal.{name} takes no arrays of dtype {value.dtype}; use "
                f"scipy.signal.{name}"
            )
    return value


def _dtype(array: Any) -> str:
    return dtypes.name_of(array.dtype)


def _promote(in1: Any, in2: Any) -> tuple[Any, Any, str]:
    """Return arrays to correlate, and the dtype of the result."""
    names = _dtype(in1), _dtype(in2)
    if "bfloat16" in names:
        return in1, in2, dtypes.promote(*names)
    dtype = np.result_type(*names).name
    if all(dtypes.is_integer(name) for name in names) and not dtypes.is_integer(dtype):
        in1, in2 = cast(in1, dtype), cast(in2, dtype)  # uint64 and a signed one
    return in1, in2, dtype


def _finish(sums: Any, dtype: str) -> Any:
    """Convert sums to the result's dtype: those of integers wrap around, of bools are "any"."""
    return sums if _dtype(sums) == dtype else cast(sums, dtype)


def _flip(array: Any) -> Any:
    if arrays.is_instance_of(array, "torch", "Tensor"):
        return array.flip(tuple(range(array.ndim)))
    return array[(slice(None, None, -1),) * array.ndim]


def _conjugate(array: Any) -> Any:
    return array.conj() if dtypes.is_complex(_dtype(array)) else array


def _check_mode(mode: Any) -> None:
    if mode not in _MODES:
        raise ValueError(f"Acceptable mode flags are 'valid', 'same', or 'full'; got {mode!r}.")


def _check_method(method: Any) -> None:
    if method not in _METHODS:
        raise ValueError(f"Acceptable method flags are 'auto', 'direct', or 'fft'; got {method!r}.")


def _must_swap(mode: Any, shape1: Any, shape2: Any, axes: Any) -> bool:
    """Whether "valid" outputs are those of the second array's windows over the first."""
    if mode != "valid":
        return False
    if all(shape1[axis] >= shape2[axis] for axis in axes):
        return False
    if all(shape2[axis] >= shape1[axis] for axis in axes):
        return True
    raise ValueError(
        "For 'valid' mode, one must be at least as large as the other in every dimension, got "
        f"shapes {tuple(shape1)} and {tuple(shape2)}"
    )


def _read_axes(axes: Any, ndim: int) -> list[int]:
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


def __getattr__(name: str) -> Any:
    import scipy.signal

    if name in scipy.signal.__all__:
        raise NotImplementedError(f"gpuconv.signal has no {name}; use scipy.signal.{name}")
    raise AttributeError(f"module 'gpuconv.signal' has no attribute {name!r}")
