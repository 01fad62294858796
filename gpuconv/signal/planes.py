"""Two 2-D arrays, with what lies beyond the border."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import api
from ..core import dtypes
from ..core.array_types import ArrayLike
from ..core.boundary import SIGNAL_BOUNDARIES, suggest_boundary
from ..core.options import Number
from .arguments import check_mode, finish, flip, must_swap, promote, read_both

__all__ = ["convolve2d", "correlate2d"]


def correlate2d(
    in1: ArrayLike, in2: ArrayLike, mode: str = "full", boundary: str = "fill",
    fillvalue: Number = 0,
) -> Any:  # fmt: skip
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

    Notes
    -----
    Cost: that of `gpuconv.corr2d` with `in2` as the kernel, or with the smaller array for "valid".

    Examples
    --------
    >>> import gpuconv
    >>> gpuconv.signal.correlate2d([[1, 2], [3, 4]], [[1, 0], [0, 1]])
    array([[1, 2, 0],
           [3, 5, 2],
           [0, 3, 4]])
    """
    return _sum_planes("correlate2d", in1, in2, mode, boundary, fillvalue)


def convolve2d(
    in1: ArrayLike, in2: ArrayLike, mode: str = "full", boundary: str = "fill",
    fillvalue: Number = 0,
) -> Any:  # fmt: skip
    """Convolve two 2-D arrays, as `scipy.signal.convolve2d`.

    Parameters
    ----------
    in1, in2, mode, boundary, fillvalue
        As in `correlate2d`; `in2` is not conjugated.

    Returns
    -------
    array
        As from `correlate2d`.

    Raises
    ------
    ValueError, NotImplementedError
        As `correlate2d`.

    Notes
    -----
    Cost as of `correlate2d`.

    Examples
    --------
    >>> import gpuconv
    >>> gpuconv.signal.convolve2d([[1, 2], [3, 4]], [[1, 0], [0, 1]])
    array([[1, 2, 0],
           [3, 5, 2],
           [0, 3, 4]])
    """
    return _sum_planes("convolve2d", in1, in2, mode, boundary, fillvalue)


def _sum_planes(
    name: str, in1: ArrayLike, in2: ArrayLike, mode: str, boundary: str, fillvalue: Number
) -> Any:
    in1, in2 = read_both(name, in1, in2)
    if in1.ndim != 2 or in2.ndim != 2:
        raise ValueError(f"{name} inputs must both be 2-D arrays")
    swapped = must_swap(mode, in1.shape, in2.shape, range(2))
    check_mode(mode)
    if not isinstance(boundary, str) or boundary not in SIGNAL_BOUNDARIES:
        raise ValueError(
            "Acceptable boundary flags are 'fill', 'circular' (or 'wrap'), and 'symmetric' (or "
            f"'symm'); got {boundary!r}{suggest_boundary(boundary, SIGNAL_BOUNDARIES)}"
        )
    if swapped:
        in1, in2 = in2, in1
    in1, in2, dtype = promote(in1, in2)
    flipped = name == "convolve2d"
    call = api.convolve2d if flipped else api.corr2d
    is_filled = SIGNAL_BOUNDARIES[boundary] == "constant" and mode != "valid"
    fill = _read_fillvalue(fillvalue, dtype) if is_filled else 0
    sums = call(in1, in2, mode=mode, boundary=SIGNAL_BOUNDARIES[boundary], fillvalue=fill)
    result = finish(sums, dtype)
    return flip(result, range(2)) if swapped and not flipped else result


def _read_fillvalue(fillvalue: Number, dtype: str) -> Any:
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
