"""`corr2d` and `convolve2d`: their docstrings and keywords, and which library arrays are of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack, overload

from numpy.typing import NDArray

from . import call_cache, engine
from .core import arrays
from .core.array_types import ArrayLike
from .core.axes import LAST, call_along, warn_of_channels
from .core.errors import incomplete_out_error
from .core.options import Mode, Number, Options, PlaneAxes, Steps

__all__ = ["call", "convolve2d", "corr2d"]


# For type checkers: of NumPy arrays and nested lists comes a NumPy array.
@overload
def corr2d(
    X: NDArray[Any] | Sequence[Any], K: ArrayLike, **options: Unpack[Options]
) -> NDArray[Any]: ...
@overload
def corr2d(X: ArrayLike, K: ArrayLike, **options: Unpack[Options]) -> Any: ...
def corr2d(
    X: ArrayLike,
    K: ArrayLike,
    *,
    mode: Mode = "valid",
    boundary: str = "constant",
    fillvalue: Number = 0,
    stride: Steps = 1,
    dilation: Steps = 1,
    axes: PlaneAxes = LAST,
    method: str = "auto",
    backend: str = "auto",
    precision: str | None = None,
    dtype: Any = None,
    out: ArrayLike = None,
    max_device_bytes: int | None = None,
) -> Any:
    """Two-dimensional cross-correlation of images with kernels.

    ``Y[i, j] = sum over a, b of X[i*s + a*d, j*s + b*d] * K[a, b]`` with stride s and dilation d,
    and X padded as `mode` and `boundary` say. It is a generalised ufunc of signature
    ``(h,w),(p,q)->(r,s)``: all leading dimensions broadcast.

    Parameters
    ----------
    X : array_like, shape (..., h, w)
        Images: NumPy, CuPy, torch (CPU or CUDA), Dask (the result is lazy, too), xarray (the result
        has the coordinates of the windows' centres), anything with DLPack, ``__array__`` or
        ``__cuda_array_interface__``, or nested lists; any strides; never written. They may have no
        rows or columns: ``mode="same"`` then gives as many, and padding wide enough for the kernel
        gives sums over it, if `boundary` is "constant".
    K : array_like, shape (..., p, q)
        Kernels. Complex kernels are conjugated, as in `scipy.signal.correlate2d`.
    mode : {"valid", "same", "full"}, int, (int, int) or ((int, int), (int, int))
        Placement as `scipy.signal.correlate2d` has it, or padding in pixels: on all sides,
        ``(rows, columns)``, or ``((top, bottom), (left, right))``.
    boundary : {"constant", "edge", "reflect", "symmetric", "wrap"}
        What the padding holds, by the names of `numpy.pad`. Aliases: "fill" and "symm"
        (scipy.signal), "nearest" and "mirror" (ndimage), "replicate" and "extend" ("edge"),
        "circular" and "periodic" ("wrap"). ndimage's "reflect" is "symmetric" here. Padding wider
        than the image repeats the pattern.
    fillvalue : number
        Value of a constant border, rounded to the dtype that sums are accumulated in: 1e300 is
        infinity in float32. Integer sums take integers only.
    stride, dilation : int or (int, int)
        Distance between windows, and between the taps inside one. These, the padding and the sides
        of the padded image are at most ``2**62 - 1``.
    axes : (int, int)
        Which axes of X are rows and columns: ``(0, 1)`` for a photo of shape (h, w, channels). The
        result has them at the same places, counted from the end. Without it, an X whose last
        dimension looks like channels gets a warning.
    method : {"auto", "direct", "separable", "box", "fft", "tensor"}
        How; `auto` takes the cheapest (see `plan`). Explicit means exactly that. "box" takes
        kernels whose weights are all equal. "tensor" (matrix products on a GPU's tensor cores, from
        compute capability 8.0) takes X and K both float16 or both bfloat16, with stride and
        dilation 1.
    backend : {"auto", "reference", "cpu", "cuda"}
        Where; `auto` computes where X lies.
    precision : {None, "tf32"}
        "tf32": float32 X and K are rounded to 11 significant bits and multiplied by tensor cores,
        or the call is refused. Gradients of it are those of a call without.
    dtype : dtype, optional
        Dtype the finished sums are converted to: to nearest even, saturating for integers, NaN
        to 0. It does not change what they are accumulated in.
    out : array, optional
        Where to write; of the result's shape, on X's device, not overlapping X or K. Its dtype
        acts as `dtype`. After Ctrl-C it is written in part; after a MemoryError the message says
        how many of its rows are complete.
    max_device_bytes : int, optional
        Only for host arrays with ``backend="cuda"``, which pass through the GPU in strips: how
        much of its memory the strips on their way, and what computes them, may take. Half of what
        is free unless given; beyond 192 MiB strips do not grow.

    Returns
    -------
    array, shape (..., r, s)
        Of X's library and device, or `out` itself. Integers and bools give int64 (uint64 if both
        are unsigned), everything else ``numpy.result_type(X, K)``. ``r = (h + top + bottom -
        ((p - 1) * dilation + 1)) // stride + 1``, s likewise.

    Raises
    ------
    ValueError
        Shapes, names or numbers that make no sense; a method that cannot compute this.
    TypeError
        Dtypes that are not supported, or not integers where integers are needed.
    BackendUnavailable
        A backend asked for by name that does not run here.
    MemoryError
        A result larger than the memory; the message says how much is needed.

    Notes
    -----
    Cost, for a result of r x s: direct O(r s p q), separable O(r s rank (p + q)), box O(r s), fft
    O(r s log N) for tiles of N pixels, tensor O(r s p (q + 7)). Errors are bounded as the page
    "Accuracy and reproducibility" of the documentation says. Sums of float16 and bfloat16 are
    accumulated in float32, of float32 in float32, of float64 in float64, of integers exactly,
    modulo 2**64. A weight that is NaN or infinite counts wherever its tap lies, on padding too,
    where 0 times it is NaN (as in SciPy). The formula is that of Zhang et al., *Dive into Deep
    Learning*, chapter "Convolutions for Images", with the padding of `numpy.pad`.

    Examples
    --------
    >>> import gpuconv
    >>> gpuconv.corr2d([[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[0, 1], [2, 3]])
    array([[19, 25],
           [37, 43]])
    """
    options = mode, boundary, fillvalue, stride, dilation, method, backend, precision, dtype
    if axes is not LAST:
        return _along(axes, False, X, K, out, max_device_bytes, options)
    return call(X, K, out, max_device_bytes, False, options)


@overload
def convolve2d(
    X: NDArray[Any] | Sequence[Any], K: ArrayLike, **options: Unpack[Options]
) -> NDArray[Any]: ...
@overload
def convolve2d(X: ArrayLike, K: ArrayLike, **options: Unpack[Options]) -> Any: ...
def convolve2d(
    X: ArrayLike,
    K: ArrayLike,
    *,
    mode: Mode = "valid",
    boundary: str = "constant",
    fillvalue: Number = 0,
    stride: Steps = 1,
    dilation: Steps = 1,
    axes: PlaneAxes = LAST,
    method: str = "auto",
    backend: str = "auto",
    precision: str | None = None,
    dtype: Any = None,
    out: ArrayLike = None,
    max_device_bytes: int | None = None,
) -> Any:
    """Two-dimensional convolution: `corr2d` with the kernel flipped in both axes.

    ``Y[i, j] = sum over a, b of X[i*s + (p-1-a)*d, j*s + (q-1-b)*d] * K[a, b]`` with stride s and
    dilation d.

    Parameters
    ----------
    X : array_like, shape (..., h, w)
        Images, as in `corr2d`.
    K : array_like, shape (..., p, q)
        Kernels. Complex ones are not conjugated.
    mode : {"valid", "same", "full"}, int, (int, int) or ((int, int), (int, int))
        As in `corr2d`; names place as `scipy.signal.convolve2d` does.
    boundary, fillvalue, stride, dilation, axes, method, backend, precision, dtype, out
        As in `corr2d`.
    max_device_bytes
        As in `corr2d`.

    Returns
    -------
    array, shape (..., r, s)
        As from `corr2d`.

    Raises
    ------
    ValueError, TypeError, BackendUnavailable, MemoryError
        As `corr2d`.

    Notes
    -----
    Cost and accuracy are those of `corr2d`. The formula is that of convolution in Zhang et al.,
    *Dive into Deep Learning*, "From Fully Connected Layers to Convolutions", cut off at the border.

    Examples
    --------
    >>> import gpuconv
    >>> gpuconv.convolve2d([[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[0, 1], [2, 3]])
    array([[ 5, 11],
           [23, 29]])
    """
    options = mode, boundary, fillvalue, stride, dilation, method, backend, precision, dtype
    if axes is not LAST:
        return _along(axes, True, X, K, out, max_device_bytes, options)
    return call(X, K, out, max_device_bytes, True, options)


def _along(
    axes: PlaneAxes, flipped: bool, X: ArrayLike, K: ArrayLike, out: ArrayLike,
    max_device_bytes: int | None, options: tuple[Any, ...],
) -> Any:  # fmt: skip
    """`call` on an X whose rows and columns are these axes."""
    if _is_data_array(X):
        return _data_array(X, K, axes, out, max_device_bytes, flipped, options)

    def call_moved(X: ArrayLike, out: ArrayLike) -> Any:
        return call(X, K, out, max_device_bytes, flipped, options, warn=False)

    return call_along(axes, X, out, call_moved)


def call(
    X: ArrayLike, K: ArrayLike, out: ArrayLike, max_device_bytes: int | None, flipped: bool,
    options: tuple[Any, ...], warn: bool = True,
) -> Any:  # fmt: skip
    """Call `corr2d`, or `convolve2d` if `flipped`, on arrays of any library.

    `options` are the values of `engine.OPTIONS`; `warn` is for images that look like photos.
    """
    try:
        return _dispatch(X, K, out, max_device_bytes, flipped, options, warn)
    except MemoryError as error:
        if out is None:
            raise
        raise incomplete_out_error(error, tuple(getattr(out, "shape", ()))) from error


def _dispatch(
    X: ArrayLike, K: ArrayLike, out: ArrayLike, max_device_bytes: int | None, flipped: bool,
    options: tuple[Any, ...], warn: bool,
) -> Any:  # fmt: skip
    key = call_cache.key_of(X, K, out, flipped, (*options, max_device_bytes))
    if key is not None:
        result = call_cache.repeat(key, X, K, out, flipped)
        if result is not None:
            return result
    if _is_data_array(X):
        return _data_array(X, K, LAST, out, max_device_bytes, flipped, options)
    if _is_data_array(K):
        K = K.data
    keywords = dict(zip(engine.OPTIONS, options, strict=True))
    if arrays.is_traced(X) or arrays.is_traced(K):
        keywords |= {"out": out, "max_device_bytes": max_device_bytes}
        return _record(convolve2d if flipped else corr2d, X, K, **keywords)
    if warn:
        warn_of_channels(getattr(X, "shape", ()), stacklevel=4)
    if _is_tensor(X):
        if _is_dask(K):
            arrays.read(K, "K")  # refuses it
        if flipped:
            keywords["flipped"] = True
        return _tensors(X, K, out, max_device_bytes, **keywords)
    if _is_dask(X):
        if max_device_bytes is not None:
            raise ValueError("max_device_bytes= is for host arrays, but X is a Dask array")
        from .adapters import dask as adapter

        return adapter.corr2d(X, K, out=out, flipped=flipped, **keywords)
    return engine.correlate_new(X, K, out, max_device_bytes, flipped, options, key)


def _is_data_array(obj: object) -> bool:
    return arrays.is_instance_of(obj, "xarray", "DataArray")


def _data_array(
    X: ArrayLike, K: ArrayLike, axes: PlaneAxes, out: ArrayLike, max_device_bytes: int | None,
    flipped: bool, options: tuple[Any, ...],
) -> Any:  # fmt: skip
    from .adapters import xarray as adapter

    return adapter.correlate(
        convolve2d if flipped else corr2d, X, K, flipped=flipped, axes=axes, out=out,
        stacklevel=6, max_device_bytes=max_device_bytes,
        **dict(zip(engine.OPTIONS, options, strict=True)),
    )  # fmt: skip


def _is_tensor(obj: object) -> bool:
    return arrays.is_instance_of(obj, "torch", "Tensor")


def _record(*arguments: Any, **keywords: Any) -> Any:
    from .adapters import torch_functions as adapter

    return adapter.record(*arguments, **keywords)


def _is_dask(obj: object) -> bool:
    return arrays.is_instance_of(obj, "dask.array", "Array")


def _tensors(
    X: ArrayLike, K: ArrayLike, out: ArrayLike, max_device_bytes: int | None, **keywords: Any
) -> Any:
    if out is not None or max_device_bytes is not None:
        return engine.correlate(X, K, out=out, max_device_bytes=max_device_bytes, **keywords)
    # Imported here, because it imports torch, which is loaded only once a tensor is passed.
    from .adapters import torch_functions as adapter

    return adapter.corr2d(X, K, **keywords)
