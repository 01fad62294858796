"""Normalised correlation and convolution: missing pixels take no part in the mean."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from ..core import arrays, dtypes
from ..core.annotated import fill_masked, is_lazy_masked
from ..core.array_types import ArrayLike
from ..core.axes import LAST, axes_of, move_to_last, put_back, warn_of_channels
from ..core.options import Mode, Number, PlaneAxes, Steps
from .missing_pixels import MissingRules, check_fits, check_mask_dtype, read_rules

__all__ = ["normalized_convolve2d", "normalized_corr2d"]


def normalized_corr2d(
    X: ArrayLike,
    K: ArrayLike,
    *,
    mask: ArrayLike = None,
    weights: ArrayLike = None,
    nan_policy: str = "omit",
    min_weight: float = 0.0,
    undefined: Number = math.nan,
    preserve_nan: bool = False,
    normalize_kernel: bool = True,
    mode: Mode = "valid",
    boundary: str = "constant",
    fillvalue: Number | None = None,
    stride: Steps = 1,
    dilation: Steps = 1,
    axes: PlaneAxes = LAST,
    method: str = "auto",
    backend: str = "auto",
    dtype: Any = None,
    out: ArrayLike = None,
) -> Any:
    """Weighted mean of the pixels that are there: a correlation of images with missing pixels.

    ``Y = sum(K * W * X) / sum(K * W)`` over every window, where W is 0 where a pixel is missing and
    1 (or its weight) elsewhere. Windows, stride and dilation are those of `corr2d`.

    Parameters
    ----------
    X : array_like, shape (..., h, w)
        Images, as in `corr2d`; also `numpy.ma.MaskedArray`, or a Dask array of such, whose mask is
        added to `mask`.
    K : array_like, shape (..., p, q)
        Kernels, whose weights must not add up to zero. They may be negative.
    mask : array_like of bool, optional
        True where a pixel is missing, as in `numpy.ma` and astropy. Of the shape of X, or of a
        shape that broadcasts to it and has as many rows and columns.
    weights : array_like, optional
        How much each pixel counts: finite and >= 0, 0 where it is missing. Shapes as for `mask`.
    nan_policy : {"omit", "propagate", "raise"}
        What a NaN pixel is: missing, a pixel like others (which makes its windows NaN), or an
        error.
    min_weight : float
        Share of the kernel's weight, from 0 to 1, that must be there: ``sum(|K| * W)`` must not be
        less, beyond rounding, than `min_weight` times ``sum(|K|)``. Otherwise the result is
        `undefined`. With 1 it is so wherever a missing pixel has a weight that is not 0.
    undefined : number
        Result of windows of which less than `min_weight` is there, or whose weights ``K * W`` add
        up to zero: above all where every pixel is missing.
    preserve_nan : bool
        Whether missing pixels stay missing: the outputs whose windows are centred on one are
        `undefined`.
    normalize_kernel : bool
        With False results are multiplied by ``sum(K)``: they are those of `corr2d` where nothing is
        missing, and scaled up to that where something is.
    mode, boundary, stride, dilation, axes
        As in `corr2d`. A `mask` or `weights` of as many dimensions as X lies as X does; beside an X
        of more dimensions, one of two has rows and columns.
    fillvalue : number or None
        Value of a constant border. None: the border is missing, so that edges do not darken.
    method : {"auto", "direct", "separable", "box", "fft"}
        As in `corr2d`. Outputs of which so little is there that transforms or factors of a higher
        rank would not be accurate are summed directly.
    backend : {"auto", "reference", "cpu", "cuda"}
        As in `corr2d`.
    dtype : dtype, optional
        Dtype of the result: to nearest even, saturating for integers, NaN to 0.
    out : array, optional
        As in `corr2d`.

    Returns
    -------
    array, shape (..., r, s)
        Of X's library and device, or `out` itself. Its dtype is float64 if X, K and `weights` are
        integers or bools, otherwise their ``numpy.result_type``.

    Raises
    ------
    ValueError
        Weights K that add up to zero, a mask of another shape, NaN with ``nan_policy="raise"``,
        integers whose sums may not fit into 64 bits, names or numbers that make no sense.
    TypeError
        A mask that is not boolean; dtypes that are not supported.
    BackendUnavailable, MemoryError
        As `corr2d`.

    Notes
    -----
    H. Knutsson and C.-F. Westin, "Normalized and differential convolution", CVPR 1993. Results are
    those of ``astropy.convolution.convolve(nan_treatment="interpolate")`` with the same
    `normalize_kernel`, for kernels of odd sides (which astropy flips, as `normalized_convolve2d`
    does).

    Sums over integers are exact, with masks and integer `weights` too. For floats a number is
    subtracted from the pixels before and added to the result after: the one nearest to zero, if
    all have one sign. So an image that is constant where it is not missing has that constant as
    its result, to the last bit. An all-missing image is `undefined` everywhere. Results have the
    same bits for any number of threads; those of floats may change in the last bits with the crop.

    It takes two to four times as long as `corr2d`, more with the smallest images and kernels, and
    about twice as long where few pixels are missing (a twentieth, with 9x9 taps). On a CPU the
    image is read in parts that fit into the cache (larger ones for transforms), each with its mask:
    in parts without a missing pixel the weights are not summed again. On a GPU NaN and masked
    pixels among floats take one launch by the methods direct (up to 32x32 taps) and separable (up
    to 64x64), which "auto" prefers there; images that are masked or converted are copied for that,
    up to 1 GiB. There the number is subtracted from each tile by itself: the last bits of a result
    may change with where its tile begins.
    Tensors that require grad get it for X, K and `weights`. Dask arrays give a lazy Dask array,
    whose blocks see only the pixels that they read.

    Examples
    --------
    >>> import numpy as np, gpuconv
    >>> X = np.array([[1.0, 1.0, 4.0], [1.0, np.nan, 4.0], [1.0, 1.0, 4.0]])
    >>> gpuconv.normalized_corr2d(X, np.ones((3, 3)), mode="same")
    array([[1.   , 2.2  , 3.   ],
           [1.   , 2.125, 2.8  ],
           [1.   , 2.2  , 3.   ]])
    """
    rules = read_rules(nan_policy, min_weight, undefined, normalize_kernel, preserve_nan)
    options = dict(
        mode=mode, boundary=boundary, fillvalue=fillvalue, stride=stride, dilation=dilation,
        method=method, backend=backend, dtype=dtype,
    )  # fmt: skip
    return _call(X, K, mask, weights, rules, axes, out, False, options)


def normalized_convolve2d(
    X: ArrayLike,
    K: ArrayLike,
    *,
    mask: ArrayLike = None,
    weights: ArrayLike = None,
    nan_policy: str = "omit",
    min_weight: float = 0.0,
    undefined: Number = math.nan,
    preserve_nan: bool = False,
    normalize_kernel: bool = True,
    mode: Mode = "valid",
    boundary: str = "constant",
    fillvalue: Number | None = None,
    stride: Steps = 1,
    dilation: Steps = 1,
    axes: PlaneAxes = LAST,
    method: str = "auto",
    backend: str = "auto",
    dtype: Any = None,
    out: ArrayLike = None,
) -> Any:
    """Normalised convolution: `normalized_corr2d` with the kernel flipped in both axes.

    Parameters
    ----------
    X : array_like, shape (..., h, w)
        Images, as in `normalized_corr2d`.
    K : array_like, shape (..., p, q)
        Kernels. Complex ones are not conjugated.
    mode : {"valid", "same", "full"}, int, (int, int) or ((int, int), (int, int))
        As in `convolve2d`.
    mask, weights, nan_policy, min_weight, undefined, preserve_nan, normalize_kernel
        As in `normalized_corr2d`.
    boundary, fillvalue, stride, dilation, axes, method, backend, dtype, out
        As in `normalized_corr2d`.

    Returns
    -------
    array, shape (..., r, s)
        As from `normalized_corr2d`.

    Raises
    ------
    ValueError, TypeError, BackendUnavailable, MemoryError
        As `normalized_corr2d`.

    Notes
    -----
    Cost and accuracy are those of `normalized_corr2d`.

    Examples
    --------
    >>> import numpy as np, gpuconv
    >>> X = np.array([[1.0, np.nan, 7.0]])
    >>> gpuconv.normalized_convolve2d(X, [[1.0, 1.0, 2.0]])
    array([[3.]])
    """
    rules = read_rules(nan_policy, min_weight, undefined, normalize_kernel, preserve_nan)
    options = dict(
        mode=mode, boundary=boundary, fillvalue=fillvalue, stride=stride, dilation=dilation,
        method=method, backend=backend, dtype=dtype,
    )  # fmt: skip
    return _call(X, K, mask, weights, rules, axes, out, True, options)


def _call(
    X: ArrayLike, K: ArrayLike, mask: ArrayLike, weights: ArrayLike, rules: MissingRules,
    axes: PlaneAxes, out: ArrayLike, flipped: bool, options: dict[str, Any],
) -> ArrayLike:  # fmt: skip
    if axes is LAST and weights is None and out is None:
        from .normalized_prepared import repeat_single_image

        result = repeat_single_image(X, K, mask, rules, flipped, options)
        if result is not None:
            return result
    for array, name in ((K, "K"), (mask, "mask"), (weights, "weights"), (out, "out")):
        filled = fill_masked(array, name)
        if filled is not None:
            raise TypeError(
                f"{name} is a masked array, whose mask would be lost: only X may be one; pass "
                f"{filled}"
            )
    if arrays.is_instance_of(X, "xarray", "DataArray"):
        from ..adapters import xarray as adapter

        call = partial(_call_with_data, rules=rules, flipped=flipped)
        others = dict(
            mask=adapter.data_like(mask, X, "mask"),
            weights=adapter.data_like(weights, X, "weights"),
        )
        return adapter.correlate(
            call, X, K, flipped=flipped, axes=axes, out=out, stacklevel=4, **others, **options
        )
    K = _data_of(K)
    mask, weights = _with_shape(mask, "mask"), _with_shape(weights, "weights")
    own = None
    if isinstance(X, np.ma.MaskedArray):
        own, X = np.ma.getmaskarray(X), X.data
    elif is_lazy_masked(X):
        from dask.array import ma

        own, X = ma.getmaskarray(X), ma.getdata(X)
    if axes is LAST:
        warn_of_channels(getattr(X, "shape", ()), stacklevel=3)
        mask = _join_masks(own, mask)
        return _dispatch(X, K, mask, weights, rules, out, flipped, options)
    X, at = axes_of(axes, X)
    mask, weights = (_move_like(a, X, at) for a in (mask, weights))
    mask = _join_masks(None if own is None else move_to_last(own, at), mask)
    target = None if out is None else move_to_last(*axes_of(at, out, "out"))
    Y = _dispatch(move_to_last(X, at), K, mask, weights, rules, target, flipped, options)
    return put_back(Y, at) if out is None else out


def _call_with_data(
    X: ArrayLike, K: ArrayLike, *, mask: ArrayLike, weights: ArrayLike, axes: PlaneAxes,
    out: ArrayLike, rules: MissingRules, flipped: bool, **options: Any,
) -> ArrayLike:  # fmt: skip
    return _call(X, K, mask, weights, rules, axes, out, flipped, options)


def _data_of(array: ArrayLike) -> ArrayLike:
    return array.data if arrays.is_instance_of(array, "xarray", "DataArray") else array


def _with_shape(array: ArrayLike, name: str) -> ArrayLike:
    """Read nested lists, whose axes are moved like those of arrays, and take a DataArray's data."""
    array = _data_of(array)
    arrays.refuse_annotated(array, name)
    return array if array is None or hasattr(array, "shape") else arrays.read(array, name).array


def _join_masks(own: ArrayLike, mask: ArrayLike) -> ArrayLike:
    """Join the mask of a masked array with the one given; rows and columns are last in both."""
    if own is None or mask is None:
        return own if mask is None else mask
    if arrays.is_instance_of(own, "dask.array", "Array") and isinstance(mask, type(own)):
        dtype, device = dtypes.name_of(mask.dtype, "mask"), arrays.HOST
    else:
        given = arrays.read(mask, "mask")
        dtype, device, mask = given.dtype, given.device, given.array
    check_mask_dtype(dtype)
    check_fits(tuple(mask.shape), own.shape, "mask")
    if device != arrays.HOST:
        raise ValueError(f"X is a masked array on the host and mask on {device}")
    return own | mask


def _move_like(array: ArrayLike, X: ArrayLike, at: tuple[int, int]) -> ArrayLike:
    """Move the axes of a mask as those of X, unless it has rows and columns only."""
    if array is None or not hasattr(array, "shape") or len(array.shape) != len(X.shape):
        return array
    return array if len(array.shape) == 2 and at == LAST else move_to_last(array, at)


def _dispatch(
    X: ArrayLike, K: ArrayLike, mask: ArrayLike, weights: ArrayLike, rules: MissingRules,
    out: ArrayLike, flipped: bool, options: dict[str, Any],
) -> ArrayLike:  # fmt: skip
    if arrays.is_instance_of(X, "dask.array", "Array"):
        from . import normalized_dask

        return normalized_dask.normalize(X, K, mask, weights, rules, out, flipped, options)
    if _in_graph(X) or _in_graph(K) or _in_graph(weights):
        from . import normalized_torch

        return normalized_torch.normalize(X, K, mask, weights, rules, out, flipped, options)
    from . import normalized_arrays

    return normalized_arrays.normalize(X, K, mask, weights, rules, out, flipped, options)


def _in_graph(array: ArrayLike) -> bool:
    """Whether an array is a tensor that autograd follows."""
    if not arrays.is_instance_of(array, "torch", "Tensor"):
        return False
    import torch

    return bool(array.requires_grad) and torch.is_grad_enabled()
